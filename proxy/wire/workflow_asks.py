"""Questions to the user: a tool named `user_ask`, whose calls and answers have events of their own.

Source: the `user_ask` helpers of the ModelRelay SDKs. Its arguments are `question`, `options[{label, description?}]`
and `allow_freeform` (true if absent); its result is JSON of `answer` and `is_freeform`, or the answer itself.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct

from proxy.wire.workflow_parts import Asked, Call, Option, UserAnswer, UserAsk

USER_ASK = "user_ask"


class GivenOption(Struct, frozen=True, kw_only=True):
    label: str
    description: str | None = None


class Arguments(Struct, frozen=True, kw_only=True):
    question: str
    options: tuple[GivenOption, ...] | None = None
    allow_freeform: bool | None = None


class Answer(Struct, frozen=True, kw_only=True):
    answer: str
    is_freeform: bool = True


_arguments = msgspec.json.Decoder(Arguments)
_answer = msgspec.json.Decoder(Answer)


def asked(call: Call, step: int, request_id: str) -> UserAsk | None:
    """What a call asks the user; None if it is no such call, or one that clients could not show."""
    if call.name != USER_ASK:
        return None
    try:
        given = _arguments.decode(call.arguments)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if not given.question.strip():
        return None
    options = tuple(
        Option(label=each.label, description=each.description or UNSET) for each in given.options or () if each.label
    )
    return UserAsk(
        step=step,
        request_id=request_id,
        tool_call=call,
        question=given.question,
        options=options or UNSET,
        allow_freeform=given.allow_freeform is not False,
    )


def answered(call: Asked, output: str, step: int, request_id: str) -> UserAnswer | None:
    """What the user said; None if it is blank, which clients refuse."""
    try:
        given = _answer.decode(output)
    except (msgspec.MsgspecError, RecursionError):
        given = Answer(answer=output)
    if not given.answer.strip():
        return None
    return UserAnswer(
        step=step, request_id=request_id, tool_call=call, answer=given.answer, is_freeform=given.is_freeform
    )

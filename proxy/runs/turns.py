"""What a chat request continues: a paused run that it answers, a thread that lasts, or nothing.

A chat client has no word for "resume": it sends the conversation again, with the results of the tool calls it was
given at the end, or simply the user's next sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw

from proxy.adapter import Answer, RunInput
from proxy.errors import BadRequest, NotFound
from proxy.messages import Message, after_last_answer, embedded
from proxy.model import Pause
from proxy.runs.agents import Agent
from proxy.runs.manager import RunManager

CALL = "call_"
"""An interrupt shown as a tool call has the call id `call_<interrupt id>`."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run takes place, and what its agent is told."""

    thread_id: str | None
    """None: a hidden one, which has the name of the run."""
    temporary: bool
    fresh: bool = True
    messages: tuple[Message, ...] = ()
    pause: Pause | None = None
    answer: Answer | None = None
    joins: str | None = None
    """The run that was started by the same answer before: the request is a repetition."""


async def turn_of(
    manager: RunManager, agent: Agent, tenant: str, thread_id: str | None, messages: tuple[Message, ...]
) -> Turn:
    """Find out what a request continues. An answer that fits no open pause, or several, is an ordinary request."""
    if (turn := await _resumed(manager, agent, tenant, thread_id, messages)) is not None:
        return turn
    if thread_id is None:
        return Turn(thread_id=None, temporary=True, messages=messages)
    if agent.settings.history == "full":
        return Turn(thread_id=thread_id, temporary=False, messages=messages)
    news = after_last_answer(messages)
    if not news:
        raise BadRequest("With `history: last`, a message must follow the last assistant message.", param="messages")
    return Turn(thread_id=thread_id, temporary=False, fresh=False, messages=news)


async def _resumed(
    manager: RunManager, agent: Agent, tenant: str, thread_id: str | None, messages: tuple[Message, ...]
) -> Turn | None:
    """The turn that goes on from a pause, if the request answers one."""
    results = trailing_results(messages)
    if not results and (thread_id is None or messages[-1].role != "user"):
        return None
    pauses = await manager.pauses(tenant, thread_id, agent.name)
    found = answered(pauses, results, messages) if results else told(pauses, messages[-1])
    if found is None and results:
        found = answered(await manager.pauses(tenant, thread_id, agent.name, answered=True), results, messages)
    if found is None:
        return None
    pause, answer = found
    if pause.answered_by is not None and not await _asked_before(manager, tenant, pause.answered_by, messages):
        return None
    return Turn(
        thread_id=pause.thread_id,
        temporary=thread_id is None,
        fresh=False,
        messages=messages,
        pause=pause,
        answer=answer,
        joins=pause.answered_by,
    )


async def _asked_before(manager: RunManager, tenant: str, run_id: str, messages: tuple[Message, ...]) -> bool:
    """Whether that run had just this conversation as its input: ids of calls alone may collide."""
    try:
        run = await manager.get(tenant, run_id)
    except NotFound:
        return False
    known = msgspec.json.decode(run.input, type=RunInput | None)
    return known is not None and known.messages == messages


def trailing_results(messages: Sequence[Message]) -> dict[str, str]:
    """The tool results at the end of a conversation, by call id."""
    results: dict[str, str] = {}
    for message in reversed(messages):
        if message.role != "tool" or message.tool_call_id is None:
            break
        results[message.tool_call_id] = message.text
    return results


def answered(
    pauses: Iterable[Pause], results: dict[str, str], messages: Sequence[Message]
) -> tuple[Pause, Answer] | None:
    """The one pause whose open calls are just these. Ids like `call_0` collide, so the assistant message must agree."""
    asking = next((message for message in reversed(messages) if message.role == "assistant"), None)
    if asking is None or {call.id for call in asking.tool_calls or ()} != results.keys():
        return None
    names = {call.id: call.function.name for call in asking.tool_calls or () if call.function}
    fitting = [pause for pause in pauses if _fits(pause, results, names)]
    return (fitting[0], _answer(fitting[0], results)) if len(fitting) == 1 else None


def _fits(pause: Pause, results: dict[str, str], names: dict[str, str]) -> bool:
    asked = {call.call_id for call in pause.calls} | {CALL + interrupt.id for interrupt in pause.interrupts}
    return asked == results.keys() and all(names.get(call.call_id) == call.name for call in pause.calls)


def _answer(pause: Pause, results: dict[str, str]) -> Answer:
    return Answer(
        calls={call.call_id: results[call.call_id] for call in pause.calls},
        interrupts={interrupt.id: answer_value(results[CALL + interrupt.id]) for interrupt in pause.interrupts},
    )


def answer_value(text: str) -> Raw:
    """An answer to an interrupt as JSON: an object, a list or a truth value as itself, anything else as a string."""
    value = embedded(text, text)
    return Raw(msgspec.json.encode(value if isinstance(value, (dict, list, bool)) else text))


def told(pauses: Sequence[Pause], message: Message) -> tuple[Pause, Answer] | None:
    """The newest pause of a thread that a user's sentence can answer."""
    if not pauses or not pauses[0].interrupts:
        return None
    return pauses[0], Answer(text=message.text)

"""The body that goes to the upstream: the caller's own, with the parts that are ours replaced."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.adapter import RunInput
from proxy.errors import BadRequest
from proxy.events import NULL
from proxy.messages import Message

OURS = frozenset({"model", "messages", "stream", "stream_options", "n", "runwire"})
STEERING = frozenset({"base_url", "api_base", "api_key", "extra_headers"})
"""By these, some gateways let a caller say where to call, and with whose key: the config's business alone."""
NOTHING = frozenset({b"[]", b"null"})
WITH_USAGE = {"include_usage": True}


class Given(msgspec.Struct, frozen=True):
    """A run's own input, where it was not made of chat messages."""

    messages: tuple[Message, ...]


def body(run: RunInput, model: str, *, usage: bool = True) -> bytes:
    """The request as JSON, always streamed. `usage` asks for the token counts, which a few servers refuse."""
    fields: dict[str, Any] = {"model": model, "messages": messages(run), "stream": True}
    if usage:
        fields["stream_options"] = WITH_USAGE
    for name, value in run.params.items():
        if name not in OURS and name not in STEERING:
            fields[name] = value
    if "tools" in fields and bytes(run.params["tools"]).strip() in NOTHING:
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            fields.pop(name, None)
    return msgspec.json.encode(fields)


def messages(run: RunInput) -> tuple[Message, ...]:
    """The conversation, from wherever the run has it."""
    if run.messages or run.input == NULL:
        return run.messages
    try:
        return msgspec.json.decode(bytes(run.input), type=Given).messages
    except msgspec.MsgspecError as error:
        raise BadRequest("The input of this agent is an object with `messages`.", param="input") from error

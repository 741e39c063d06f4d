"""A conversation in neutral form, which is OpenAI's: the shape that every client sends and every framework can read.

Unknown fields are dropped on decoding and nulls count as absent. This module imports nothing of ours.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

_pack = msgspec.msgpack.Encoder().encode


def embedded(text: str, otherwise: Any) -> Any:
    """The JSON that somebody wrote into a text, or `otherwise` where it is none, or none that can be kept.

    What stands in a text was not checked with the body around it.
    """
    try:
        value = msgspec.json.decode(text)
        _pack(value)  # refuses integers beyond 64 bits, which no store of states takes
    except (msgspec.MsgspecError, RecursionError, OverflowError):
        return otherwise
    return value


class ImageURL(msgspec.Struct, frozen=True, omit_defaults=True):
    """`url` is http(s) or a data URL."""

    url: str
    detail: str | None = None


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One piece of a message's content, of whatever `type`; only the field of that type is set."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageURL | None = None
    input_audio: dict[str, Any] | None = None
    file: dict[str, Any] | None = None


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """The function a model wants called; `arguments` is JSON text as the model wrote it."""

    name: str
    arguments: str = ""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call that an assistant message asks for."""

    id: str
    type: str = "function"
    function: Function | None = None
    custom: dict[str, Any] | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message: `role` is system, developer, user, assistant or tool (or the older function)."""

    role: str
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    audio: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """All text of the message, joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content or () if part.text)


class ToolFunction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tool is called and takes; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: Raw | UnsetType = UNSET
    strict: bool | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool of the caller's that the model may ask for; types other than function go to upstreams as they are."""

    type: str
    function: ToolFunction | None = None


def after_last_answer(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What an agent that remembers its threads has not seen: all that follows the last assistant message."""
    for index in range(len(messages), 0, -1):
        if messages[index - 1].role == "assistant":
            return messages[index:]
    return messages

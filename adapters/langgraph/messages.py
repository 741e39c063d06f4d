"""Messages in OpenAI's form and in LangChain's.

LangChain's are built field by field from ours; nothing here revives an object that a client describes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from proxy.messages import Message, Part, ToolCall, embedded

ASSISTANT = frozenset({"assistant", "ai"})


def to_langchain(messages: Sequence[Message], prefix: str) -> list[BaseMessage]:
    """The conversation for a graph. Ids begin with `prefix`: an id shows later that a graph only echoes its input."""
    return [_converted(message, f"{prefix}-{number}") for number, message in enumerate(messages)]


def _converted(message: Message, id: str) -> BaseMessage:
    content: Any = _content(message.content)
    match message.role:
        case "user":
            return HumanMessage(content=content, name=message.name, id=id)
        case "assistant":
            return _assistant(message, content, id)
        case "tool":
            return ToolMessage(content=content, tool_call_id=message.tool_call_id or "", name=message.name, id=id)
        case "function":
            return FunctionMessage(content=content, name=message.name or "", id=id)
        case _:
            return SystemMessage(content=content, name=message.name, id=id)


def _assistant(message: Message, content: Any, id: str) -> AIMessage:
    good: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    for call in message.tool_calls or ():
        name, text = _asked(call)
        arguments = _arguments(text)
        if arguments is None:
            bad.append({"type": "invalid_tool_call", "id": call.id, "name": name, "args": text, "error": None})
        else:
            good.append({"type": "tool_call", "id": call.id, "name": name, "args": arguments})
    extra = {
        "reasoning_content": message.reasoning_content,
        "refusal": message.refusal,
        "audio": message.audio,
    }
    return AIMessage(
        content=content,
        name=message.name,
        id=id,
        tool_calls=good,
        invalid_tool_calls=bad,
        additional_kwargs={key: value for key, value in extra.items() if value is not None},
    )


def _asked(call: ToolCall) -> tuple[str, str]:
    """Name and arguments; what a custom tool takes becomes its argument `input`."""
    if call.function is not None:
        return call.function.name, call.function.arguments
    custom = call.custom or {}
    return str(custom.get("name", "")), msgspec.json.encode({"input": custom.get("input")}).decode()


def _arguments(text: str) -> dict[str, Any] | None:
    arguments = embedded(text or "{}", None)
    return arguments if isinstance(arguments, dict) else None


def _content(content: str | tuple[Part, ...] | None) -> str | list[dict[str, Any]]:
    """Text, or blocks in OpenAI's form, which LangChain's models take as they are."""
    if content is None or isinstance(content, str):
        return content or ""
    return [msgspec.to_builtins(part) for part in content]


def utf8(text: str) -> str:
    """The text as UTF-8 can hold it: halves of a surrogate pair that a model gave alone become U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def text_of(content: Any) -> str:
    """All text of a LangChain message's content."""
    if isinstance(content, str):
        return content
    return "".join(text for text, _ in pieces(content))


def pieces(content: Sequence[str | Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(text, reasoning) of each block of a content list, whichever provider's shape it has; one of both is empty."""
    for block in content:
        if isinstance(block, str):
            yield block, ""
            continue
        kind = block.get("type")
        if kind in ("text", "output_text"):
            yield block.get("text") or "", ""
        elif kind == "refusal":
            yield block.get("refusal") or "", ""
        elif kind in ("reasoning", "thinking"):
            yield "", _reasoning(block)


def _reasoning(block: Mapping[str, Any]) -> str:
    for key in ("reasoning", "thinking", "text"):
        if isinstance(found := block.get(key), str):
            return found
    summary = block.get("summary") or ()
    return "".join(part.get("text") or "" for part in summary if isinstance(part, Mapping))


def unanswered(messages: Any) -> list[str]:
    """The ids of the calls at the end of a conversation that have no result."""
    calls: list[str] = []
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, ToolMessage):
            calls = [call for call in calls if call != message.tool_call_id]
        else:
            asked = message.tool_calls if isinstance(message, AIMessage) else ()
            calls = [call["id"] for call in asked if call["id"]]
    return calls


def loose_answer(item: Any) -> AIMessage | None:
    """An assistant's message that a node wrote as a dict or a (role, text) pair; None for anything else."""
    if isinstance(item, tuple) and len(item) == 2:
        role, content, id = item[0], item[1], None
    elif isinstance(item, dict):
        role, content, id = item.get("role") or item.get("type"), item.get("content"), item.get("id")
    else:
        return None
    if role not in ASSISTANT or not isinstance(content, str | list):
        return None
    return AIMessage(content=content, id=id)

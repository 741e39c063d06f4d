"""Messages in LangChain's JSON form, made from neutral ones and read back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from proxy.messages import Function, Message, ToolCall

json = msgspec.json.Encoder()
decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
Content = str | list[dict[str, Any]]


class Said(Struct, kw_only=True, frozen=True):
    """What all messages have; also the message of a person, of the system or of a developer."""

    content: Content
    additional_kwargs: dict[str, Any] = {}
    response_metadata: dict[str, Any] = {}
    type: str = "human"
    name: str | None = None
    id: str | None = None


class Call(Struct, kw_only=True, frozen=True):
    """A call whose arguments are a JSON object."""

    name: str
    args: Raw
    id: str
    type: str = "tool_call"


class InvalidCall(Struct, kw_only=True, frozen=True):
    """A call whose arguments are none; `args` is what the model wrote."""

    name: str
    args: str
    id: str
    error: str | None = None
    type: str = "invalid_tool_call"


class CallChunk(Struct, kw_only=True, frozen=True):
    """A piece of a call; only the first has name and id, since readers join what stands in them."""

    name: str | None
    args: str
    id: str | None
    index: int
    type: str = "tool_call_chunk"


class Tokens(Struct, kw_only=True, frozen=True):
    """What one model call used."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_token_details: dict[str, int] = {}
    output_token_details: dict[str, int] = {}


class AI(Said, kw_only=True, frozen=True):
    """A whole message of a model, or with `AIMessageChunk` a piece of one."""

    type: str = "ai"
    tool_calls: tuple[Call, ...] = ()
    invalid_tool_calls: tuple[InvalidCall, ...] = ()
    usage_metadata: Tokens | None = None


class Chunk(AI, kw_only=True, frozen=True):
    """A piece of a model's message: `content` is what is new."""

    type: str = "AIMessageChunk"
    tool_call_chunks: tuple[CallChunk, ...] = ()
    chunk_position: str | None = None


class Output(Said, kw_only=True, frozen=True):
    """What a tool gave back."""

    type: str = "tool"
    tool_call_id: str
    artifact: None = None
    status: str = "success"


class Identified(Struct, frozen=True):
    """As much of any message as tells it apart."""

    id: str | None = None


decode_identified = msgspec.json.Decoder(Identified).decode
TYPES = {"user": "human", "system": "system", "developer": "system", "function": "function"}
ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "generic": "user"}
"""LangChain's words for who speaks, and OpenAI's."""


def id_of(message: Raw) -> str | None:
    """The id of a message that is JSON."""
    return decode_identified(message).id


def calls_of(calls: Iterable[tuple[str, str, str]]) -> tuple[tuple[Call, ...], tuple[InvalidCall, ...]]:
    """(id, name, arguments as the model wrote them) of each call -> those that can be read, and the others."""
    good: list[Call] = []
    bad: list[InvalidCall] = []
    for id, name, arguments in calls:
        text = arguments or "{}"
        try:
            decode_object(text)
        except (msgspec.MsgspecError, RecursionError):
            bad.append(InvalidCall(name=name, args=text, id=id))
        else:
            good.append(Call(name=name, args=Raw(text.encode()), id=id))
    return tuple(good), tuple(bad)


def langchain(message: Message, id: str) -> Said:
    """A neutral message in LangChain's form."""
    content: Content = message.content if isinstance(message.content, str) else _blocks(message)
    if message.role == "tool":
        return Output(content=content, name=message.name, id=id, tool_call_id=message.tool_call_id or "")
    if message.role != "assistant":
        return Said(content=content, name=message.name, id=id, type=TYPES.get(message.role, "human"))
    asked = [
        (call.id, call.function.name, call.function.arguments) for call in message.tool_calls or () if call.function
    ]
    calls, invalid = calls_of(asked)
    thought = message.reasoning_content
    return AI(
        content=content,
        additional_kwargs={"reasoning_content": thought} if thought else {},
        name=message.name,
        id=id,
        tool_calls=calls,
        invalid_tool_calls=invalid,
    )


def _blocks(message: Message) -> Content:
    return [msgspec.to_builtins(part) for part in message.content] if message.content else ""


def messages_of(input: Raw) -> tuple[Message, ...]:
    """The conversation in a run's input: a text, a list of messages, or an object with them under `messages`.

    A message is LangChain's or OpenAI's object, a (role, text) pair or a text. An input without any gives none.
    Raises `msgspec.ValidationError`, naming the message that cannot be read.
    """
    value = msgspec.json.decode(input)
    if isinstance(value, dict):
        value = value.get("messages")
    if value is None:
        return ()
    items = value if isinstance(value, list) and not is_pair(value) else [value]
    return tuple(neutral(item, f"messages[{at}]") for at, item in enumerate(items))


def is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and value[0] in KNOWN_ROLES and isinstance(value[1], str)


KNOWN_ROLES = ("user", "assistant", "system", "developer", "tool", "function", "human", "ai")


def neutral(item: Any, place: str) -> Message:
    """One message in any of these forms; `place` names it in the `msgspec.ValidationError` where it is none."""
    if isinstance(item, str):
        return Message(role="user", content=item)
    if is_pair(item):
        return Message(role=ROLES.get(item[0], item[0]), content=item[1])
    if not isinstance(item, dict):
        raise msgspec.ValidationError(f"{place}: a message is an object, a text, or a pair of role and text")
    kind = item.get("role") or item.get("type")
    if not isinstance(kind, str):
        raise msgspec.ValidationError(f"{place}: neither `role` nor `type` says who speaks")
    calls, extra = _calls(item), item.get("additional_kwargs")
    plain = {
        **({"reasoning_content": extra.get("reasoning_content")} if isinstance(extra, dict) else {}),
        **item,
        "role": ROLES.get(kind, kind),
        "tool_calls": ([_openai_call(call) for call in calls] or None) if isinstance(calls, list) else calls,
    }
    try:
        return msgspec.convert(plain, Message)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{place}: {error}") from None


def _calls(item: dict[str, Any]) -> Any:
    """All calls of a message; those whose arguments are no JSON stand apart in LangChain's form."""
    calls, invalid = item.get("tool_calls"), item.get("invalid_tool_calls")
    if not isinstance(invalid, list) or not (calls is None or isinstance(calls, list)):
        return calls
    return [*(calls or ()), *invalid]


def _openai_call(call: Any) -> Any:
    """A call in LangChain's form as OpenAI's; any other as it is."""
    if not isinstance(call, dict) or "args" not in call:
        return call
    args = call["args"]
    arguments = args if isinstance(args, str) else json.encode(args).decode()
    return ToolCall(id=str(call.get("id")), function=Function(name=str(call.get("name")), arguments=arguments))

"""A conversation as the state of a thread: `{"messages": [...]}` in LangChain's form, as a graph of messages keeps it.

What is written to it follows the rules of LangGraph's `add_messages`: a message is appended, or replaces the one of
its id, or removes it. Pure; all raise `msgspec.ValidationError` for what cannot be read, naming the place.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from proxy.events import Cancelled, Event, Failed, ToolCallDelta, ToolResult
from proxy.messages import Message
from proxy.wire.frames import FrameMaker
from proxy.wire.langchain import id_of, is_pair, langchain, neutral

json = msgspec.json.Encoder()
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
REMOVE = "remove"
REMOVE_ALL = "__remove_all__"
NEEDED = frozenset({"user", "system", "developer", "tool"})
"""Who cannot say nothing."""
KEPT = {"assistant": ("usage_metadata",), "tool": ("artifact", "status")}
"""Fields of LangChain's form that the neutral one has no word for."""


class Values(Struct, frozen=True):
    """The state; what else an agent may have in it is of no use here."""

    messages: tuple[Raw, ...] = ()


decode_values = msgspec.json.Decoder(Values).decode


def listed(values: Raw) -> list[Raw]:
    """The messages of a state."""
    return [Raw(bytes(message)) for message in decode_values(values).messages]


class Conversation:
    """Reads and writes such states; see `proxy.runs.transcripts.Teller`."""

    def apply(self, values: Raw, given: Raw, seed: str) -> Raw:
        known = _Messages(listed(values))
        for number, item in enumerate(_items(given)):
            place = f"messages[{number}]"
            id = _id(item, place)
            if _kind(item) == REMOVE:
                known.remove(id, place)
            else:
                id = id or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}/{number}"))
                known.put(id, _told(item, id, place))
        return _state(known.left())

    def follow(self, values: Raw, messages: Sequence[Message], seed: str) -> Raw:
        known = listed(values)
        told: list[Raw] = []
        for number, message in enumerate(messages):
            same = len(told) == number < len(known) and _same(known[number], message)
            said = known[number] if same else Raw(json.encode(langchain(message, f"{seed}-{number}")))
            if not same:
                known = known[:number]  # what follows a message that is not the same is another conversation
            told.append(said)
        return _state(told)

    def messages(self, values: Raw, *, waiting: bool = False) -> tuple[Message, ...]:
        said = [
            neutral(msgspec.json.decode(message), f"messages[{number}]")
            for number, message in enumerate(decode_values(values).messages)
        ]
        return _answered(_unthought(said), waiting)

    def fold(self, before: Raw) -> Folded:
        return Folded(listed(before))


class Folded:
    """What a run makes of the state that it starts from, by the same rules as the frames that its readers see."""

    def __init__(self, before: Sequence[Raw]) -> None:
        self._before = len(before)
        self._maker = FrameMaker(frozenset(), before=before)
        self._open: set[str] = set()
        """Calls without a result."""
        self._broken = False

    def feed(self, event: Event) -> None:
        self._maker.frames(event)
        match event:
            case ToolCallDelta():
                self._open.add(event.call_id)
            case ToolResult():
                self._open.discard(event.call_id)
            case Failed() | Cancelled():
                self._broken = True

    def values(self) -> Raw:
        values = Raw(self._maker.values())
        if not self._broken or not self._open:
            return values
        messages = listed(values)
        own = (_without(message, self._open) for message in messages[self._before :])
        return _state([*messages[: self._before], *(message for message in own if message is not None)])


class _Messages:
    """A list of messages under change, by the rules of `add_messages`."""

    def __init__(self, messages: Iterable[Raw]) -> None:
        self._messages = list(messages)
        self._places = {id_of(message): place for place, message in enumerate(self._messages)}
        self._removed: set[int] = set()

    def put(self, id: str, message: Raw) -> None:
        place = self._places.setdefault(id, len(self._messages))
        self._removed.discard(place)
        self._messages[place : place + 1] = [message]

    def remove(self, id: str | None, place: str) -> None:
        if id == REMOVE_ALL:
            self._messages, self._places, self._removed = [], {}, set()
        elif id in self._places:
            self._removed.add(self._places[id])
        else:
            raise msgspec.ValidationError(f"{place}: the thread has no message `{str(id)[:64]}` to remove")

    def left(self) -> list[Raw]:
        return [message for place, message in enumerate(self._messages) if place not in self._removed]


def _state(messages: Iterable[Raw]) -> Raw:
    return Raw(b'{"messages":[' + b",".join([bytes(message) for message in messages]) + b"]}")


def _items(given: Raw) -> list[Any]:
    """The messages in an input or an update, each in whatever form."""
    value = msgspec.json.decode(given)
    if isinstance(value, dict):
        if others := sorted(value.keys() - {"messages"}):
            names = ", ".join(f"`{name[:64]}`" for name in others[:10])
            raise msgspec.ValidationError(f"the state of this agent has `messages` and nothing else, not {names}")
        value = value.get("messages")
    if value is None:
        return []
    return value if isinstance(value, list) and not is_pair(value) else [value]


def _kind(item: Any) -> Any:
    return (item.get("role") or item.get("type")) if isinstance(item, dict) else None


def _id(item: Any, place: str) -> str | None:
    id = item.get("id") if isinstance(item, dict) else None
    if id is not None and not isinstance(id, str):
        raise msgspec.ValidationError(f"{place}: an id is a text")
    return id


def _told(item: Any, id: str, place: str) -> Raw:
    """A message in LangChain's form, with what only that form has."""
    message = neutral(item, place)
    if message.role not in ROLES:
        raise msgspec.ValidationError(f"{place}: `{message.role[:40]}` is no role")
    if message.role == "tool" and not message.tool_call_id:
        raise msgspec.ValidationError(f"{place}: a tool's message names its call in `tool_call_id`")
    if message.role in NEEDED and message.content is None:
        raise msgspec.ValidationError(f"{place}: the message has no `content`")
    told = json.encode(langchain(message, id))
    if not isinstance(item, dict):
        return Raw(told)
    plain: dict[str, Any] = msgspec.json.decode(told)
    if isinstance(item.get("content"), list):
        plain["content"] = item["content"]
    for key in ("additional_kwargs", "response_metadata"):
        if isinstance(item.get(key), dict):
            plain[key] |= item[key]
    for key in KEPT.get(message.role, ()):
        if item.get(key) is not None:
            plain[key] = item[key]
    return Raw(json.encode(plain))


def _same(known: Raw, message: Message) -> bool:
    """Whether a client shows back a message that the state has; it need not show all that is known of it."""
    one = neutral(msgspec.json.decode(known), "message")
    return _essence(one) == _essence(message)


def _essence(message: Message) -> tuple[Any, ...]:
    role = "system" if message.role == "developer" else message.role
    return role, message.content or "", message.tool_call_id, [call.id for call in message.tool_calls or ()]


def _unthought(messages: Sequence[Message]) -> list[Message]:
    """The conversation with thoughts only behind the last word of the user's: models refuse those of earlier turns, and
    some need those between a call and its result."""
    last = max((at for at, message in enumerate(messages) if message.role == "user"), default=-1)
    return [
        msgspec.structs.replace(message, reasoning_content=None) if at < last and message.reasoning_content else message
        for at, message in enumerate(messages)
    ]


def _answered(messages: Sequence[Message], waiting: bool) -> tuple[Message, ...]:
    """The conversation without calls that nobody answered: no model takes such a history.

    `waiting`: those of the last message of the agent's are kept, for they are being answered.
    """
    kept: list[Message] = []
    results: set[str | None] = set()
    for message in reversed(messages):
        if message.role != "assistant":
            results = results | {message.tool_call_id} if message.role == "tool" else results
            kept.append(message)
            continue
        calls = tuple(call for call in message.tool_calls or () if waiting or call.id in results)
        results, waiting = set(), False
        if len(calls) == len(message.tool_calls or ()):
            kept.append(message)
        elif calls or message.content:
            kept.append(msgspec.structs.replace(message, tool_calls=calls or None))
    return tuple(reversed(kept))


def _without(message: Raw, calls: set[str]) -> Raw | None:
    """A message without these calls; None if nothing is left of it."""
    plain: dict[str, Any] = msgspec.json.decode(message)
    dropped = False
    for key in ("tool_calls", "invalid_tool_calls"):
        known = plain.get(key) or []
        plain[key] = [call for call in known if call["id"] not in calls]
        dropped = dropped or len(plain[key]) < len(known)
    if not dropped:
        return message
    spoken = plain["content"] or plain["tool_calls"] or plain["invalid_tool_calls"]
    return Raw(json.encode(plain)) if spoken else None

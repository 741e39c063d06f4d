"""Tool calls as they stream: pieces get the id and the name that LangChain leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from langchain_core.messages import AIMessage

from proxy.events import PendingCall, ToolCallDelta

Path = tuple[str, ...]


class Call:
    """One call under way. Its pieces wait until its name is known; `place` is the index the model gave it."""

    __slots__ = ("held", "id", "index", "name", "place", "said")

    def __init__(self, id: str, index: int, place: Any = None) -> None:
        self.id = id
        self.index = index
        self.place = place
        self.name = ""
        self.held = ""
        self.said: list[str] = []


class Calls:
    """All tool calls of a run. A call is the client's if its name is among the tools that the client offered."""

    def __init__(self, client_tools: frozenset[str]) -> None:
        self._client_tools = client_tools
        self._by_message: dict[str, list[Call]] = {}
        self._open: dict[str, Call] = {}

    def streamed(self, message: str, chunks: Iterable[Mapping[str, Any]], path: Path) -> Iterator[ToolCallDelta]:
        """The pieces of one chunk of the message with this id."""
        for chunk in chunks:
            call = self._call_of(message, chunk)
            call.name = call.name or chunk.get("name") or ""
            call.held += chunk.get("args") or ""
            if call.name:
                yield self._delta(call, message, path)

    def whole(self, message: AIMessage, path: Path) -> Iterator[ToolCallDelta]:
        """The calls of a message that was not streamed, except those that are known to be waiting."""
        for index, asked in enumerate(message.tool_calls):
            id = asked["id"] or f"call_{message.id}_{index}"
            if id in self._open:
                continue
            call = Call(id, index)
            call.name = asked["name"]
            call.held = msgspec.json.encode(asked["args"], enc_hook=str).decode()
            yield self._delta(call, message.id or "", path)

    def answered(self, call_id: str) -> None:
        """The graph ran the tool itself, or was given its result."""
        self._open.pop(call_id, None)

    def waiting(self) -> tuple[PendingCall, ...]:
        """Calls of the client's that nobody has answered."""
        return tuple(
            PendingCall(call_id=call.id, name=call.name, arguments="".join(call.said) or "{}")
            for call in self._open.values()
            if call.name in self._client_tools
        )

    def _call_of(self, message: str, chunk: Mapping[str, Any]) -> Call:
        calls = self._by_message.setdefault(message, [])
        id, place = chunk.get("id"), chunk.get("index")
        call = _match(calls, id, place)
        if call is None:
            call = Call(id or f"call_{message}_{len(calls)}", len(calls), place)
            calls.append(call)
        return call

    def _delta(self, call: Call, message: str, path: Path) -> ToolCallDelta:
        piece, call.held = call.held, ""
        call.said.append(piece)
        self._open[call.id] = call
        return ToolCallDelta(
            call_id=call.id,
            index=call.index,
            name=call.name,
            arguments=piece,
            client=call.name in self._client_tools,
            part=message,
            path=path,
        )


def _match(calls: list[Call], id: str | None, place: Any) -> Call | None:
    """The call that a piece goes on with. Some models give parallel calls one index: a new id is then a new call."""
    for call in reversed(calls):
        if place is None and not id:
            return call
        if place is not None and call.place == place:
            return call if not id or id == call.id else None
        if place is None and call.id == id:
            return call
    return None

"""Tool calls as they stream: pieces get the id and the name that LangChain leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langchain_core.messages import AIMessage

from adapters.langgraph.messages import utf8
from proxy.events import PendingCall, ToolCallDelta

Path = tuple[str, ...]


class Call:
    """One call under way. Its pieces wait until its name is known; `place` is the index the model gave it."""

    __slots__ = ("held", "id", "index", "name", "part", "path", "place", "said")

    def __init__(self, id: str, index: int, *, part: str, path: Path, place: Any = None) -> None:
        self.id = id
        self.index = index
        self.part = part
        self.path = path
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
            call = self._call_of(message, chunk, path)
            call.name = call.name or chunk.get("name") or ""
            call.held += chunk.get("args") or ""
            if call.name:
                self._open[call.id] = call
                yield self._delta(call)

    def whole(self, message: AIMessage, path: Path) -> Iterator[ToolCallDelta]:
        """The calls of a message that was not streamed, except those that are known to be waiting."""
        for index, asked in enumerate(message.tool_calls):
            id = asked["id"] or f"call_{message.id}_{index}"
            if id in self._open:
                continue
            call = Call(id, index, part=message.id or "", path=path)
            call.name = asked["name"]
            call.held = json.dumps(asked["args"], default=str, ensure_ascii=False)
            self._open[id] = call
            yield self._delta(call)

    def answered(self, call_id: str) -> Iterator[ToolCallDelta]:
        """The graph ran the tool itself, or was given its result."""
        call = self._open.pop(call_id, None)
        if call is not None:
            yield from self._filled(call)

    def close(self) -> Iterator[ToolCallDelta]:
        """What makes the calls that wait complete."""
        for call in list(self._open.values()):
            yield from self._filled(call)

    def waiting(self) -> tuple[PendingCall, ...]:
        """Calls of the client's that nobody has answered."""
        return tuple(
            PendingCall(call_id=call.id, name=call.name, arguments=utf8("".join(call.said)))
            for call in self._open.values()
            if call.name in self._client_tools
        )

    def _call_of(self, message: str, chunk: Mapping[str, Any], path: Path) -> Call:
        calls = self._by_message.setdefault(message, [])
        id, place = chunk.get("id"), chunk.get("index")
        call = _match(calls, id, place)
        if call is None:
            call = Call(id or f"call_{message}_{len(calls)}", len(calls), part=message, path=path, place=place)
            calls.append(call)
        return call

    def _filled(self, call: Call) -> Iterator[ToolCallDelta]:
        """Some models send nothing where a tool takes nothing, which is no JSON."""
        if not any(call.said):
            call.held = "{}"
            yield self._delta(call)

    def _delta(self, call: Call) -> ToolCallDelta:
        piece, call.held = call.held, ""
        call.said.append(piece)
        return ToolCallDelta(
            call_id=call.id,
            index=call.index,
            name=call.name,
            arguments=utf8(piece),
            client=call.name in self._client_tools,
            part=call.part,
            path=call.path,
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

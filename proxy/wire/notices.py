"""What the event protocol says besides messages: how runs and tools fare, and what is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Raw, Struct

from proxy.wire.blocks import Content, Piece

Path = tuple[str, ...]


class Notice(NamedTuple):
    """One event, not yet numbered. `data` is JSON, or a struct that becomes it."""

    method: str
    ns: Path
    data: Raw | Struct


class Lifecycle(Struct, frozen=True, omit_defaults=True):
    """How a run, or a graph within it, fares."""

    event: str
    graph_name: str
    error: str | None = None
    namespace: Path = ()
    trigger_call_id: str | None = None


class Request(Struct, frozen=True):
    """A question that a run waits with; the clients in JavaScript and in Python call it by different names."""

    interrupt_id: str
    payload: Raw
    value: Raw


class ToolStarted(Struct, frozen=True, tag_field="event", tag="tool-started"):
    tool_call_id: str
    tool_name: str
    input: Raw


class ToolFinished(Struct, frozen=True, tag_field="event", tag="tool-finished"):
    """`output` is the tool's message."""

    tool_call_id: str
    output: Raw


class ToolError(Struct, frozen=True, tag_field="event", tag="tool-error"):
    tool_call_id: str
    message: str


class Tools:
    """The calls that the agent runs itself."""

    def __init__(self) -> None:
        self._left: set[str] = set()
        self._running: set[str] = set()

    def leave(self, call_id: str) -> None:
        """The caller is to run this one."""
        self._left.add(call_id)

    def started(self, call: Content) -> Iterator[Struct]:
        if isinstance(call.id, str) and isinstance(call.args, Raw) and call.id not in self._left:
            self._running.add(call.id)
            yield ToolStarted(call.id, call.name if isinstance(call.name, str) else "", call.args)

    def ended(self, piece: Piece, message: Raw) -> Iterator[Struct]:
        call_id = piece.tool_call_id or ""
        if call_id not in self._running:
            return
        self._running.discard(call_id)
        if piece.status == "error":
            yield ToolError(call_id, piece.content if isinstance(piece.content, str) else "The tool failed.")
        else:
            yield ToolFinished(call_id, message)

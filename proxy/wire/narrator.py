"""A run in the words of the event protocol: entries of its log in, events out, in order and from the first. Pure.

Source: `@langchain/protocol`, and what the official server sends. Frames that the log has are told of as they are;
those of other modes are made (`proxy.wire.frames`). Which events there are depends on the log alone, never on who
listens, since they are numbered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from proxy.events import (
    Cancelled,
    Completed,
    Entry,
    Event,
    Failed,
    Final,
    Frame,
    Interrupt,
    Paused,
    RunStarted,
    ToolCallDelta,
)
from proxy.model import Run
from proxy.transcript import LOST, goes_on
from proxy.wire.blocks import Content, Piece, Said
from proxy.wire.frames import FrameMaker, mode_of
from proxy.wire.notices import Lifecycle, Notice, Path, Request, Tools
from proxy.wire.speeches import Speeches

MODES = frozenset({"values", "updates", "messages-tuple", "custom", "tasks"})
"""What a graph's run must have frames of to be told of in full."""
MADE = frozenset({"values", "updates", "messages-tuple", "custom"})
"""What is made for an agent without frames."""
MADE_OF_GRAPHS = frozenset({"messages-tuple", "custom"})
"""What is made for a graph whose run has no frames of it: its state cannot be told from its words."""
INTERRUPT = b'"__interrupt__"'
CANCELLED = "The run was cancelled."


class Task(Struct, frozen=True):
    """As much of a task's frame as tells how it ended."""

    id: str = ""
    error: Any = None
    interrupts: tuple[Any, ...] = ()
    result: Any = msgspec.UNSET


class Asking(Struct, frozen=True, rename={"asked": "__interrupt__"}):
    """The questions in an update."""

    asked: tuple[Interrupt, ...] = ()


decode_message = msgspec.json.Decoder(tuple[Raw, Raw]).decode
decode_piece = msgspec.json.Decoder(Piece).decode
decode_task = msgspec.json.Decoder(Task).decode
decode_asking = msgspec.json.Decoder(Asking).decode
decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
encode = msgspec.json.Encoder().encode


class Narrator:
    """Tells of one run. `native` are the modes that its log has frames of; `made` makes the frames of others.

    `shown` are the made modes that may be told of; further ones only say where messages end.
    """

    def __init__(self, run: Run, *, native: frozenset[str], made: FrameMaker, shown: frozenset[str]) -> None:
        self._graph = run.agent
        self._native = native
        self._made = made
        self._shown = shown
        self._begun = False
        self._speeches = Speeches()
        self._within: dict[Path, None] = {}
        """Graphs within the run's that have not ended, in the order in which they began."""
        self._asked: dict[str, tuple[Path, Interrupt]] = {}
        """The questions so far, with the places that ask them. They can be answered once the run has ended."""
        self._tools = Tools()

    def tell(self, entry: Entry) -> Iterator[Notice]:
        event = entry.event
        if type(event) is Frame:
            if mode_of(event.mode) in self._native:
                yield from self._frame(event, made=False)
            return
        if isinstance(event, Cancelled) and entry.seq == 1:  # it never began, and nobody has heard of it
            return
        if isinstance(event, RunStarted) and not self._begun:
            self._begun = True
            yield Notice("lifecycle", (), Lifecycle("running", self._graph))
        if goes_on(event):
            yield from self._break_off(LOST.message)
        if isinstance(event, ToolCallDelta) and event.client:
            self._tools.leave(event.call_id)
        for frame in self._made.frames(event):
            yield from self._frame(frame, made=True)
        if isinstance(event, Final):
            yield from self._end(event)

    def _frame(self, frame: Frame, *, made: bool) -> Iterator[Notice]:
        yield from self._descend(frame.ns)
        shown = not made or mode_of(frame.mode) in self._shown
        match frame.mode:
            case "messages":
                yield from self._message(frame)
                return
            case "values":
                yield from self._quiet(frame.ns)
                data = _without_questions(frame.data)
            case "updates":
                if made:
                    yield from self._quiet(frame.ns)
                elif INTERRUPT in bytes(frame.data):
                    self._ask(_asked(frame.data), frame.ns)
                data = frame.data
            case "tasks":
                if shown:
                    yield Notice("tasks", frame.ns, frame.data)
                yield from self._task(frame)
                return
            case _:
                data = frame.data
        if shown:
            yield Notice(frame.mode, frame.ns, data)

    def _message(self, frame: Frame) -> Iterator[Notice]:
        try:
            raw, _ = decode_message(frame.data)
            piece = decode_piece(raw)
        except (msgspec.ValidationError, RecursionError):  # a graph may put anything where a message is expected
            return
        if piece.type == "tool":
            yield from (Notice("tools", frame.ns, end) for end in self._tools.ended(piece, Raw(bytes(raw))))
        else:
            yield from self._spoken(frame.ns, self._speeches.add(frame.ns, piece))

    def _quiet(self, ns: Path) -> Iterator[Notice]:
        """No message is under way any more in this place."""
        yield from self._spoken(ns, self._speeches.finish(ns))

    def _spoken(self, ns: Path, said: Iterable[Said | Content]) -> Iterator[Notice]:
        for one in said:
            if isinstance(one, Said):
                yield Notice("messages", ns, one)
            else:
                yield from (Notice("tools", ns, start) for start in self._tools.started(one))

    def _descend(self, ns: Path) -> Iterator[Notice]:
        """The graphs on the way to this place have begun, if nothing was heard of them before."""
        for depth in range(1, len(ns) + 1):
            path = ns[:depth]
            if path not in self._within:
                self._within[path] = None
                name, _, task = path[-1].partition(":")
                begun = Lifecycle("started", name, namespace=path, trigger_call_id=task or None)
                yield Notice("lifecycle", path, begun)

    def _task(self, frame: Frame) -> Iterator[Notice]:
        """Where a task ends that was a graph, so does that graph."""
        try:
            task = decode_task(frame.data)
        except (msgspec.ValidationError, RecursionError):
            return
        if task.result is msgspec.UNSET and task.error is None:
            return
        for path in [path for path in self._within if path[:-1] == frame.ns and path[-1].endswith(f":{task.id}")]:
            event = "interrupted" if task.interrupts else "completed" if task.error is None else "failed"
            yield from self._leave(path, event, None if task.error is None else str(task.error))

    def _leave(self, path: Path, event: str, error: str | None) -> Iterator[Notice]:
        """A graph ends, and before it those within it."""
        for inner in [one for one in reversed(self._within) if one[: len(path)] == path]:
            del self._within[inner]
            yield from self._quiet(inner)
            yield Notice("lifecycle", inner, Lifecycle(event, inner[-1].partition(":")[0], error))

    def _ask(self, asked: Iterable[Interrupt], ns: Path) -> None:
        """A question from within is asked by the graph around it as well, later."""
        for question in asked:
            self._asked.setdefault(question.id, (ns, question))

    def _break_off(self, why: str) -> Iterator[Notice]:
        """No message that is under way will be whole."""
        for ns, broken in self._speeches.break_off(why):
            yield Notice("messages", ns, broken)

    def _end(self, final: Final) -> Iterator[Notice]:
        error = final.message if isinstance(final, Failed) else None
        event = _event_of(final)
        if isinstance(final, Failed | Cancelled):
            yield from self._break_off(error or CANCELLED)
        for ns in self._speeches.places:
            yield from self._quiet(ns)
        if isinstance(final, Paused):
            if "updates" not in self._native:
                self._ask(final.interrupts, ())
            for ns, asked in self._asked.values():
                yield Notice("input.requested", ns, Request(asked.id, asked.value, asked.value))
        while self._within:
            yield from self._leave(next(reversed(self._within)), event, error)
        yield Notice("lifecycle", (), Lifecycle(event, self._graph, error))


def _event_of(final: Event) -> str:
    match final:
        case Completed():
            return "completed"
        case Failed():
            return "failed"
        case _:
            return "interrupted"


def _asked(update: Raw) -> tuple[Interrupt, ...]:
    try:
        return decode_asking(update).asked
    except (msgspec.ValidationError, RecursionError):
        return ()


def _without_questions(values: Raw) -> Raw:
    """The state by itself: what is asked is told of apart."""
    if INTERRUPT not in bytes(values):
        return values
    try:
        known = decode_object(values)
    except (msgspec.ValidationError, RecursionError):
        return values
    known.pop("__interrupt__", None)
    return Raw(encode(known))

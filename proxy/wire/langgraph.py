"""LangGraph Server's streams: named events, and DeerFlow's dialect of them.

Source: what the official server sends and what its clients read. Native frames pass through byte for byte; frames
that a run does not have are made from its neutral events (`proxy.wire.frames`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from proxy.events import FINAL, NULL, Entry, Event, Failed, Frame, RunStarted
from proxy.transcript import class_of
from proxy.wire.base import SSE, flat
from proxy.wire.frames import FrameMaker, mode_of

json = msgspec.json.Encoder()


class Metadata(Struct, frozen=True, omit_defaults=True):
    """Names the run that a stream is of; its first event, and told again where the run lost its process and goes on:
    what stands after the number `resumes_after`, and before this, was not finished then."""

    run_id: str
    attempt: int
    resumes_after: int | None = None


class RunAndThread(Struct, frozen=True, omit_defaults=True):
    """DeerFlow's form of the same."""

    run_id: str
    thread_id: str
    attempt: int = 1
    resumes_after: int | None = None


class Problem(Struct, frozen=True):
    """Why a run failed: the class of the exception, and its text."""

    error: str
    message: str


class NamedProblem(Struct, frozen=True):
    """The same with the field that DeerFlow's clients read."""

    error: str
    message: str
    name: str


class Gap(Struct, frozen=True, kw_only=True):
    """Entries that a reader asked for are no longer kept; ids as in `Last-Event-ID`."""

    code: str = "stream_replay_gap"
    run_id: str
    requested_event_id: str
    earliest_available_event_id: str | None
    latest_available_event_id: str | None
    recovery: str = "reload_durable_state"


class Dialect(Struct, frozen=True, kw_only=True):
    """How the two dialects differ on the wire."""

    newline: bytes
    metadata: Callable[[RunStarted], Struct]
    problem: Callable[[Failed], Struct]
    says_end: bool
    """The last event is `end`; a gap ends the stream without it."""

    @property
    def heartbeat(self) -> bytes:
        return b": heartbeat" + self.newline * 2

    def event(self, name: str, data: bytes, id: str = "") -> bytes:
        """One event; `data` is JSON."""
        nl = self.newline
        tail = b"id: " + id.encode() + nl + nl if id else nl
        return b"".join((b"event: ", name.encode(), nl, b"data: ", flat(data), nl, tail))


OFFICIAL = Dialect(
    newline=b"\r\n",
    metadata=lambda start: Metadata(start.run_id, start.attempt, start.resumes_after),
    problem=lambda failed: Problem(class_of(failed), failed.message),
    says_end=False,
)
DEERFLOW = Dialect(
    newline=b"\n",
    metadata=lambda start: RunAndThread(start.run_id, start.thread_id, start.attempt, start.resumes_after),
    problem=lambda failed: NamedProblem(class_of(failed), failed.message, class_of(failed)),
    says_end=True,
)


class Cursor(NamedTuple):
    """Where a reader stands: it has all up to entry `after`, and so many frames of the next one."""

    after: int = 0
    frames: int = 0


BEGINNING = Cursor()
_CURSOR = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,6}))?")


def cursor_of(last_event_id: str) -> Cursor | None:
    """The cursor that a `Last-Event-ID` stands for; `-1`, `-` and `0` ask for all. None if it is none of ours."""
    text = last_event_id.strip()
    if text in ("-1", "-"):
        return BEGINNING
    found = _CURSOR.fullmatch(text)
    return None if found is None else Cursor(int(found[1]), int(found[2] or 0))


class LangGraphEncoder:
    """One run's stream.

    `native` are the modes that the run's log has frames of; `made` makes the frames of all other modes. An encoder
    that makes frames must be fed from `start`, whatever its cursor: it says nothing before it gets there.

    Ids are the numbers of the entries. Of several frames that one entry gives only the last has its number; the
    others stand between it and the number before, as `11.1`, `11.2`, `12`.
    """

    media_type = SSE

    def __init__(
        self,
        dialect: Dialect = OFFICIAL,
        *,
        native: frozenset[str] = frozenset(),
        made: FrameMaker | None = None,
        cursor: Cursor = BEGINNING,
        prefix: str = "",
    ) -> None:
        self.ended = False
        self.start = 0 if made is not None else cursor.after
        """The number of the entry to follow the log after."""
        self._dialect = dialect
        self._native = native
        self._made = made
        self._after, self._skip = cursor
        self._last = cursor.after
        self._silent = False
        self._prefix = prefix
        """Stands before each id: the stream of a thread tells its runs apart by it."""

    def encode(self, entry: Entry) -> bytes:
        event, seq = entry.event, entry.seq
        if type(event) is Frame:
            if seq <= self._after or mode_of(event.mode) not in self._native:
                return b""
            frames: list[Frame] = [event]
        else:
            frames = self._frames(event)
            if isinstance(event, FINAL):
                self.ended = True
            if seq <= self._after or not frames:
                self._last = max(seq, self._last)
                return b""
        self._last = seq
        skip, self._skip = self._skip, 0
        if len(frames) == 1 and not skip:
            return self._event(frames[0], str(seq))
        return b"".join(self._events(frames, seq, skip))

    def heartbeat(self) -> bytes:
        return b"" if self.ended else self._dialect.heartbeat

    def failure(self, failed: Failed) -> bytes:
        """An error that is no entry of the log, and so has no id."""
        self.ended = True
        return self._dialect.event("error", json.encode(self._dialect.problem(failed)))

    def gap(self, run_id: str, requested: Cursor, earliest: int | None, latest: int | None) -> bytes:
        """Says that what a reader asked for is not all there. It may go on from `earliest`, unless `ended` says not."""
        self.ended = self._silent = self._dialect.says_end
        gap = Gap(
            run_id=run_id,
            requested_event_id=str(requested.after),
            earliest_available_event_id=None if earliest is None else str(earliest),
            latest_available_event_id=None if latest is None else str(latest),
        )
        return self._dialect.event("gap", json.encode(gap))

    def end(self) -> bytes:
        if not self._dialect.says_end or self._silent:
            return b""
        return self._event(Frame(mode="end", data=NULL), str(self._last + 1))

    def _frames(self, event: Event) -> list[Frame]:
        """What an entry is that is no frame itself."""
        made = self._made.frames(event) if self._made is not None else []
        match event:
            case RunStarted():
                return [_frame("metadata", self._dialect.metadata(event)), *made]
            case Failed():
                return [*made, _frame("error", self._dialect.problem(event))]
            case _:
                return made

    def _events(self, frames: list[Frame], seq: int, skip: int) -> Iterable[bytes]:
        last = len(frames) - 1
        for at in range(skip, len(frames)):
            yield self._event(frames[at], str(seq) if at == last else f"{seq - 1}.{at + 1}")

    def _event(self, frame: Frame, id: str) -> bytes:
        name = "|".join((frame.mode, *frame.ns)) if frame.ns else frame.mode
        return self._dialect.event(name, bytes(frame.data), self._prefix + id)


def _frame(mode: str, content: Struct) -> Frame:
    return Frame(mode=mode, data=Raw(json.encode(content)))

"""A reader of a run's log who comes later: from where, in which modes, and what becomes of what is no longer kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from msgspec import Struct

from proxy.api.native.mounts import Mount
from proxy.api.native.rooms import Rooms
from proxy.errors import Draining, LogTrimmed
from proxy.events import Entry, Failed, RunStarted
from proxy.model import Run
from proxy.wire.conversation import listed
from proxy.wire.frames import MAKEABLE, FrameMaker
from proxy.wire.langgraph import BEGINNING, Cursor, LangGraphEncoder
from proxy.wire.runs_body import DEFAULT_MODES

END = 1 << 53
"""Behind all entries."""


class View(Struct, frozen=True, kw_only=True):
    """What a reader sees of a run: all its modes, or those named in `modes`."""

    modes: frozenset[str] | None = None
    cursor: Cursor = BEGINNING
    prefix: str = ""
    """Stands before the ids."""


class Reading:
    """One reader of one run: follows its log, and encodes it.

    Frames that the log has pass through; those of other modes are made where they can be.
    """

    def __init__(self, mount: Mount, rooms: Rooms, run: Run, view: View) -> None:
        self._rooms = rooms
        self._run = run
        self._cursor = view.cursor
        agent = rooms.agents.named(run.agent)
        own = frozenset(run.choices.modes) or DEFAULT_MODES
        asked = own if view.modes is None else view.modes
        native = asked & frozenset(run.choices.modes) if agent is None or agent.adapter.native else frozenset[str]()
        modes = (asked - native) & MAKEABLE
        self._made: FrameMaker | None = None
        if modes:
            self._made = FrameMaker(modes, assistant_id=run.assistant_id, subgraphs=run.choices.subgraphs)
        self._ready = self._made is None
        self._wire = LangGraphEncoder(
            mount.wire, native=native, made=self._made, cursor=view.cursor, prefix=view.prefix
        )
        self._last = self._wire.start
        self._untold = b""
        """A gap that is to be told of before anything else."""
        self._cut = False
        self.media_type = self._wire.media_type

    @property
    def start(self) -> int:
        """The number of the entry to follow the log after."""
        return self._wire.start

    @property
    def ended(self) -> bool:
        return self._cut or self._wire.ended

    async def follow(
        self, *, idle: float, first: float | None = None, sink: Callable[[Entry], bool] | None = None
    ) -> AsyncGenerator[list[Entry]]:
        """As `RunManager.follow`; the last batch is followed by the end of the wire, whatever it was."""

        def taken(entry: Entry) -> bool:
            return self._ready and sink is not None and sink(entry)

        follow = self._rooms.manager.follow
        while not self.ended:
            try:
                batches = follow(self._run, after=self._last, idle=idle, first=first, sink=taken)
                async with aclosing(batches):
                    async for batch in batches:
                        if batch:
                            await self.begin()
                        yield batch
            except LogTrimmed:
                await self.skip()
            except Draining:
                self._cut = True
            else:
                break
        self._wire.ended = True
        yield []

    async def begin(self) -> None:
        """To be called before the first entry is encoded, and not before there is one.

        What the run's thread held then is known only once the run has its turn on it.
        """
        if self._made is not None and not self._ready:
            self._made.begin(listed(await self._rooms.states.before(self._run)))
            self._ready = True

    async def skip(self) -> int | None:
        """Pass over what is no longer kept, and say so before the next entry: the number to go on after, if any."""
        kept = await self._rooms.manager.read(self._run, after=self._last, limit=1)
        earliest = kept[0].seq if kept else None
        latest = await self._rooms.manager.last(self._run)
        if latest is None and self._run.outcome is not None:
            latest = max(self._run.outcome.events, earliest or 0)
        self._tell_gap(earliest, latest)
        self._last = END if earliest is None else earliest - 1
        return None if earliest is None else self._last

    def _tell_gap(self, earliest: int | None, latest: int | None) -> None:
        self._untold += self._wire.gap(self._run.run_id, self._cursor, earliest, latest)

    def encode(self, entry: Entry) -> bytes:
        """Nothing once a gap has ended the stream, though the batch goes on."""
        if self.ended:
            return b""
        self._last = entry.seq
        if type(entry.event) is RunStarted:
            self._compare(entry.seq, entry.event)
        if not self._untold:
            return self._wire.encode(entry)
        told, self._untold = self._untold, b""
        return told if self._wire.ended else told + self._wire.encode(entry)

    def _compare(self, seq: int, start: RunStarted) -> None:
        """Where another worker took the run over, what this reader has may not count any more."""
        counts, has = start.resumes_after, self._cursor.after
        if counts is not None and counts < has < seq:
            self._tell_gap(seq, seq)

    def heartbeat(self) -> bytes:
        return b"" if self.ended else self._wire.heartbeat()

    def failure(self, failed: Failed) -> bytes:
        return self._wire.failure(failed)

    def end(self) -> bytes:
        """A reader that was cut off gets no end, and comes back."""
        return b"" if self._cut else self._untold + self._wire.end()

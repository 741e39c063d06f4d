"""A live log: the owner's handle on one run.

Each run has one writer, so its log numbers the entries itself, wakes its followers at once and lets a
journal put them on disk behind the scenes. Used by every backend; nobody else imports it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from proxy.errors import LeaseLost
from proxy.events import Entry, Event
from proxy.model import Pause, Run, ThreadOutcome

QUEUE = 4096
"""Entries that may wait for the disk before the writer has to wait."""
TAIL = 1024
"""Entries that stay in memory although they are on disk."""
Sink = Callable[[Entry], bool]
"""Takes a new entry at once, or returns False; see `EventLog.follow`."""


class Journal(Protocol):
    """What a log needs of its backend."""

    def queue(self, log: LiveLog) -> None:
        """Write the log's unwritten entries soon, and the record of an ended log. `log.written` answers it."""
        ...

    def hurry(self) -> None:
        """Write what is queued now, since a writer waits for room."""
        ...

    async def commit(
        self, log: LiveLog, final: Entry, run: Run, pause: Pause | None, thread: ThreadOutcome | None
    ) -> None:
        """Write all that is left, the final entry, the record, the pause and the thread in one transaction.

        Then calls `log.finish`, or `log.reopen` and raises. One of the two is called even if the caller was
        cancelled meanwhile, since the end may be on disk all the same.
        """
        ...


class Waiter:
    """A follower's place to rest, and its cursor.

    Its timer is set once a silence, not once an entry: a wait only leaves a stamp.
    """

    __slots__ = ("_future", "_idle", "_loop", "_patience", "_since", "_sink", "_timer", "after")

    def __init__(self, after: int, idle: float, first: float, sink: Sink | None) -> None:
        self.after = after
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._idle = idle
        self._patience = first
        """How long the silence may be that is under way."""
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._future: asyncio.Future[bool] | None = None

    def rest(self) -> asyncio.Future[bool]:
        """A future that is True when woken and False after the idle time."""
        future = self._future = self._loop.create_future()
        if self._patience:
            self._since = time.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._patience, self._ring)
        return future

    def offer(self, entry: Entry) -> None:
        """A new entry: a resting follower's sink may take it on the spot, which spares the turn of another task."""
        future = self._future
        if future is None or future.done():
            return
        self._patience = self._idle
        if self._sink is not None and self._sink(entry):
            self.after = entry.seq
            self._since = entry.at
        else:
            future.set_result(True)

    def wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(True)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._future is None or self._future.done() or not self._patience:
            return
        left = min(self._since + self._patience - time.time(), self._patience)
        if left <= 0:
            self._patience = self._idle
            self._future.set_result(False)
        else:
            self._timer = self._loop.call_later(left, self._ring)


class LiveLog:
    """The log of one run that this process owns (the `RunLog` port)."""

    __slots__ = (
        "_changed",
        "_closed",
        "_journal",
        "_settling",
        "_waiters",
        "bytes",
        "ended",
        "entries",
        "first",
        "inserted",
        "last",
        "origin",
        "released",
        "run",
        "stored",
    )

    def __init__(self, run: Run, journal: Journal, *, inserted: bool, after: int = 0) -> None:
        self.run = run
        self.inserted = inserted
        """The record is in the store."""
        self.entries: list[Entry] = []
        self.origin = after
        """What is numbered up to here is an earlier owner's."""
        self.first = after + 1
        """Number of `entries[0]`."""
        self.last = after
        self.stored = after
        """Number of the last entry on disk."""
        self.bytes = 0
        """Bytes on disk."""
        self.ended = False
        self.released = False
        """Another process will write it."""
        self._journal = journal
        self._closed = False
        self._settling = False
        self._waiters: list[Waiter] = []
        self._changed: asyncio.Event | None = None

    @property
    def full(self) -> bool:
        return self.last - self.stored >= QUEUE

    @property
    def last_at(self) -> float:
        """When the last entry was written, in seconds since 1970."""
        return self.entries[-1].at if self.entries else self.run.created_at

    @property
    def closed(self) -> bool:
        """True once the end has been decided, whether or not it is on disk."""
        return self._closed

    def append(self, event: Event) -> int:
        if self._closed:
            raise LeaseLost
        if self.last == self.stored:
            self._journal.queue(self)
        seq = self.last = self.last + 1
        entry = Entry(seq, time.time(), event)
        self.entries.append(entry)
        for waiter in self._waiters:
            waiter.offer(entry)
        return seq

    async def drain(self) -> None:
        while self.full and not self._closed:
            self._journal.hurry()
            await self._change()

    async def settle(
        self, final: Event, run: Run, pause: Pause | None = None, *, thread: ThreadOutcome | None = None
    ) -> bool:
        while self._settling:
            await self._change()
        if self.ended:
            return False
        self._closed = self._settling = True
        self._announce()
        await self._journal.commit(self, Entry(self.last + 1, time.time(), final), run, pause, thread)
        return True

    def finish(self, entry: Entry, run: Run) -> None:
        """The end is on disk: show it."""
        self._settling = False
        if not self.ended:
            self._end(entry, run)
        self.run = run
        self.stored = entry.seq
        self._announce()

    def reopen(self) -> None:
        """The end could not be written; it may be tried again."""
        self._settling = False
        self._announce()

    def give_up(self, final: Event, run: Run) -> None:
        """Show an end that the store does not take now; it is written once the store is back."""
        if not self.ended:
            self._closed = True
            self._end(Entry(self.last + 1, time.time(), final), run)
            self._announce()
            self._journal.queue(self)

    def release(self) -> None:
        """Let go of a log that has no entries yet, for another process to write it; followers are told to come back."""
        self._closed = self.released = True
        for waiter in self._waiters:
            waiter.wake()

    def _end(self, entry: Entry, run: Run) -> None:
        self.run = run
        self.last = entry.seq
        self.entries.append(entry)
        self.ended = True
        for waiter in self._waiters:
            waiter.wake()

    async def _change(self) -> None:
        """Wait until there is more room, or the end has been tried."""
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    def _announce(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def unwritten(self) -> list[Entry]:
        """Entries that are not on disk yet."""
        return self.entries[self.stored + 1 - self.first :]

    def written(self, seq: int, size: int) -> None:
        """The journal has put all up to `seq` on disk, `size` bytes more."""
        self.inserted = True
        self.stored = seq
        self.bytes += size
        spare = seq - self.first + 1 - TAIL
        if spare > TAIL:
            del self.entries[:spare]
            self.first += spare
        if self.last > self.stored and not self._settling:
            self._journal.queue(self)
        if self.full:
            self._journal.hurry()
        else:
            self._announce()

    def since(self, after: int) -> list[Entry]:
        """Entries in memory above `after`, which must be at least `first - 1`."""
        return self.entries[after + 1 - self.first :] if after < self.last else []

    @property
    def followed(self) -> bool:
        return bool(self._waiters)

    def strip(self) -> None:
        """Forget all but the final entry of an ended log."""
        self.entries = self.entries[-1:]
        self.first = self.last

    def join(self, waiter: Waiter) -> None:
        self._waiters.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        self._waiters.remove(waiter)

"""Live logs: the owner's handle on a run, and the followers that read it from memory.

Each run has one writer, so its log numbers the entries itself, wakes its followers at once and lets a
journal put them on disk behind the scenes. What is on disk may leave memory: a follower that lags
reads pages from the store until it has caught up. Used by every backend; nobody else imports it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol

from proxy.errors import LeaseLost
from proxy.events import FINAL, Entry, Event
from proxy.model import Pause, Run

QUEUE = 4096
"""Entries that may wait for the disk before the writer has to wait."""
TAIL = 1024
"""Entries that stay in memory although they are on disk."""
PAGE = 1000


class Journal(Protocol):
    """What a log needs of its backend."""

    def queue(self, log: LiveLog) -> None:
        """Write the log's unwritten entries soon. Called when the first one is there; `written` answers it."""
        ...

    async def commit(self, log: LiveLog, final: Entry, run: Run, pause: Pause | None) -> None:
        """Write all that is left, the final entry, the record and the pause in one transaction."""
        ...


class Waiter:
    """A follower's place to rest. Its timer is set once a silence, not once an entry: a wait only leaves a stamp."""

    __slots__ = ("_future", "_idle", "_loop", "_since", "_timer")

    def __init__(self, idle: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = idle
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._future: asyncio.Future[bool] | None = None

    def rest(self) -> asyncio.Future[bool]:
        """A future that is True when woken and False after the idle time."""
        future = self._future = self._loop.create_future()
        if self._idle:
            self._since = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._idle, self._ring)
        return future

    def wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(True)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._future is None or self._future.done():
            return
        left = self._since + self._idle - self._loop.time()
        if left <= 0:
            self._future.set_result(False)
        else:
            self._timer = self._loop.call_later(left, self._ring)


class LiveLog:
    """The log of one run that this process owns (the `RunLog` port)."""

    __slots__ = (
        "_closed",
        "_drained",
        "_journal",
        "_settling",
        "_waiters",
        "bytes",
        "ended",
        "entries",
        "first",
        "inserted",
        "last",
        "run",
        "stored",
    )

    def __init__(self, run: Run, journal: Journal, *, inserted: bool, after: int = 0) -> None:
        self.run = run
        self.inserted = inserted
        """The record is in the store."""
        self.entries: list[Entry] = []
        self.first = after + 1
        """Number of `entries[0]`."""
        self.last = after
        self.stored = after
        """Number of the last entry on disk."""
        self.bytes = 0
        """Bytes on disk."""
        self.ended = False
        self._journal = journal
        self._closed = False
        self._settling = False
        self._waiters: list[Waiter] = []
        self._drained: asyncio.Event | None = None

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
        self.entries.append(Entry(seq, time.time(), event))
        for waiter in self._waiters:
            waiter.wake()
        return seq

    async def drain(self) -> None:
        while self.full and not self._closed:
            if self._drained is None:
                self._drained = asyncio.Event()
            await self._drained.wait()

    async def settle(self, final: Event, run: Run, pause: Pause | None = None) -> bool:
        if self._settling or self.ended:
            return False
        self._closed = self._settling = True
        entry = Entry(self.last + 1, time.time(), final)
        try:
            await self._journal.commit(self, entry, run, pause)
        finally:
            self._settling = False
        self._finish(entry, run)
        return True

    def give_up(self, final: Event, run: Run) -> None:
        """Show an end that the store does not take; the record stays as it was."""
        if not self.ended:
            self._closed = True
            self._finish(Entry(self.last + 1, time.time(), final), run)

    def _finish(self, entry: Entry, run: Run) -> None:
        self.run = run
        self.last = entry.seq
        self.entries.append(entry)
        self.ended = True
        self._release()
        for waiter in self._waiters:
            waiter.wake()

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
        if self.last > self.stored and not self._closed:
            self._journal.queue(self)
        if not self.full:
            self._release()

    def _release(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None

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


Reader = Callable[[str, int, int], Awaitable[list[Entry]]]


class LiveLogs:
    """All logs that this process owns, and the one way to follow any log."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        """(run id, after, limit) -> entries on disk."""
        self._logs: dict[str, LiveLog] = {}

    def add(self, log: LiveLog) -> None:
        self._logs[log.run.run_id] = log

    def get(self, run_id: str) -> LiveLog | None:
        return self._logs.get(run_id)

    def drop(self, run_id: str) -> None:
        self._logs.pop(run_id, None)

    def all(self) -> list[LiveLog]:
        return list(self._logs.values())

    async def read(self, run_id: str, after: int, limit: int) -> list[Entry]:
        """Entries above `after`, from memory where they are there."""
        log = self._logs.get(run_id)
        if log is not None and after >= log.first - 1:
            return log.since(after)[:limit]
        return await self._read(run_id, after, limit)

    async def follow(self, run_id: str, after: int, idle: float) -> AsyncGenerator[list[Entry]]:
        log = self._logs.get(run_id)
        if log is None:
            async for entries in self._replay(run_id, after, None):
                yield entries
            return
        waiter = Waiter(idle)
        log.join(waiter)
        try:
            while True:
                if after < log.first - 1:
                    async for entries in self._replay(run_id, after, log):
                        yield entries
                        after = entries[-1].seq
                elif entries := log.since(after):
                    after = entries[-1].seq
                    yield entries
                elif log.ended:
                    return
                elif not await waiter.rest():
                    yield []
        finally:
            waiter.close()
            log.leave(waiter)

    async def _replay(self, run_id: str, after: int, log: LiveLog | None) -> AsyncGenerator[list[Entry]]:
        """Pages from disk, up to where memory begins."""
        while log is None or after < log.first - 1:
            entries = await self._read(run_id, after, PAGE)
            if not entries:
                return
            yield entries
            after = entries[-1].seq
            if isinstance(entries[-1].event, FINAL):
                return

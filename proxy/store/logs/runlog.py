"""A live log: the owner's handle on one run.

Each run has one writer, so its log numbers the entries itself, wakes its followers at once and lets a
journal put them on disk behind the scenes. Past the lease of its process it goes on taking entries and shows none,
until it is known whether they still count. Used by every backend; nobody else imports it.
"""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import Protocol

from proxy.errors import LeaseLost
from proxy.events import Entry, Event
from proxy.model import Pause, Run, ThreadOutcome
from proxy.store.lease import Lease
from proxy.store.logs.feeds import TAIL, Feed

QUEUE = 4096
"""Entries that may wait for the disk before the writer has to wait."""


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


class LiveLog(Feed):
    """The log of one run that this process owns (the `RunLog` port). Its numbers do not jump."""

    __slots__ = (
        "_changed",
        "_closed",
        "_journal",
        "_lease",
        "_settling",
        "bytes",
        "inserted",
        "lost",
        "owner",
        "run",
        "stored",
        "told",
    )

    def __init__(self, run: Run, journal: Journal, *, lease: Lease, inserted: bool, after: int = 0) -> None:
        super().__init__(run.run_id, after)
        self.run = run
        self.inserted = inserted
        """The record is in the store."""
        self.stored = after
        """Number of the last entry on disk."""
        self.told = after
        """Number of the last entry that the journal need not be told of."""
        self.bytes = 0
        """Bytes on disk."""
        self.lost = False
        """Another process has the run: nothing of this log counts that is not on disk."""
        self._lease = lease
        self.owner = lease.owner
        """As whom this process writes it."""
        self._journal = journal
        self._closed = False
        self._settling = False
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

    @property
    def fence(self) -> str | None:
        """Whose lease it is written under; None where that never runs out."""
        return self.owner if self._lease.ends else None

    @property
    def shown(self) -> int:
        return self.last if self._lease.holds() else min(self.last, self.stored)

    def append(self, event: Event) -> int:
        if self._closed:
            raise LeaseLost
        if self.last == self.told:
            self._journal.queue(self)
        seq = self.last = self.last + 1
        entry = Entry(seq, time.time(), event)
        self.entries.append(entry)
        if self._waiters and ((deadline := self._lease.deadline) == inf or time.monotonic() < deadline):
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
        if self.lost:
            raise LeaseLost
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
        if not self.ended and not self.lost:
            self._closed = True
            self._end(Entry(self.last + 1, time.time(), final), run)
            self._announce()
            self._journal.queue(self)

    def shut(self) -> None:
        """Take nothing more."""
        self._closed = True
        self._announce()

    def lose(self) -> None:
        """Another process has the run: take nothing more, and write nothing more."""
        self.lost = True
        self.shut()

    def _end(self, entry: Entry, run: Run) -> None:
        self.run = run
        self.last = entry.seq
        self.entries.append(entry)
        self.ended = True
        self.wake()

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
        self.told = max(self.told, seq)
        self.bytes += size
        spare = seq - self.first + 1 - TAIL
        if spare > TAIL:
            del self.entries[:spare]
            self.first += spare
        if self.last > self.stored and not self._settling and not self.lost:
            self._journal.queue(self)
        if self.full:
            self._journal.hurry()
        else:
            self._announce()

    def since(self, after: int) -> list[Entry]:
        shown = self.shown
        return self.entries[after + 1 - self.first : shown + 1 - self.first] if after < shown else []

    def strip(self) -> None:
        """Forget all but the final entry of an ended log."""
        self.entries = self.entries[-1:]
        self.first = self.last

"""Feeds: what a run says, as it comes to this process, and who waits for it here.

A run that this process owns is fed by its writer (`runlog.py`), any other by a `Tail`. Followers rest at a feed; when
the run changes hands they are moved to the next one, and notice nothing but what the log says of it.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter

from proxy.events import FINAL, Entry

TAIL = 1024
"""Entries that stay in memory although they are on disk."""
HELD = 64
"""Pieces of a log that may wait for what comes before them."""
Sink = Callable[[Entry], bool]
"""Takes a new entry at once, or returns False; see `EventLog.follow`."""
seq_of = attrgetter("seq")


class Waiter:
    """A follower's place to rest, and its cursor.

    Its timer is set once a silence, not once an entry: a wait only leaves a stamp.
    """

    __slots__ = (
        "_future",
        "_idle",
        "_loop",
        "_patience",
        "_since",
        "_sink",
        "_taking",
        "_timer",
        "after",
        "feed",
        "run_id",
    )

    def __init__(self, run_id: str, after: int, idle: float, first: float, sink: Sink | None) -> None:
        self.run_id = run_id
        self.after = after
        self.feed: Feed | None = None
        """Where it rests; None as long as the store alone is known to have something for it."""
        self._sink = sink
        self._taking: Sink | None = None
        """The sink, unless the cursor is ahead of the log."""
        self._loop = asyncio.get_running_loop()
        self._idle = idle
        self._patience = first
        """How long the silence may be that is under way."""
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._future: asyncio.Future[bool] | None = None

    def rest(self, last: int) -> asyncio.Future[bool]:
        """A future that is True when woken and False after the idle time. `last` is the last entry that there is."""
        future = self._future = self._loop.create_future()
        self._taking = self._sink if self.after <= last else None
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
        if self._taking is not None and self._taking(entry):
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
        if self.feed is not None:
            self.feed.leave(self)

    def _ring(self) -> None:
        self._timer = None
        if self._future is None or self._future.done() or not self._patience:
            return
        now = time.time()
        self._since = min(self._since, now)  # the clock may have been set back
        left = self._since + self._patience - now
        if left <= 0:
            self._patience = self._idle
            self._future.set_result(False)
        else:
            self._timer = self._loop.call_later(left, self._ring)


class Feed:
    """Entries of one run, and its followers in this process.

    All entries that are numbered from `first` to `last` are in memory; what comes before is in the store.
    """

    __slots__ = ("_waiters", "ended", "entries", "first", "last", "origin", "released", "run_id")

    def __init__(self, run_id: str, after: int = 0) -> None:
        self.run_id = run_id
        self.entries: list[Entry] = []
        self.origin = after
        """This feed can have nothing that is numbered up to here."""
        self.first = after + 1
        self.last = after
        self.ended = False
        """`last` is the final entry, or nothing will ever come."""
        self.released = False
        """Who follows it is to ask another process."""
        self._waiters: list[Waiter] = []

    @property
    def shown(self) -> int:
        """Number of the last entry that followers may see."""
        return self.last

    @property
    def followed(self) -> bool:
        return bool(self._waiters)

    def since(self, after: int) -> list[Entry]:
        """Entries in memory above `after`, which must be at least `first - 1`, as far as they may be seen."""
        raise NotImplementedError

    def join(self, waiter: Waiter) -> None:
        waiter.feed = self
        self._waiters.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        self._waiters.remove(waiter)
        waiter.feed = None

    def move(self, feed: Feed) -> None:
        """Let all who follow it follow that one."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            feed.join(waiter)
            waiter.wake()

    def wake(self) -> None:
        for waiter in self._waiters:
            waiter.wake()

    def let_go(self) -> None:
        """Tell all who follow it to ask another process."""
        self.released = True
        self.wake()


class Tail(Feed):
    """The end of a log that others write, as far as it is known here. Its numbers may jump."""

    __slots__ = ("_held", "placed", "stored")

    def __init__(self, run_id: str, after: int | None = None) -> None:
        super().__init__(run_id, after or 0)
        self.origin = 0
        self.placed = after is not None
        """It is known what the store has: all that is numbered below `first`."""
        self.stored = after or 0
        """The store is known to have what is numbered up to here."""
        self._held: list[tuple[int, list[Entry]]] = []

    @property
    def gapped(self) -> bool:
        """Something came of which it is not known what comes before it."""
        return bool(self._held)

    def since(self, after: int) -> list[Entry]:
        return self.entries[bisect_right(self.entries, after, key=seq_of) :] if after < self.last else []

    def place(self, last: int) -> None:
        """The store has entries up to `last`; whoever has not read them reads them there."""
        self.placed, self.entries = True, []
        self.first, self.last, self.stored = last + 1, last, last
        self.wake()  # before anything is offered, or what the store has would be passed over
        self._fill()

    def feed(self, after: int, entries: Sequence[Entry]) -> bool:
        """These are all entries above `after` up to the last of them, or there are none of them yet.

        False if some before them are not known here: they wait for those then."""
        if not self.placed or after > self.last:
            self._hold(after, entries)
            return False
        self._add(entries)
        self._fill()
        return True

    def skip(self, entries: list[Entry]) -> None:
        """What comes before these is no longer kept; they are the end."""
        self.entries, self.first, self.last = entries, entries[0].seq, entries[-1].seq
        self.finish()

    def vanish(self) -> None:
        """It has ended, and its end is no longer kept: whoever has not seen it finds nothing in its place."""
        self.entries = []
        self.last += 1
        self.first = self.last + 1
        self.finish()

    def finish(self) -> None:
        self.ended = True
        self._held.clear()
        self.wake()

    def _add(self, entries: Sequence[Entry]) -> None:
        new = entries[bisect_right(entries, self.last, key=seq_of) :]
        if not new or self.ended:
            return
        self._trim()
        self.entries += new
        self.last = new[-1].seq
        if isinstance(new[-1].event, FINAL):
            self.finish()
        else:
            for entry in new:
                self._offer(entry)

    def _trim(self) -> None:
        """Let go of what all have read, and of what is old, as far as it can be read from the store."""
        slowest = min((waiter.after for waiter in self._waiters), default=self.last)
        spare = bisect_right(self.entries, min(slowest, self.stored), key=seq_of)
        spare = max(spare, min(bisect_right(self.entries, self.stored, key=seq_of), len(self.entries) - TAIL))
        if spare > 0:
            self.first = self.entries[spare - 1].seq + 1
            del self.entries[:spare]

    def _offer(self, entry: Entry) -> None:
        for waiter in self._waiters:
            waiter.offer(entry)

    def _hold(self, after: int, entries: Sequence[Entry]) -> None:
        if len(self._held) >= HELD:
            self._held.clear()  # the store has them soon
        self._held.append((after, list(entries)))

    def _fill(self) -> None:
        """Add what has waited for what was just added."""
        while self._held and self._held[0][0] <= self.last:
            self._add(self._held.pop(0)[1])

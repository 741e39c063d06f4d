"""All live logs of this process, and the one way to follow any log.

What is on disk may leave memory: a follower that lags reads pages from the store until it has caught up. A run that
this process does not have is followed by its tail, until it begins here, if it ever does; one that was lost becomes a
tail. While the store is away, who has begun to read waits for it. Used by every backend; nobody else imports it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NamedTuple

from proxy.errors import Draining, LogTrimmed, Unavailable
from proxy.events import FINAL, Entry
from proxy.store.lease import Lease
from proxy.store.logs.feeds import Sink, Waiter
from proxy.store.logs.outages import Outage
from proxy.store.logs.runlog import LiveLog
from proxy.store.logs.tails import NOTHING, Look, Tails
from proxy.store.signals import Signals

PAGE = 1000
"""Entries that a follower reads from disk at a time."""
GRACE = 3.0
"""Seconds that content stays in a shared store for those who read it elsewhere, once nobody reads it here."""


class Page(NamedTuple):
    """Entries from disk. `trimmed`: some before the first of them are no longer kept."""

    entries: list[Entry]
    trimmed: bool = False


Reader = Callable[[str, int, int], Awaitable[Page]]


class LiveLogs:
    """All logs that this process owns, and the one way to follow any log."""

    def __init__(
        self,
        read: Reader,
        look: Look | None = None,
        *,
        lease: Lease | None = None,
        signals: Signals | None = None,
        shared: bool = False,
    ) -> None:
        self._read = read
        """(run id, after, limit) -> what is on disk."""
        self._look = look
        self._shared = shared
        self._logs: dict[str, LiveLog] = {}
        self._retired: set[str] = set()
        self._acts: dict[str, Callable[[], None]] = {}
        self.tails = Tails(look, signals, shared=shared)
        if lease is not None:
            lease.listen(self._hear)

    def add(self, log: LiveLog) -> None:
        self._logs[log.run_id] = log
        tail = self.tails.drop(log.run_id)
        if tail is not None:
            tail.move(log)

    def get(self, run_id: str) -> LiveLog | None:
        return self._logs.get(run_id)

    def drop(self, run_id: str) -> None:
        """Forget the log now."""
        self._logs.pop(run_id, None)
        self._retired.discard(run_id)

    def retire(self, run_id: str) -> None:
        """Forget the log, which is all on disk, once nobody follows it."""
        log = self._logs.get(run_id)
        if log is not None and log.followed:
            self._retired.add(run_id)
        else:
            self.drop(run_id)

    def lose(self, log: LiveLog) -> None:
        """Another process has the run. Who follows it here goes on with what is said of it elsewhere."""
        log.lose()
        if self._logs.get(log.run_id) is log:
            self.drop(log.run_id)
            if log.followed:
                log.move(self.tails.open(log.run_id, log.stored))

    def when_left(self, run_id: str, act: Callable[[], None]) -> None:
        """Call `act` once nobody follows the log: now, if nobody does and the store is not shared."""
        self._acts[run_id] = act
        self._settle_up(run_id)

    def close(self) -> None:
        """Do at once what waits for followers to leave, and let them go."""
        self.tails.let_go()
        acts, self._acts = self._acts, {}
        for act in acts.values():
            act()

    def let_go(self) -> None:
        """See `EventLog.leave_logs`."""
        self.tails.let_go()

    def all(self) -> list[LiveLog]:
        return list(self._logs.values())

    async def last(self, run_id: str) -> int:
        """See `EventLog.last`."""
        log = self._logs.get(run_id)
        if log is not None or self._look is None:
            return 0 if log is None else log.last
        sight = (await self._look([(run_id, NOTHING)])).get(run_id)
        return 0 if sight is None else sight.last

    async def read(self, run_id: str, after: int, limit: int) -> list[Entry]:
        """Entries above `after`, from memory where they are there."""
        log = self._logs.get(run_id)
        if log is None or after < log.first - 1:
            page = await self._read(run_id, after, limit)
            if page.entries or log is None:
                return page.entries
            after = log.first - 1
        return log.since(after)[:limit]

    async def follow(
        self, run_id: str, after: int, idle: float, first: float | None = None, sink: Sink | None = None
    ) -> AsyncGenerator[list[Entry]]:
        waiter = Waiter(run_id, after, idle, idle if first is None else first, sink)
        outage = Outage(idle)
        if known := self._logs.get(run_id) or self.tails.get(run_id):
            known.join(waiter)
        try:
            while True:
                feed = waiter.feed
                if feed is None or waiter.after < feed.first - 1:
                    entries = await self._stored(waiter, outage)
                else:
                    entries = feed.since(waiter.after)
                    outage.answered()
                if entries:
                    waiter.after = entries[-1].seq
                    yield entries
                    if isinstance(entries[-1].event, FINAL):
                        return
                elif entries is None:
                    yield []
                elif feed is None or feed is not waiter.feed or waiter.after < feed.shown:
                    continue
                elif feed.ended and waiter.after >= feed.last:
                    if waiter.after > after:  # it has read from the log, and not its end
                        raise LogTrimmed
                    return
                elif feed.released:
                    raise Draining
                elif not await waiter.rest(feed.shown):
                    yield []
        finally:
            waiter.close()
            self._settle_up(run_id)

    async def _stored(self, waiter: Waiter, outage: Outage) -> list[Entry] | None:
        """What the store has next for a follower. Where it has nothing, the follower gets a place to rest at.

        None if it is away, and the silence is to be told of."""
        feed = waiter.feed
        try:
            page = await self._read(waiter.run_id, waiter.after, PAGE)
        except Unavailable as error:
            if self.tails.released:
                raise Draining from error
            return None if await outage.sit_out(error) else []
        outage.answered()
        if page.trimmed:
            raise LogTrimmed
        if page.entries or feed is not waiter.feed:
            return page.entries
        if feed is None:
            (self._logs.get(waiter.run_id) or self.tails.open(waiter.run_id)).join(waiter)
        elif waiter.after >= feed.origin:
            raise LogTrimmed
        else:
            waiter.after = feed.origin
        return page.entries

    def _hear(self, kept: bool) -> None:
        """The lease was renewed late, or lost."""
        for log in self.all():
            if kept:
                log.wake()
            elif log.stored < log.last or not log.ended:
                self.lose(log)

    def _settle_up(self, run_id: str) -> None:
        """Do what waited for the last follower to leave."""
        log = self._logs.get(run_id) or self.tails.get(run_id)
        if log is not None and log.followed:
            return
        self.tails.drop(run_id)
        if run_id in self._acts and self._shared:
            asyncio.get_running_loop().call_later(GRACE, self._act, run_id)
        else:
            self._act(run_id)
        if run_id in self._retired:
            self.drop(run_id)

    def _act(self, run_id: str) -> None:
        if act := self._acts.pop(run_id, None):
            act()

"""All live logs of this process, and the one way to follow any log.

What is on disk may leave memory: a follower that lags reads pages from the store until it has caught up.
Used by every backend; nobody else imports it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NamedTuple

from proxy.errors import Draining, LogTrimmed
from proxy.events import FINAL, Entry
from proxy.store.runlog import LiveLog, Sink, Waiter

PAGE = 1000
"""Entries that a follower reads from disk at a time."""


class Page(NamedTuple):
    """Entries from disk. `trimmed`: some before the first of them are no longer kept."""

    entries: list[Entry]
    trimmed: bool = False


Reader = Callable[[str, int, int], Awaitable[Page]]


class LiveLogs:
    """All logs that this process owns, and the one way to follow any log."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        """(run id, after, limit) -> what is on disk."""
        self._logs: dict[str, LiveLog] = {}
        self._retired: set[str] = set()
        self._acts: dict[str, Callable[[], None]] = {}

    def add(self, log: LiveLog) -> None:
        self._logs[log.run.run_id] = log

    def get(self, run_id: str) -> LiveLog | None:
        return self._logs.get(run_id)

    def drop(self, run_id: str) -> None:
        """Forget the log now."""
        self._logs.pop(run_id, None)
        self._retired.discard(run_id)
        self._acts.pop(run_id, None)

    def retire(self, run_id: str) -> None:
        """Forget the log, which is all on disk, once nobody follows it."""
        log = self._logs.get(run_id)
        if log is not None and log.followed:
            self._retired.add(run_id)
        else:
            self.drop(run_id)

    def when_left(self, run_id: str, act: Callable[[], None]) -> None:
        """Call `act` once nobody follows the log: now, if nobody does."""
        self._acts[run_id] = act
        self._settle_up(run_id)

    def close(self) -> None:
        """Do at once what waits for followers to leave."""
        acts, self._acts = self._acts, {}
        for act in acts.values():
            act()

    def all(self) -> list[LiveLog]:
        return list(self._logs.values())

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
        log = self._logs.get(run_id)
        if log is None:
            async for entries in self._replay(run_id, after):
                yield entries
            return
        waiter = Waiter(after, idle, idle if first is None else first, sink)
        log.join(waiter)
        try:
            while True:
                after = waiter.after
                if after < log.first - 1:
                    entries = await self._page(run_id, after)
                    if not entries and after >= log.origin:
                        raise LogTrimmed
                    waiter.after = entries[-1].seq if entries else log.origin
                else:
                    entries = log.since(after)
                    waiter.after = after + len(entries)
                if entries:
                    yield entries
                elif log.ended and after >= log.last:
                    return
                elif log.released:
                    raise Draining
                elif after >= log.last and not await waiter.rest():
                    yield []
        finally:
            waiter.close()
            log.leave(waiter)
            self._settle_up(run_id)

    async def _replay(self, run_id: str, after: int) -> AsyncGenerator[list[Entry]]:
        while entries := await self._page(run_id, after):
            yield entries
            after = entries[-1].seq
            if isinstance(entries[-1].event, FINAL):
                return

    async def _page(self, run_id: str, after: int) -> list[Entry]:
        page = await self._read(run_id, after, PAGE)
        if page.trimmed:
            raise LogTrimmed
        return page.entries

    def _settle_up(self, run_id: str) -> None:
        """Do what waited for the last follower to leave."""
        log = self._logs.get(run_id)
        if log is not None and log.followed:
            return
        if act := self._acts.pop(run_id, None):
            act()
        if run_id in self._retired:
            self.drop(run_id)

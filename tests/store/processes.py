"""Several processes over one table of logs, without a database: each with live logs, tails, a lease and signals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from unittest.mock import patch

from proxy.errors import LeaseLost, Unavailable
from proxy.events import Entry, Event
from proxy.model import Pause, Run, ThreadOutcome
from proxy.store.lease import Lease
from proxy.store.live import Live
from proxy.store.logs import tails
from proxy.store.logs.feeds import Sink
from proxy.store.logs.livelogs import LiveLogs, Page
from proxy.store.logs.runlog import LiveLog
from proxy.store.logs.tails import Sight
from proxy.store.signals import Signals, Topic


class Table:
    """What is in the store."""

    def __init__(self) -> None:
        self.entries: dict[str, list[Entry]] = {}
        self.runs: dict[str, Run] = {}
        self.away = False
        self.refused = 0
        """How often it was asked while it was away."""
        self.blind = False
        """It can be read, but not looked at."""
        self.looks: list[list[str]] = []
        self.most = 1000
        """Entries of a run that one look has."""
        self.deaf = False
        """Signals get lost."""
        self.processes: list[Process] = []

    def check(self) -> None:
        if self.away:
            self.refused += 1
            raise Unavailable("The store is away.")

    def open(self, run_id: str) -> bool:
        return run_id in self.runs and not self.runs[run_id].ended

    async def read(self, run_id: str, after: int, limit: int) -> Page:
        await asyncio.sleep(0)
        self.check()
        found = self.entries.get(run_id, [])
        return Page([entry for entry in found if entry.seq > after][:limit])

    async def look(self, asked: Sequence[tuple[str, int]]) -> dict[str, Sight]:
        self.looks.append([run_id for run_id, _ in asked])
        await asyncio.sleep(0)
        self.check()
        if self.blind:
            raise Unavailable("The store is away.")
        seen = {run_id: self._sight(run_id, after) for run_id, after in asked if run_id in self.runs}
        await asyncio.sleep(0)
        return seen

    def _sight(self, run_id: str, after: int) -> Sight:
        found = self.entries.get(run_id, [])
        above = [entry for entry in found if entry.seq > after][: self.most]
        return Sight(above, found[-1].seq if found else 0, self.open(run_id))

    def write(self, run: Run, entries: list[Entry]) -> None:
        self.runs[run.run_id] = run
        self.entries.setdefault(run.run_id, []).extend(entries)
        for process in () if self.deaf else self.processes:
            process.signals.ring([(Topic.LOG, run.run_id)])


class Process:
    """One process. It writes what it logs when `flush` says so, and the ends of runs at once."""

    def __init__(self, table: Table, seconds: float = 60.0, live: Live | None = None) -> None:
        self.table = table
        self.live = live
        self.commits = 0
        self.lease = Lease(seconds)
        self.lease.renew(time.monotonic())
        self.signals = Signals()
        self.logs = LiveLogs(table.read, table.look, lease=self.lease, signals=self.signals, shared=True)
        table.processes.append(self)

    def begin(self, run: Run, after: int = 0) -> LiveLog:
        self.table.runs[run.run_id] = run
        log = LiveLog(run, self, inserted=True, after=after, lease=self.lease)
        self.logs.add(log)
        return log

    def queue(self, log: LiveLog) -> None:
        if self.live is not None:
            self.live.show(log)

    def hurry(self) -> None: ...

    def flush(self, log: LiveLog) -> None:
        if entries := log.unwritten():
            self.table.write(log.run, entries)
            log.written(entries[-1].seq, 1)
            self._note(log)

    async def commit(
        self, log: LiveLog, final: Entry, run: Run, pause: Pause | None, thread: ThreadOutcome | None
    ) -> None:
        self.commits += 1
        await asyncio.sleep(0)
        if log.owner != self.lease.owner:
            log.reopen()
            raise LeaseLost
        self.table.write(run, [*log.unwritten(), final])
        log.finish(final, run)
        self._note(log)
        self.logs.retire(log.run_id)

    def _note(self, log: LiveLog) -> None:
        if self.live is not None:
            self.live.note(log)

    async def follow(self, run_id: str, after: int = 0, idle: float = 0.0) -> list[Entry]:
        """All that a follower sees, to the end."""
        seen: list[Entry] = []
        async with aclosing(self.logs.follow(run_id, after, idle)) as batches:
            async for batch in batches:
                seen += batch
        return seen


class Reader:
    """A follower that goes on by itself; `seen` is what it has but for what its sink took."""

    def __init__(self, process: Process, run_id: str, after: int = 0, sink: Sink | None = None) -> None:
        self.seen: list[Entry] = []
        self._grown = asyncio.Event()
        self.task = asyncio.ensure_future(self._read(process, run_id, after, sink))

    async def _read(self, process: Process, run_id: str, after: int, sink: Sink | None) -> None:
        async with aclosing(process.logs.follow(run_id, after, 0, sink=sink)) as batches:
            async for batch in batches:
                self.seen += batch
                self._grown.set()

    @property
    def seqs(self) -> list[int]:
        return [entry.seq for entry in self.seen]

    @property
    def events(self) -> list[Event]:
        return [entry.event for entry in self.seen]

    async def until(self, seq: int) -> None:
        """Wait until it has seen that entry."""
        async with asyncio.timeout(5):
            while not self.seen or self.seen[-1].seq < seq:
                self._grown.clear()
                await self._grown.wait()


def trial(work: Callable[[Table, Process, Process], Awaitable[None]], pause: float = 60.0) -> None:
    """Do this with two processes over one table, which look at it by themselves after such pauses."""

    async def run() -> None:
        table = Table()
        async with asyncio.timeout(20):
            await work(table, Process(table), Process(table))

    with patch.object(tails, "ROUND", pause):
        asyncio.run(run())


async def turns(count: int = 20) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)

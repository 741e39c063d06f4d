"""What all SQL stores are, by SQLAlchemy Core. See `proxy.store.base` for the contracts.

One thread writes, a few read, and what this process runs is answered from memory. The tables and statements are
the same for all; what a database has of its own stands in `sqlite.py` and `postgres/`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from itertools import groupby

import msgspec
import structlog

from proxy.events import Entry
from proxy.model import Pause, Run, RunStatus
from proxy.store.base import RunQuery
from proxy.store.lease import Lease
from proxy.store.live import Live
from proxy.store.logs.bells import Bells
from proxy.store.logs.feeds import Sink
from proxy.store.logs.journal import StoreJournal
from proxy.store.logs.livelogs import LiveLogs, Page
from proxy.store.logs.runlog import LiveLog
from proxy.store.logs.tails import Sight
from proxy.store.signals import Signals
from proxy.store.sql.assistants import SqlAssistants
from proxy.store.sql.claims import SqlClaims
from proxy.store.sql.crons import SqlCrons
from proxy.store.sql.engine import Reader
from proxy.store.sql.inserts import SqlInserts
from proxy.store.sql.ops import Call
from proxy.store.sql.states import SqlStates
from proxy.store.sql.threads import SHORT, SqlThreads
from proxy.store.sql.workflows import SqlWorkflows
from proxy.store.sql.writer import Writer
from proxy.store.statements import records, sights

logger = structlog.get_logger(__name__)


class SqlStore(SqlInserts, SqlClaims, SqlThreads, SqlAssistants, SqlCrons, SqlStates, SqlWorkflows, ABC):
    """The store port over a SQL database; what opens it is its own."""

    def __init__(self, lease: Lease | None = None, signals: Signals | None = None, live: Live | None = None) -> None:
        super().__init__()
        self.lease = lease or Lease()
        self.signals = signals or Signals()
        self._fast = live
        self._logs = LiveLogs(self._page, self._look, lease=self.lease, signals=self.signals, shared=self.shared)
        self._bells = Bells(self.signals, self._workflow_ends) if self.shared else Bells()
        self._opened = False
        self._reader: Reader
        self._writer: Writer
        self._journal: StoreJournal

    @abstractmethod
    def version(self) -> str | None: ...

    @abstractmethod
    async def open(self, *, migrate: bool = True) -> None: ...

    def _read_and_write(self, writer: Writer, reader: Reader) -> None:
        """The database is as it should be: begin."""
        self._writer = writer
        self._reader = reader
        self._journal = StoreJournal(writer, self._logs, shared=self.shared, live=self._fast)
        self._opened = True

    def _expected(self) -> int:
        """Runs that are not on disk yet: they will be when they end, if that is soon."""
        return len(self._journal.fresh)

    async def ping(self) -> None:
        if self._writer.failing:
            await self._writer.call(records.touch, fenced=False)
        await self._reader.read(records.reach)

    async def close(self) -> None:
        if not self._opened:
            return
        self._opened = False
        self._bells.close()
        await self._journal.close()
        self._logs.close()
        self._reader.close()
        await self._writer.close()

    async def get(self, tenant: str, run_id: str) -> Run | None:
        log = self._logs.get(run_id)
        if log is not None:
            return log.run if log.run.tenant == tenant else None
        return await self._reader.read(records.get, tenant, run_id)

    async def find(self, query: RunQuery) -> list[Run]:
        fresh = [log.run for log in self._journal.fresh.values() if query.matches(log.run)]
        if not fresh:
            return await self._reader.read(records.find, query)
        most = query.offset + query.limit
        stored = await self._reader.read(records.find, msgspec.structs.replace(query, limit=most, offset=0))
        runs = {run.run_id: run for run in (*stored, *fresh)}
        return [runs[run_id] for run_id in sorted(runs, reverse=True)][query.offset : most]

    async def transition(self, run: Run, *, frm: frozenset[RunStatus]) -> bool:
        log = self._logs.get(run.run_id)
        while log is not None and run.run_id in self._journal.fresh:
            await self._journal.store(log)
        changed = await self._writer.call(records.transition, run, frm)
        if changed and log is not None and not log.ended:
            log.run = run
        return changed

    async def delete(self, tenant: str, run_id: str) -> bool:
        gone = await self._writer.call(records.remove, tenant, [run_id])
        if gone:
            self._logs.drop(run_id)
        return gone > 0

    async def strip(self, run: Run) -> None:
        log = self._logs.get(run.run_id)
        if self.shared or (log is not None and log.followed):
            self._logs.when_left(run.run_id, partial(self._strip, run))
        else:
            await self._writer.call(records.strip, run)

    def _strip(self, run: Run) -> None:
        def look(done: asyncio.Future[None]) -> None:
            if done.exception() is not None:
                logger.error("content that is not to be kept could not be deleted", run_id=run.run_id)

        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(look)
        self._writer.send(Call(done, records.strip, (run,)))

    async def calling(self, *, limit: int) -> list[Run]:
        return await self._writer.call(records.calling, self.lease.owner, limit)

    async def called(self, tenant: str, run_id: str) -> bool:
        changed = await self._writer.call(records.called, tenant, run_id)
        if (log := self._logs.get(run_id)) is not None and log.run.tenant == tenant and log.ended:
            log.run = msgspec.structs.replace(log.run, webhook=None)
        return changed

    async def pauses(
        self, tenant: str, thread_id: str | None = None, *, agent: str | None = None, answered: bool = False
    ) -> list[Pause]:
        return await self._reader.read(records.pauses, tenant, thread_id, agent, answered)

    async def drop_pause(self, tenant: str, run_id: str) -> None:
        await self._writer.call(records.drop_pause, tenant, run_id)

    async def sweep(self, *, before: float, keep: int, gone: float = 0.0) -> list[Run]:
        old = await self._reader.read(records.spare, before, keep, gone)
        for tenant, runs in groupby(sorted(old, key=lambda run: run.tenant), key=lambda run: run.tenant):
            run_ids = [run.run_id for run in runs]
            for start in range(0, len(run_ids), SHORT):
                await self._writer.call(records.remove, tenant, run_ids[start : start + SHORT])
        for run in old:
            self._logs.drop(run.run_id)
        if names := await self._reader.read(records.orphans):
            await self._writer.call(records.forget, names)
        return old

    def begin(self, run: Run, *, inserted: bool, after: int = 0) -> LiveLog:
        if not inserted:
            run = msgspec.structs.replace(run, owner=self.lease.owner)
        log = LiveLog(run, self._journal, inserted=inserted, after=after, lease=self.lease)
        self._journal.begin(log)
        return log

    async def read(self, run_id: str, *, after: int, limit: int) -> list[Entry]:
        return await self._logs.read(run_id, after, limit)

    def follow(
        self,
        run_id: str,
        *,
        after: int = 0,
        idle: float = 15.0,
        first: float | None = None,
        sink: Sink | None = None,
    ) -> AsyncGenerator[list[Entry]]:
        return self._logs.follow(run_id, after, idle, first, sink)

    async def last(self, run_id: str) -> int:
        return await self._logs.last(run_id)

    def leave_logs(self) -> None:
        self._logs.let_go()

    async def _look(self, asked: Sequence[tuple[str, int]]) -> dict[str, Sight]:
        return await self._reader.read(sights.standing, asked)

    async def _workflow_ends(self, names: Sequence[tuple[str, str]]) -> dict[str, int]:
        return await self._reader.read(sights.workflow_ends, names)

    async def _page(self, run_id: str, after: int, limit: int) -> Page:
        return await self._reader.read(records.page, run_id, after, limit)

"""Who runs what in a SQL store; see `proxy.store.claims` for the contracts.

Here a store is one process's own; what processes that share one have besides overrides this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from proxy.model import Action, Run, RunStatus
from proxy.store.alone import Alone
from proxy.store.claims import Lost
from proxy.store.holds import Holds, Key
from proxy.store.logs.journal import StoreJournal
from proxy.store.logs.livelogs import LiveLogs
from proxy.store.signals import Signals, Topic
from proxy.store.sql.engine import Reader
from proxy.store.sql.writer import Writer
from proxy.store.statements import queue
from proxy.store.statements.queue import Asked


class SqlClaims(Alone):
    """The part of a store that gives runs to whom runs them."""

    shared = False
    signals: Signals
    _logs: LiveLogs
    _reader: Reader
    _writer: Writer
    _journal: StoreJournal

    def __init__(self) -> None:
        super().__init__()
        self._holds = Holds()
        self._claims = asyncio.Lock()
        """Had while runs are claimed: who holds a thread waits for it once, and finds all that was started."""

    async def claim(self, agents: Collection[str], *, limit: int) -> list[Run]:
        async with self._claims:
            fresh = (log.run for log in self._journal.fresh.values() if not log.run.temporary)
            blocked = self._holds.held | {(run.tenant, run.thread_id) for run in fresh}
            return await self._writer.call(queue.claim, self.lease.owner, Asked(agents, limit, blocked))

    async def take(self, tenant: str, run_id: str) -> Run | None:
        return await self._writer.call(queue.take, self.lease.owner, tenant, run_id)

    async def take_stranded(self, agents: Collection[str], *, before: float, limit: int) -> list[Run]:
        return await self._writer.call(queue.take_stranded, self.lease.owner, agents, before, limit)

    async def take_lost(self, *, limit: int, strays: Collection[Run] = ()) -> list[Lost]:
        named = [queue.name(run) for run in strays]
        return await self._writer.call(queue.take_lost, self.lease.owner, limit, named)

    async def strays(self) -> list[Run]:
        begun = {log.run_id for log in self._logs.all()}
        return await self._reader.read(queue.strays, self.lease.owner, begun)

    async def due_at(self, agents: Collection[str]) -> float | None:
        return await self._reader.read(queue.due_at, agents)

    async def waiting(self) -> dict[tuple[str, str], int]:
        return await self._reader.read(queue.waiting)

    async def release(self, run: Run) -> bool:
        await self._journal.hand_over(run.run_id)
        released = await self._writer.call(queue.release, self.lease.owner, run)
        if released:
            self._change(run.run_id, status=RunStatus.PENDING, owner=None, attempt=run.attempt)
        return released

    async def ask_cancel(self, tenant: str, run_id: str, action: Action) -> Run | None:
        run = await self._writer.call(queue.ask_cancel, tenant, run_id, action)
        if run is not None and run.cancel is not None:
            self._change(run_id, cancel=run.cancel)
        log = self._logs.get(run_id)
        return run if log is None or log.run.tenant != tenant else log.run

    def _change(self, run_id: str, **changes: Any) -> None:
        """The record of a run has changed in the store, of which this process may know more than the store."""
        log = self._logs.get(run_id)
        if log is not None and not log.ended:
            log.run = msgspec.structs.replace(log.run, **changes)

    async def to_cancel(self) -> list[Run]:
        return await self._reader.read(queue.to_cancel, self.lease.owner)

    @asynccontextmanager
    async def hold(self, tenant: str, thread_id: str) -> AsyncIterator[None]:
        key = tenant, thread_id
        try:
            async with self._holds.hold(key):
                async with self._claims:
                    pass  # what is being claimed now may be a run of this thread
                async with self._hold(key):
                    yield
        finally:
            self.signals.ring([(Topic.QUEUE, "")])

    @asynccontextmanager
    async def _hold(self, key: Key) -> AsyncIterator[None]:
        """Keep other processes off a thread; here there are none."""
        yield

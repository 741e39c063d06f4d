"""The threads of a SQL store; see `proxy.store.base` for the contracts."""

from __future__ import annotations

from typing import Any, Literal

from proxy.errors import Busy
from proxy.model import Lifetime, Thread, ThreadOutcome
from proxy.store.base import ThreadQuery
from proxy.store.logs.journal import StoreJournal
from proxy.store.logs.livelogs import LiveLogs
from proxy.store.sql.engine import Reader
from proxy.store.sql.writer import Writer
from proxy.store.statements import records, threads

SHORT = 100
"""Runs that one transaction deletes, so that the end of a run never waits long for it."""


class SqlThreads:
    """The part of a store that keeps threads."""

    _logs: LiveLogs
    _reader: Reader
    _writer: Writer
    _journal: StoreJournal

    async def insert_thread(self, thread: Thread, *, if_exists: Literal["raise", "do_nothing"] = "raise") -> Thread:
        live = self._live(thread.tenant)
        return await self._writer.call(threads.put, thread, live, if_exists == "raise")

    async def get_thread(self, tenant: str, thread_id: str) -> Thread | None:
        return await self._reader.read(threads.get, tenant, thread_id, self._live(tenant))

    async def patch_thread(
        self, tenant: str, thread_id: str, *, metadata: dict[str, Any], lifetime: Lifetime | None = None
    ) -> Thread | None:
        if not await self._writer.call(threads.patch, (tenant, thread_id), metadata, lifetime):
            return None
        return await self.get_thread(tenant, thread_id)

    async def leave_thread(self, tenant: str, thread_id: str, outcome: ThreadOutcome) -> bool:
        return await self._writer.call(threads.leave, tenant, thread_id, outcome)

    async def delete_thread(self, tenant: str, thread_id: str) -> bool:
        for log in self._journal.fresh.values():
            run = log.run
            if (run.tenant, run.thread_id) == (tenant, thread_id) and not run.ended:
                raise Busy(f"The thread is busy with run {run.run_id}.", run_id=run.run_id)
        gone, run_ids = await self._writer.call(threads.remove, tenant, thread_id)
        for start in range(0, len(run_ids), SHORT):
            await self._writer.call(records.remove, tenant, run_ids[start : start + SHORT])
        for run_id in run_ids:
            self._logs.drop(run_id)
        return gone or bool(run_ids)

    async def find_threads(self, query: ThreadQuery) -> list[Thread]:
        return await self._reader.read(threads.find, query, self._live(query.tenant))

    async def count_threads(self, query: ThreadQuery) -> int:
        return await self._reader.read(threads.count, query, self._live(query.tenant))

    async def expired_threads(self, now: float, *, limit: int) -> list[Thread]:
        found = await self._reader.read(threads.expired, now, limit)
        return [thread for thread in found if thread.thread_id not in self._live(thread.tenant)]

    async def mark_swept(self, tenant: str, thread_id: str) -> None:
        await self._writer.call(threads.mark_swept, tenant, thread_id)

    def _live(self, tenant: str) -> frozenset[str]:
        """Threads that are busy by runs that are not on disk yet."""
        runs = [log.run for log in self._journal.fresh.values()]
        return frozenset(run.thread_id for run in runs if run.tenant == tenant and not run.ended and not run.temporary)

"""How runs come into a SQL store; see `proxy.store.base` for the contracts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from proxy.model import ACTIVE, Action, Idempotency, Run, Thread
from proxy.store.admission import placed
from proxy.store.holds import Holds
from proxy.store.lease import Lease
from proxy.store.logs.journal import StoreJournal
from proxy.store.logs.livelogs import LiveLogs
from proxy.store.signals import Signals, Topic
from proxy.store.sql.writer import Writer
from proxy.store.statements import inserts, locks
from proxy.store.statements.inserts import Newcomer

AGAIN = 0.005
"""Seconds until a run is tried again that another process was in the way of."""


class SqlInserts:
    """The part of a store that takes new runs."""

    lease: Lease
    signals: Signals
    _holds: Holds
    _logs: LiveLogs
    _writer: Writer
    _journal: StoreJournal

    async def insert(
        self, run: Run, *, idempotency: Idempotency | None = None, thread: Thread | None = None, most: int = 0
    ) -> Run:
        new = Newcomer(run=run, owner=self.lease.owner, idempotency=idempotency, thread=thread, most=most)
        if run.temporary:
            return await self._insert(new)
        async with self._holds.of((run.tenant, run.thread_id)):
            stored = await self._insert(new)
            if stored.run_id == run.run_id and run.choices.strategy in ("interrupt", "rollback"):
                self._mark_others(run, "rollback" if run.choices.strategy == "rollback" else "interrupt")
            return stored

    async def _insert(self, new: Newcomer) -> Run:
        while True:
            try:
                stored = await self._writer.insert(self._completed(new))
            except locks.Held:
                await asyncio.sleep(AGAIN)
            else:
                log = self._logs.get(stored.run_id)
                return stored if log is None else log.run

    def _completed(self, new: Newcomer) -> Newcomer:
        """What is in the store is looked at there; this adds what is not in it yet."""
        run = new.run
        counted = self._fresh(lambda other: (other.tenant, other.agent) == (run.tenant, run.agent)) if new.most else []
        if not run.temporary:
            run = placed(run, [(other.status, other.not_before, other.run_id) for other in self._fresh(_beside(run))])
        ids = frozenset(other.run_id for other in counted)
        return msgspec.structs.replace(new, run=run, owner=self.lease.owner, unwritten=ids)

    def _fresh(self, which: Callable[[Run], bool]) -> list[Run]:
        """Runs that have not ended and may not be in the store yet."""
        return [log.run for log in self._journal.fresh.values() if log.run.status in ACTIVE and which(log.run)]

    def _mark_others(self, run: Run, action: Action) -> None:
        """Of runs that are marked as to be cancelled, this process may know more than the store."""
        beside = _beside(run)
        for log in self._logs.all():
            if not log.ended and beside(log.run) and log.run.cancel is None:
                log.run = msgspec.structs.replace(log.run, cancel=action)
                self.signals.ring([(Topic.CANCEL, log.run.run_id)])

    async def cancel_key(self, tenant: str, key: str) -> str | None:
        return await self._writer.call(inserts.cancel_key, tenant, key)


def _beside(run: Run) -> Callable[[Run], bool]:
    """Whether a run shares its thread with this one, which is another."""

    def beside(other: Run) -> bool:
        same = (other.tenant, other.thread_id) == (run.tenant, run.thread_id)
        return same and other.run_id != run.run_id and not other.temporary

    return beside

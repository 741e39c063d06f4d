"""`memory://`: everything in this process, gone with it. For tests and for throw-away servers."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator
from itertools import islice

import msgspec

from proxy.errors import Busy, Conflict
from proxy.events import NULL, Entry
from proxy.model import ACTIVE, Idempotency, Pause, Run, RunStatus
from proxy.store.base import RunQuery
from proxy.store.runlog import LiveLog, LiveLogs


class MemoryStore:
    """The store port over dictionaries; see `proxy.store.base` for the contracts."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], Run] = {}
        self._keys: dict[tuple[str, str], tuple[str, str]] = {}
        self._pauses: dict[str, Pause] = {}
        self._logs = LiveLogs(self._nothing)

    async def open(self) -> None: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...

    async def insert(self, run: Run, *, idempotency: Idempotency | None = None, exclusive: bool = False) -> Run:
        if idempotency is not None and (known := self._keys.get((run.tenant, idempotency.key))):
            run_id, fingerprint = known
            if fingerprint != idempotency.fingerprint:
                raise Conflict("This idempotency key was used for another request.")
            return self._runs[run.tenant, run_id]
        if exclusive and (other := self._active(run.tenant, run.thread_id)):
            raise Busy(f"The thread is busy with run {other.run_id}.", run_id=other.run_id)
        if idempotency is not None:
            self._keys[run.tenant, idempotency.key] = (run.run_id, idempotency.fingerprint)
        self._runs[run.tenant, run.run_id] = run
        return run

    def _active(self, tenant: str, thread_id: str) -> Run | None:
        runs = (r for (t, _), r in self._runs.items() if t == tenant and r.thread_id == thread_id)
        return next((run for run in runs if run.status in ACTIVE), None)

    async def get(self, tenant: str, run_id: str) -> Run | None:
        return self._runs.get((tenant, run_id))

    async def find(self, query: RunQuery) -> list[Run]:
        found = (run for run in reversed(self._runs.values()) if self._fits(run, query))
        return list(islice(found, query.offset, query.offset + query.limit))

    @staticmethod
    def _fits(run: Run, query: RunQuery) -> bool:
        return (
            run.tenant == query.tenant
            and query.thread_id in (None, run.thread_id)
            and query.group in (None, run.group)
            and (query.statuses is None or run.status in query.statuses)
        )

    async def transition(self, run: Run, *, frm: frozenset[RunStatus]) -> bool:
        known = self._runs.get((run.tenant, run.run_id))
        if known is None or known.status not in frm:
            return False
        self._runs[run.tenant, run.run_id] = run
        return True

    async def delete(self, tenant: str, run_id: str) -> bool:
        run = self._runs.get((tenant, run_id))
        if run is None or not run.ended:
            return False
        del self._runs[tenant, run_id]
        self._keys = {name: value for name, value in self._keys.items() if value[0] != run_id}
        self._pauses.pop(run_id, None)
        self._logs.drop(run_id)
        return True

    async def strip(self, run: Run) -> None:
        known = self._runs.get((run.tenant, run.run_id))
        if known is not None:
            self._runs[run.tenant, run.run_id] = msgspec.structs.replace(known, input=NULL)
        if (log := self._logs.get(run.run_id)) is not None:
            log.strip()

    async def unfinished(self) -> list[tuple[Run, int]]:
        return []

    async def pauses(self, tenant: str, thread_id: str | None = None, *, agent: str | None = None) -> list[Pause]:
        now = time.time()
        return [
            pause
            for pause in reversed(self._pauses.values())
            if pause.tenant == tenant
            and pause.answered_by is None
            and pause.expires_at > now
            and thread_id in (None, pause.thread_id)
            and agent in (None, pause.agent)
        ]

    async def answer(self, pause: Pause, by: str) -> bool:
        known = self._pauses.get(pause.run_id)
        if known is None or known.answered_by is not None:
            return False
        self._pauses[pause.run_id] = msgspec.structs.replace(known, answered_by=by)
        return True

    async def sweep(self, *, before: float, keep: int) -> list[Run]:
        ended = [run for run in self._runs.values() if run.ended]
        spare = len(ended) - keep if keep else 0
        old = [run for i, run in enumerate(ended) if i < spare or run.updated_at < before]
        for run in old:
            await self.delete(run.tenant, run.run_id)
        return old

    def begin(self, run: Run, *, inserted: bool, after: int = 0) -> LiveLog:
        self._runs[run.tenant, run.run_id] = run
        log = LiveLog(run, self, inserted=True, after=after)
        log.stored = sys.maxsize
        self._logs.add(log)
        return log

    async def read(self, run_id: str, *, after: int, limit: int) -> list[Entry]:
        return await self._logs.read(run_id, after, limit)

    def follow(self, run_id: str, *, after: int = 0, idle: float = 15.0) -> AsyncGenerator[list[Entry]]:
        return self._logs.follow(run_id, after, idle)

    def queue(self, log: LiveLog) -> None:
        """Never called: nothing is behind this memory, so all counts as stored and nothing leaves it."""

    async def commit(self, log: LiveLog, final: Entry, run: Run, pause: Pause | None) -> None:
        self._runs[run.tenant, run.run_id] = run
        if pause is not None:
            self._pauses[run.run_id] = pause

    async def _nothing(self, run_id: str, after: int, limit: int) -> list[Entry]:
        return []

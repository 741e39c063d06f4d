"""`memory://`: everything in this process, gone with it. For tests and for throw-away servers."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator
from typing import Any, Literal

import msgspec

from proxy.errors import Busy, Conflict, NotWaiting
from proxy.events import NULL, Entry
from proxy.model import ACTIVE, Idempotency, Lifetime, Pause, Run, RunStatus, Thread, ThreadOutcome
from proxy.store.base import CANCELLED_KEY, KEY_AGE, SWEEP, RunQuery, ThreadQuery, joined, placed
from proxy.store.feeds import Sink
from proxy.store.livelogs import LiveLogs, Page
from proxy.store.memory_assistants import MemoryAssistants
from proxy.store.memory_crons import MemoryCrons
from proxy.store.memory_states import MemoryStates
from proxy.store.memory_workflows import MemoryWorkflows
from proxy.store.runlog import LiveLog


class Used(msgspec.Struct, frozen=True):
    """What an idempotency key was used for, and when (seconds since 1970)."""

    run_id: str
    fingerprint: str
    at: float


class MemoryStore(MemoryAssistants, MemoryCrons, MemoryStates, MemoryWorkflows):
    """The store port over dictionaries; see `proxy.store.base` for the contracts."""

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[tuple[str, str], Run] = {}
        self._keys: dict[tuple[str, str], Used] = {}
        self._pauses: dict[str, Pause] = {}
        self._threads: dict[tuple[str, str], Thread] = {}
        self._swept: dict[tuple[str, str], float] = {}
        """When threads outlived themselves last, by their names."""
        self._logs = LiveLogs(self._nothing)

    async def open(self) -> None: ...

    async def ping(self) -> None: ...

    async def close(self) -> None:
        self._bells.close()

    async def insert(self, run: Run, *, idempotency: Idempotency | None = None, thread: Thread | None = None) -> Run:
        used = None if idempotency is None else self._keys.get((run.tenant, idempotency.key))
        if used is not None and idempotency is not None and used.run_id != CANCELLED_KEY:
            known = self._runs.get((run.tenant, used.run_id))
            return joined(known, same=used.fingerprint == idempotency.fingerprint)
        if used is not None:
            run = msgspec.structs.replace(run, status=RunStatus.PENDING, cancel="interrupt")
        elif not run.temporary:
            others = self._active(run.tenant, run.thread_id)
            run = placed(run, [(other.status, other.not_before, other.run_id) for other in others])
        if run.resumes is not None:
            self._answer(run, run.resumes)
        if not run.temporary:
            self._close_pauses(run)
        if thread is not None:
            self._ensure_thread(thread)
        if idempotency is not None:
            self._keys[run.tenant, idempotency.key] = Used(run.run_id, idempotency.fingerprint, time.time())
        self._runs[run.tenant, run.run_id] = run
        return run

    async def cancel_key(self, tenant: str, key: str) -> str | None:
        used = self._keys.setdefault((tenant, key), Used(CANCELLED_KEY, "", time.time()))
        return used.run_id or None

    def _close_pauses(self, run: Run) -> None:
        for pause in self._pauses.values():
            if (pause.tenant, pause.thread_id, pause.answered_by) == (run.tenant, run.thread_id, None):
                self._pauses[pause.run_id] = msgspec.structs.replace(pause, answered_by=run.run_id)

    def _reopen_pauses(self, run: Run) -> None:
        for pause in self._pauses.values():
            if (pause.tenant, pause.answered_by) == (run.tenant, run.run_id):
                self._pauses[pause.run_id] = msgspec.structs.replace(pause, answered_by=None)

    def _ensure_thread(self, thread: Thread) -> None:
        known = self._threads.setdefault((thread.tenant, thread.thread_id), thread)
        metadata = {**known.metadata, **thread.metadata}
        self._threads[thread.tenant, thread.thread_id] = msgspec.structs.replace(known, metadata=metadata)

    def _answer(self, run: Run, paused: str) -> None:
        known = self._pauses.get(paused)
        if known is None or known.tenant != run.tenant or known.answered_by is not None:
            raise NotWaiting
        self._pauses[paused] = msgspec.structs.replace(known, answered_by=run.run_id)

    def _active(self, tenant: str, thread_id: str) -> list[Run]:
        query = RunQuery(tenant=tenant, thread_id=thread_id, statuses=ACTIVE)
        return [run for run in self._runs.values() if query.matches(run) and not run.temporary]

    async def get(self, tenant: str, run_id: str) -> Run | None:
        return self._runs.get((tenant, run_id))

    async def find(self, query: RunQuery) -> list[Run]:
        found = sorted((run for run in self._runs.values() if query.matches(run)), key=lambda run: run.run_id)
        return found[::-1][query.offset : query.offset + query.limit]

    async def transition(self, run: Run, *, frm: frozenset[RunStatus]) -> bool:
        known = self._runs.get((run.tenant, run.run_id))
        if known is None or known.status not in frm:
            return False
        self._runs[run.tenant, run.run_id] = run
        if (log := self._logs.get(run.run_id)) is not None:
            log.run = run
        return True

    async def delete(self, tenant: str, run_id: str) -> bool:
        run = self._runs.get((tenant, run_id))
        if run is None or not run.ended:
            return False
        del self._runs[tenant, run_id]
        self._pauses.pop(run_id, None)
        self._logs.drop(run_id)
        self._drop_left(tenant, run.thread_id)
        return True

    async def strip(self, run: Run) -> None:
        self._logs.when_left(run.run_id, lambda: self._strip(run))

    def _strip(self, run: Run) -> None:
        known = self._runs.get((run.tenant, run.run_id))
        if known is None or not known.ended:
            return
        self._runs[run.tenant, run.run_id] = msgspec.structs.replace(known, input=NULL)
        if (log := self._logs.get(run.run_id)) is not None:
            log.strip()

    async def calling(self, *, limit: int) -> list[Run]:
        waiting = [run for run in self._runs.values() if run.ended and run.webhook is not None]
        oldest = sorted(waiting, key=lambda run: run.updated_at)[:limit]
        return [msgspec.structs.replace(run, input=NULL) for run in oldest]

    async def called(self, tenant: str, run_id: str) -> bool:
        known = self._runs.get((tenant, run_id))
        if known is None or not known.ended:
            return False
        return await self.transition(msgspec.structs.replace(known, webhook=None), frm=frozenset({known.status}))

    async def unfinished(self) -> list[tuple[Run, int]]:
        return []

    async def pauses(
        self, tenant: str, thread_id: str | None = None, *, agent: str | None = None, answered: bool = False
    ) -> list[Pause]:
        now = time.time()
        return [
            pause
            for pause in reversed(self._pauses.values())
            if pause.tenant == tenant
            and (pause.answered_by is not None) is answered
            and pause.expires_at > now
            and thread_id in (None, pause.thread_id)
            and agent in (None, pause.agent)
        ]

    async def drop_pause(self, tenant: str, run_id: str) -> None:
        known = self._pauses.get(run_id)
        if known is not None and known.tenant == tenant and known.answered_by is None:
            del self._pauses[run_id]

    async def sweep(self, *, before: float, keep: int, gone: float = 0.0) -> list[Run]:
        ended = sorted((run for run in self._runs.values() if run.ended), key=lambda run: run.updated_at)
        spare = len(ended) - keep if keep else 0
        old = [
            run for i, run in enumerate(ended) if i < spare or run.updated_at < before or (run.gone_at or gone) < gone
        ]
        old = old[:SWEEP]
        for run in old:
            await self.delete(run.tenant, run.run_id)
        self._forget_keys()
        return old

    def _forget_keys(self) -> None:
        young = time.time() - KEY_AGE
        self._keys = {
            (tenant, key): used
            for (tenant, key), used in self._keys.items()
            if used.at > young or (tenant, used.run_id) in self._runs
        }

    async def insert_thread(self, thread: Thread, *, if_exists: Literal["raise", "do_nothing"] = "raise") -> Thread:
        known = await self.get_thread(thread.tenant, thread.thread_id)
        if known is None:
            self._threads[thread.tenant, thread.thread_id] = thread
        elif if_exists == "raise":
            raise Conflict(f"There is a thread {thread.thread_id} already.")
        return known or self._as_it_is(thread)

    async def get_thread(self, tenant: str, thread_id: str) -> Thread | None:
        known = self._threads.get((tenant, thread_id))
        return None if known is None else self._as_it_is(known)

    def _as_it_is(self, thread: Thread) -> Thread:
        return msgspec.structs.replace(thread, busy=bool(self._active(thread.tenant, thread.thread_id)))

    async def patch_thread(
        self, tenant: str, thread_id: str, *, metadata: dict[str, Any], lifetime: Lifetime | None = None
    ) -> Thread | None:
        known = self._threads.get((tenant, thread_id))
        if known is not None:
            self._threads[tenant, thread_id] = msgspec.structs.replace(
                known,
                metadata={**known.metadata, **metadata},
                lifetime=lifetime or known.lifetime,
                updated_at=time.time(),
            )
        return await self.get_thread(tenant, thread_id)

    async def leave_thread(self, tenant: str, thread_id: str, outcome: ThreadOutcome) -> bool:
        known = self._threads.get((tenant, thread_id))
        if known is None:
            return False
        now, values = time.time(), known.outcome.values if outcome.values is None else outcome.values
        self._threads[tenant, thread_id] = msgspec.structs.replace(
            known,
            outcome=msgspec.structs.replace(outcome, values=values),
            updated_at=now,
            state_updated_at=now,
        )
        return True

    async def delete_thread(self, tenant: str, thread_id: str) -> bool:
        query = RunQuery(tenant=tenant, thread_id=thread_id, gone=True)
        runs = [run for run in self._runs.values() if query.matches(run)]
        if active := next((run for run in runs if not run.ended), None):
            raise Busy(f"The thread is busy with run {active.run_id}.", run_id=active.run_id)
        for run in runs:
            await self.delete(tenant, run.run_id)
        await self.cut_states(tenant, thread_id)
        self._swept.pop((tenant, thread_id), None)
        return self._threads.pop((tenant, thread_id), None) is not None or bool(runs)

    async def find_threads(self, query: ThreadQuery) -> list[Thread]:
        found = [thread for thread in map(self._as_it_is, self._threads.values()) if query.matches(thread)]
        found.sort(key=lambda thread: _order(thread, query.sort_by), reverse=query.descending)
        return found[query.offset : query.offset + query.limit]

    async def count_threads(self, query: ThreadQuery) -> int:
        return sum(query.matches(self._as_it_is(thread)) for thread in self._threads.values())

    async def expired_threads(self, now: float, *, limit: int) -> list[Thread]:
        found = [self._as_it_is(thread) for thread in self._threads.values() if self._expired(thread, now)]
        return sorted((thread for thread in found if not thread.busy), key=lambda thread: thread.updated_at)[:limit]

    def _expired(self, thread: Thread, now: float) -> bool:
        swept = self._swept.get((thread.tenant, thread.thread_id), 0.0) >= thread.updated_at
        return thread.lifetime is not None and not swept and thread.updated_at + thread.lifetime.ttl * 60 < now

    async def mark_swept(self, tenant: str, thread_id: str) -> None:
        if (tenant, thread_id) in self._threads:
            self._swept[tenant, thread_id] = time.time()

    def begin(self, run: Run, *, inserted: bool, after: int = 0) -> LiveLog:
        self._runs[run.tenant, run.run_id] = run
        log = LiveLog(run, self, inserted=True, after=after)
        log.stored = sys.maxsize
        self._logs.add(log)
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

    def queue(self, log: LiveLog) -> None:
        """Never called: nothing is behind this memory, so all counts as stored and nothing leaves it."""

    def hurry(self) -> None:
        """Never called either."""

    async def commit(
        self, log: LiveLog, final: Entry, run: Run, pause: Pause | None, thread: ThreadOutcome | None
    ) -> None:
        self._runs[run.tenant, run.run_id] = run
        if thread is not None:
            await self.leave_thread(run.tenant, run.thread_id, thread)
        if pause is not None:
            self._pauses[run.run_id] = pause
        if run.gone_at is not None:
            self._reopen_pauses(run)
        log.finish(final, run)

    async def _nothing(self, run_id: str, after: int, limit: int) -> Page:
        return Page([])


def _order(thread: Thread, key: str) -> tuple[bool, Any, str]:
    value = getattr(thread, key)
    return value is not None, value or 0.0, thread.thread_id

"""`memory://`: everything in this process, gone with it. For tests and for throw-away servers."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Sequence

import msgspec

from proxy.errors import Busy
from proxy.events import NULL, Entry
from proxy.model import Idempotency, Pause, Run, RunStatus, Thread, ThreadOutcome, new_id
from proxy.store.admission import CANCELLED_KEY, check_room, is_taken, joined, placed
from proxy.store.base import KEY_AGE, SWEEP, RunQuery
from proxy.store.logs.feeds import Sink
from proxy.store.logs.livelogs import LiveLogs, Page
from proxy.store.logs.runlog import LiveLog
from proxy.store.logs.tails import Sight
from proxy.store.memory.assistants import MemoryAssistants
from proxy.store.memory.claims import QUEUE, MemoryClaims
from proxy.store.memory.crons import MemoryCrons
from proxy.store.memory.pauses import MemoryPauses
from proxy.store.memory.states import MemoryStates
from proxy.store.memory.threads import MemoryThreads
from proxy.store.memory.workflows import MemoryWorkflows
from proxy.store.signals import made


class Used(msgspec.Struct, frozen=True):
    """What an idempotency key was used for, and when (seconds since 1970)."""

    run_id: str
    fingerprint: str
    at: float


class MemoryStore(
    MemoryClaims, MemoryPauses, MemoryThreads, MemoryAssistants, MemoryCrons, MemoryStates, MemoryWorkflows
):
    """The store port over dictionaries; see `proxy.store.base` for the contracts."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[tuple[str, str], Used] = {}
        self._logs = LiveLogs(self._nothing, self._look, lease=self.lease, signals=self.signals)

    def version(self) -> str | None:
        return None

    async def open(self, *, migrate: bool = True) -> None:
        self.lease.owner = new_id()

    async def ping(self) -> None: ...

    async def close(self) -> None:
        self._bells.close()
        self._logs.close()

    async def insert(
        self, run: Run, *, idempotency: Idempotency | None = None, thread: Thread | None = None, most: int = 0
    ) -> Run:
        if run.temporary:
            return self._insert(run, idempotency, thread, most)
        async with self._holds.of((run.tenant, run.thread_id)):
            return self._insert(run, idempotency, thread, most)

    def _insert(self, run: Run, idempotency: Idempotency | None, thread: Thread | None, most: int) -> Run:
        used = None if idempotency is None else self._keys.get((run.tenant, idempotency.key))
        if used is not None and idempotency is not None and used.run_id != CANCELLED_KEY:
            known = self._runs.get((run.tenant, used.run_id))
            return joined(known, same=used.fingerprint == idempotency.fingerprint)
        check_room(self._count(run.tenant, run.agent) if most else 0, most)
        others = self._others(run)
        beside = [(other.status, other.not_before, other.run_id) for other in others]
        if used is not None:
            run, others, beside = msgspec.structs.replace(run, status=RunStatus.PENDING, cancel="interrupt"), [], []
        run = placed(run, beside)
        if run.resumes is not None:
            self._answer(run, run.resumes)
        if not run.temporary:
            self._close_pauses(run)
        if thread is not None:
            self._ensure_thread(thread)
        if idempotency is not None:
            self._keys[run.tenant, idempotency.key] = Used(run.run_id, idempotency.fingerprint, time.time())
        run = self._put(
            msgspec.structs.replace(run, owner=self.lease.owner if run.status is RunStatus.RUNNING else None)
        )
        if not run.temporary:
            self._tell(made(run))
        if run.choices.strategy in ("interrupt", "rollback"):
            self._mark(others, "rollback" if run.choices.strategy == "rollback" else "interrupt")
        if run.status is RunStatus.PENDING and (run.not_before is not None or not is_taken(beside)):
            self._tell(QUEUE)  # or else the end of another does
        return run

    async def cancel_key(self, tenant: str, key: str) -> str | None:
        used = self._keys.setdefault((tenant, key), Used(CANCELLED_KEY, "", time.time()))
        return used.run_id or None

    async def get(self, tenant: str, run_id: str) -> Run | None:
        return self._runs.get((tenant, run_id))

    async def find(self, query: RunQuery) -> list[Run]:
        found = sorted((run for run in self._runs.values() if query.matches(run)), key=lambda run: run.run_id)
        return found[::-1][query.offset : query.offset + query.limit]

    async def transition(self, run: Run, *, frm: frozenset[RunStatus]) -> bool:
        known = self._runs.get((run.tenant, run.run_id))
        if known is None or known.status not in frm:
            return False
        self._put(run)
        if run.status is RunStatus.PENDING:
            self._tell(QUEUE)
        return True

    async def delete(self, tenant: str, run_id: str) -> bool:
        run = self._runs.get((tenant, run_id))
        if run is None or not run.ended:
            return False
        self._drop((tenant, run_id))
        self._pauses.pop(run_id, None)
        self._logs.drop(run_id)
        self._drop_left(tenant, run.thread_id)
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

    async def strip(self, run: Run) -> None:
        self._logs.when_left(run.run_id, lambda: self._strip(run))

    def _strip(self, run: Run) -> None:
        known = self._runs.get((run.tenant, run.run_id))
        if known is None or not known.ended:
            return
        self._put(msgspec.structs.replace(known, input=NULL))
        if (log := self._logs.get(run.run_id)) is not None:
            log.strip()

    async def calling(self, *, limit: int) -> list[Run]:
        waiting = [run for run in self._runs.values() if run.ended and run.webhook is not None]
        oldest = sorted(waiting, key=lambda run: run.updated_at)[:limit]
        mine = [self._put(msgspec.structs.replace(run, owner=self.lease.owner)) for run in oldest]
        return [msgspec.structs.replace(run, input=NULL) for run in mine]

    async def called(self, tenant: str, run_id: str) -> bool:
        known = self._runs.get((tenant, run_id))
        if known is None or not known.ended:
            return False
        self._put(msgspec.structs.replace(known, webhook=None))
        return True

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

    def begin(self, run: Run, *, inserted: bool, after: int = 0) -> LiveLog:
        known = self._runs.get((run.tenant, run.run_id))
        cancel = run.cancel if known is None else known.cancel  # somebody may have asked for it meanwhile
        owner = run.owner if inserted else self.lease.owner
        run = self._put(msgspec.structs.replace(run, owner=owner, cancel=cancel))
        log = LiveLog(run, self, inserted=True, after=after, lease=self.lease)
        log.stored = log.told = sys.maxsize
        self._logs.add(log)
        return log

    async def read(self, run_id: str, *, after: int, limit: int) -> list[Entry]:
        return await self._logs.read(run_id, after, limit)

    async def last(self, run_id: str) -> int:
        return await self._logs.last(run_id)

    def leave_logs(self) -> None:
        self._logs.let_go()

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
        self._put(run)
        if thread is not None:
            await self.leave_thread(run.tenant, run.thread_id, thread)
        if pause is not None:
            self._pauses[run.run_id] = pause
        if run.gone_at is not None:
            self._reopen_pauses(run)
        log.finish(final, run)
        self._tell_free(run)

    async def _nothing(self, run_id: str, after: int, limit: int) -> Page:
        return Page([])

    async def _look(self, asked: Sequence[tuple[str, int]]) -> dict[str, Sight]:
        """Of the logs that have not begun here, and so have nothing yet."""
        running = {run_id for _, run_id in self._under_way}
        waiting = self._waiting.values()
        going = (run_id for run_id, _ in asked if run_id in running or any(run_id in queue for queue in waiting))
        return {run_id: Sight([], 0, True) for run_id in going}

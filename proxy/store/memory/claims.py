"""Who runs what in `memory://`; see `proxy.store.claims` for the contracts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from proxy.events import NULL
from proxy.model import Action, Run, RunStatus
from proxy.store.alone import Alone
from proxy.store.claims import Lost
from proxy.store.fair import Name, fairly
from proxy.store.holds import Holds, Key
from proxy.store.lease import Lease
from proxy.store.logs.livelogs import LiveLogs
from proxy.store.signals import Signal, Signals, Topic

K = TypeVar("K")
QUEUE: Signal = (Topic.QUEUE, "")


def free(run: Run) -> bool:
    """It waits, and nobody is about to end it."""
    return run.status is RunStatus.PENDING and run.owner is None


def due(run: Run) -> bool:
    return run.not_before is None or run.not_before <= time.time()


def _remove(queues: dict[K, dict[str, Run]], key: K, run_id: str) -> None:
    queue = queues.get(key, {})
    if queue.pop(run_id, None) is not None and not queue:
        del queues[key]


class MemoryClaims(Alone):
    """The part of a store that gives runs to whom runs them."""

    shared = False
    _logs: LiveLogs

    def __init__(self) -> None:
        super().__init__()
        self.lease = Lease()
        self.signals = Signals()
        self._runs: dict[Name, Run] = {}
        self._waiting: dict[str, dict[str, Run]] = {}
        """Runs that wait, by tenant and id."""
        self._under_way: dict[Name, Run] = {}
        """Runs that have not ended, and do not wait."""
        self._beside: dict[Key, dict[str, Run]] = {}
        """Runs of lasting threads that have not ended, by thread and id."""
        self._holds = Holds()

    def _put(self, run: Run) -> Run:
        """Store a record, new or changed."""
        name = run.tenant, run.run_id
        self._drop(name)
        self._runs[name] = run
        if free(run):
            self._waiting.setdefault(run.tenant, {})[run.run_id] = run
        elif not run.ended:
            self._under_way[name] = run
        if not run.ended and not run.temporary:
            self._beside.setdefault((run.tenant, run.thread_id), {})[run.run_id] = run
        log = self._logs.get(run.run_id)
        if log is not None and not log.ended:
            log.run = run
        return run

    def _drop(self, name: Name) -> None:
        """Forget a record."""
        known = self._runs.pop(name, None)
        if known is None or known.ended:
            return
        self._under_way.pop(name, None)
        _remove(self._waiting, known.tenant, known.run_id)
        _remove(self._beside, (known.tenant, known.thread_id), known.run_id)

    def _count(self, tenant: str, agent: str) -> int:
        """How many runs of the agent have not ended."""
        waiting = sum(run.agent == agent for run in self._waiting.get(tenant, {}).values())
        return waiting + sum((run.tenant, run.agent) == (tenant, agent) for run in self._under_way.values())

    def _others(self, run: Run) -> list[Run]:
        """The other runs of its thread that have not ended, the oldest first."""
        beside = {} if run.temporary else self._beside.get((run.tenant, run.thread_id), {})
        return [beside[run_id] for run_id in sorted(beside)]

    def _tell(self, *signals: Signal) -> None:
        """Ring these, once whoever causes them has been told of it."""
        asyncio.get_running_loop().call_soon(self.signals.ring, signals)

    def _tell_free(self, run: Run) -> None:
        """A run has ended: where one of the same thread waits, it may start."""
        if any(free(other) for other in self._others(run)):
            self._tell(QUEUE)

    async def claim(self, agents: Collection[str], *, limit: int) -> list[Run]:
        got = self._end(lambda run: run.cancel is not None, limit)
        busy = {(run.tenant, run.thread_id) for run in self._under_way.values() if not run.temporary}
        wanted = frozenset(agents)
        queues = [(tenant, self._startable(tenant, wanted, busy)) for tenant in self._waiting]
        count = Counter(run.tenant for run in self._under_way.values())
        for name in fairly(queues, count, limit - len(got)):
            started = {"status": RunStatus.RUNNING, "owner": self.lease.owner, "updated_at": time.time()}
            got.append(self._put(msgspec.structs.replace(self._runs[name], **started)))
        return got

    def _startable(self, tenant: str, agents: frozenset[str], busy: set[Key]) -> Iterator[str]:
        """The runs of a tenant that may start now, the oldest first."""
        queue, seen = self._waiting[tenant], busy | self._holds.held
        for run_id in sorted(queue):
            run = queue[run_id]
            thread = tenant, run.thread_id
            if not due(run) or (thread in seen and not run.temporary):
                continue
            if not run.temporary:
                seen.add(thread)
            if run.agent in agents and run.cancel is None:
                yield run_id

    def _end(self, which: Callable[[Run], bool], limit: int) -> list[Run]:
        """Waiting runs, now this process's to end, the oldest first."""
        found = [run for queue in self._waiting.values() for run in queue.values() if which(run)]
        found = sorted(found, key=lambda run: run.run_id)[:limit]
        taken = [self._put(msgspec.structs.replace(run, owner=self.lease.owner)) for run in found]
        return [msgspec.structs.replace(run, status=RunStatus.RUNNING) for run in taken]

    async def take(self, tenant: str, run_id: str) -> Run | None:
        return next(iter(self._end(lambda run: (run.tenant, run.run_id) == (tenant, run_id), 1)), None)

    async def take_stranded(self, agents: Collection[str], *, before: float, limit: int) -> list[Run]:
        return self._end(lambda run: run.agent not in agents and run.created_at < before and due(run), limit)

    async def take_lost(self, *, limit: int, strays: Collection[Run] = ()) -> list[Lost]:
        mine, named = self.lease.owner, {(run.tenant, run.run_id) for run in strays}
        lost = [run for name, run in self._under_way.items() if run.owner != mine or name in named]
        if left := [run for run in lost if run.status is RunStatus.PENDING]:
            for run in left:
                self._put(msgspec.structs.replace(run, owner=None))
            self._tell(QUEUE)
        running = sorted((run for run in lost if run.status is RunStatus.RUNNING), key=lambda run: run.run_id)
        return [Lost(run=self._put(self._taken(run)), last=self._last(run.run_id)) for run in running[:limit]]

    async def strays(self) -> list[Run]:
        mine = (run for run in self._under_way.values() if run.owner == self.lease.owner)
        return [msgspec.structs.replace(run, input=NULL) for run in mine if self._logs.get(run.run_id) is None]

    def _taken(self, run: Run) -> Run:
        counted = {"attempt": run.attempt + 1, "losses": run.losses + 1}
        return msgspec.structs.replace(run, owner=self.lease.owner, **counted)

    def _last(self, run_id: str) -> int:
        log = self._logs.get(run_id)
        return 0 if log is None else log.last

    async def due_at(self, agents: Collection[str]) -> float | None:
        waiting = (run for queue in self._waiting.values() for run in queue.values() if run.agent in agents)
        return min((run.not_before for run in waiting if run.not_before is not None and not due(run)), default=None)

    async def waiting(self) -> dict[tuple[str, str], int]:
        return Counter((run.tenant, run.agent) for queue in self._waiting.values() for run in queue.values())

    async def release(self, run: Run) -> bool:
        known = self._under_way.get((run.tenant, run.run_id))
        if known is None or known.owner != self.lease.owner:
            return False
        self._put(msgspec.structs.replace(known, status=RunStatus.PENDING, owner=None, attempt=run.attempt))
        self._tell(QUEUE)
        return True

    async def ask_cancel(self, tenant: str, run_id: str, action: Action) -> Run | None:
        run = self._runs.get((tenant, run_id))
        if run is None or run.ended:
            return run
        self._mark([run], action)
        return self._runs[tenant, run_id]

    def _mark(self, runs: Iterable[Run], action: Action) -> None:
        """These are to be cancelled; who has been told so already stays as told."""
        for run in runs:
            self._put(msgspec.structs.replace(run, cancel=run.cancel or action))
            self._tell((Topic.CANCEL, run.run_id), *([QUEUE] if run.status is RunStatus.PENDING else []))

    async def to_cancel(self) -> list[Run]:
        mine = (run for run in self._under_way.values() if run.owner == self.lease.owner and run.cancel is not None)
        return [msgspec.structs.replace(run, input=NULL) for run in mine if run.status is RunStatus.RUNNING]

    @asynccontextmanager
    async def hold(self, tenant: str, thread_id: str) -> AsyncIterator[None]:
        try:
            async with self._holds.hold((tenant, thread_id)):
                yield
        finally:
            self._tell(QUEUE)

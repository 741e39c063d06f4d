"""Listeners of threads: they are told of each run that is made there, by whatever process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from proxy.errors import ProxyError
from proxy.model import Run
from proxy.runs.chores import Chores
from proxy.store.base import RunQuery, Store
from proxy.store.signals import Topic, made_on

Key = tuple[str, str]
"""Tenant and thread."""
POLL = 5.0
"""Seconds after which a shared store is looked at for new runs, for signals may get lost."""
NEWEST = 50
"""Runs of a thread that are looked at then."""

logger = structlog.get_logger(__name__)


class Listener:
    """A listener to one thread; it is told of each run once."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Run | None] = asyncio.Queue()
        self._told: set[str] = set()
        self._since = time.time()

    def tell(self, run: Run) -> None:
        if run.run_id not in self._told:
            self._told.add(run.run_id)
            self.queue.put_nowait(run)

    def wants(self, run: Run) -> bool:
        """Whether a run that was found is one of those made since."""
        return run.created_at > self._since or not run.ended


class Watch:
    """Tells listeners of the runs of their threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listeners: dict[Key, set[Listener]] = {}
        self._chores = Chores()
        self._closed = False
        store.signals.hear(Topic.THREAD, self._hear)

    def __len__(self) -> int:
        """How many threads somebody listens to."""
        return len(self._listeners)

    @contextmanager
    def listen(self, tenant: str, thread_id: str) -> Iterator[asyncio.Queue[Run | None]]:
        """A queue of the runs that are made from now on, whether they start at once or wait; None is the last.

        One that was under way before may come too.
        """
        listener, key = Listener(), (tenant, thread_id)
        self._listeners.setdefault(key, set()).add(listener)
        try:
            yield listener.queue
        finally:
            self._listeners[key].discard(listener)
            if not self._listeners[key]:
                del self._listeners[key]

    def close(self) -> None:
        """No more runs are made."""
        self._closed = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.queue.put_nowait(None)

    def tell(self, run: Run) -> None:
        """A run was made here."""
        for listener in self._listeners.get((run.tenant, run.thread_id), ()):
            listener.tell(run)

    async def run(self) -> None:
        """Of a shared store: look now and then, until cancelled."""
        while True:
            await asyncio.sleep(POLL)
            await self.look()

    async def look(self) -> None:
        """Tell of runs that no signal told of."""
        for tenant, thread_id in [*self._listeners]:
            try:
                found = await self._store.find(RunQuery(tenant=tenant, thread_id=thread_id, limit=NEWEST))
            except ProxyError as error:
                logger.warning("the runs of a thread could not be looked at", error=error.code)
                continue
            for run in reversed(found):
                for listener in self._listeners.get((tenant, thread_id), ()):
                    if listener.wants(run):
                        listener.tell(run)

    def _hear(self, name: str) -> None:
        if self._closed or not self._listeners:
            return
        if not name:
            self._chores.add(self.look())
            return
        tenant, thread_id, run_id = made_on(name)
        if (tenant, thread_id) in self._listeners:
            self._chores.add(self._fetch(tenant, run_id))

    async def _fetch(self, tenant: str, run_id: str) -> None:
        run = await self._store.get(tenant, run_id)
        if run is not None:
            self.tell(run)

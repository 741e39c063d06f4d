"""Which ended runs still have to call their webhook: none is lost with the process, none is held in memory for long.

The store knows them until they have called; here are those that are being called now, a bounded number.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from proxy.events import NULL
from proxy.model import Run
from proxy.runs.chores import Chores
from proxy.store.base import RunStore

MOST = 1000
"""Runs in hand; what is beyond waits in the store."""


class Caller(Protocol):
    """Calls webhooks: `Webhooks`."""

    async def deliver(self, run: Run) -> bool: ...


class Deliveries:
    """Calls the webhooks of runs that have ended, at least once each."""

    def __init__(self, store: RunStore, webhooks: Caller, *, most: int = MOST) -> None:
        self._store = store
        self._webhooks = webhooks
        self._most = most
        self._chores = Chores()
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._behind = False
        """There are some in the store that are not in hand."""
        self._closed = False

    async def open(self) -> None:
        """Take up what an earlier process did not get done."""
        await self._fetch()

    async def look(self) -> bool:
        """A sweep that deletes nothing: take up what processes that are gone did not get done."""
        if not self._closed and len(self._tasks) <= self._most // 2:
            await self._fetch()
        return False

    def add(self, run: Run) -> None:
        """A run has ended, and its end is in the store: call its webhook, if it has one."""
        key = run.tenant, run.run_id
        if run.webhook is None or key in self._tasks or self._closed:
            return
        if len(self._tasks) >= self._most:
            self._behind = True
            return
        run = msgspec.structs.replace(run, input=NULL)  # which may be large, and is not told
        task = self._tasks[key] = self._chores.add(self._call(run))
        task.add_done_callback(lambda _: self._done(key))

    async def close(self) -> None:
        """Stop; what has not been told yet will be after the next start."""
        self._closed = True
        for task in self._tasks.values():
            task.cancel()
        await self._chores.done()

    async def told(self, run: Run) -> None:
        """Forget the run's webhook: it was called, or given up."""
        await self._store.called(run.tenant, run.run_id)

    async def _call(self, run: Run) -> None:
        await self._webhooks.deliver(run)
        await self.told(run)

    def _done(self, key: tuple[str, str]) -> None:
        del self._tasks[key]
        if self._behind and len(self._tasks) <= self._most // 2 and not self._closed:
            self._behind = False
            self._chores.add(self._fetch())

    async def _fetch(self) -> None:
        """Take as many from the store as may be in hand."""
        self._behind = True
        waiting = await self._store.calling(limit=self._most)
        self._behind = len(waiting) == self._most
        for run in waiting:
            self.add(run)

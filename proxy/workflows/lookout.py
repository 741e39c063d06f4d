"""Watches the store for what others want of this process's workflow runs, and for runs that nobody conducts."""

from __future__ import annotations

import asyncio

import structlog

from proxy.errors import ProxyError
from proxy.store.base import Store
from proxy.store.signals import ANY, Topic
from proxy.store.workflow import Standing
from proxy.workflows.conducting import Conducting

logger = structlog.get_logger(__name__)

ROUND = 1.0
"""Seconds from one look at a shared store to the next: signals get lost, and processes die without a word."""
MOST = 50
"""Runs that are taken up at a time."""


class Lookout:
    """Hands answers and cancels on to the conductors, and takes up runs that were released or have lost theirs."""

    def __init__(self, store: Store, conducting: Conducting) -> None:
        self._store = store
        self._conducting = conducting
        self._rung = asyncio.Event()
        self._free = True
        """There may be runs that nobody conducts."""
        store.signals.hear(Topic.WANTED, self._hear)

    def _hear(self, run_id: str) -> None:
        self._free = self._free or run_id == ANY
        if run_id == ANY or run_id in self._conducting:
            self._rung.set()

    async def run(self) -> None:
        """Until cancelled; a store that is away is asked again."""
        while True:
            try:
                async with asyncio.timeout(ROUND if self._store.shared else None):
                    await self._rung.wait()
            except TimeoutError:
                self._free = True
            self._rung.clear()
            try:
                await self.look()
            except ProxyError as error:
                logger.warning("workflow runs could not be looked after", error=error.code, message=error.message)
                await asyncio.sleep(ROUND)
                self._rung.set()

    async def look(self) -> None:
        """Raises `Unavailable`, `LeaseLost`."""
        if not self._store.lease.holds():
            return
        if self._free and not self._conducting.closed:
            self._free = False
            await self.take_up()
        for standing in await self._store.standing_workflows():
            await self._tend(standing)

    async def take_up(self) -> None:
        """Claim what nobody conducts. Raises `Unavailable`, `LeaseLost`."""
        while True:
            runs = await self._store.claim_workflows(limit=MOST)
            for run in runs:
                await self._conducting.take_up(run)
            if len(runs) < MOST:
                return

    async def _tend(self, standing: Standing) -> None:
        conductor = self._conducting.get(standing.run_id)
        if conductor is None:
            await self._find(standing)
            return
        if standing.results > conductor.results:
            conductor.take(await self._store.taken_results(standing.tenant, standing.run_id))
        if standing.cancel and not conductor.cancelled:
            conductor.cancel()

    async def _find(self, standing: Standing) -> None:
        """A run of this process that it does not know of: the store has stored it, but could not say so."""
        if standing.run_id in self._conducting or self._conducting.closed or not self._store.shared:
            return
        run = await self._store.get_workflow(standing.tenant, standing.run_id)
        if run is not None and not run.ended and run.owner == self._store.lease.owner:
            await self._conducting.take_up(run)

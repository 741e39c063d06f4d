"""Cancelling: of runs that are under way here, that wait, or that another process has.

That somebody asked for it is written to the store first thing, so it outlives this process; whoever has the run acts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from proxy.errors import NotFound, ProxyError, Unavailable
from proxy.events import Cancelled
from proxy.model import ACTIVE, Action, Run, RunStatus
from proxy.runs.live import Former, Live
from proxy.runs.waits import end_of
from proxy.store.base import RunQuery, Store
from proxy.store.signals import Topic

POLL = 0.5
"""Seconds after which a shared store is asked at the latest what is to be cancelled here: signals may get lost."""
SOON = 0.01
"""Seconds until it is asked again for a run that is being handed to this process just now, twice as long each time."""

PATIENCE = 2.0
"""Seconds that the end of a waiting run may take which another process ends."""

logger = structlog.get_logger(__name__)


class Cancels:
    """Cancels runs, and acts on what others ask of this process's."""

    def __init__(self, store: Store, live: Live) -> None:
        self._store = store
        self._live = live
        self._rung = asyncio.Event()
        self._coming = 0.0
        """Set while a run is to be cancelled that the store has handed to this process, and that has not arrived: the
        seconds until it is looked for again."""
        store.signals.hear(Topic.CANCEL, self._hear)

    async def cancel(self, runs: Sequence[Run], action: Action) -> list[Run]:
        """Cancel those of the runs that have not ended, or what is under way of their turn; return their records then.

        If nothing is, the runs are returned as they ended. Raises `NotFound` if all were deleted meanwhile.
        """
        open_runs = [run for run in runs if not run.ended] or await self._of_turn(runs[0])
        if not open_runs:
            return list(runs)
        found = await asyncio.gather(*(self.one(run, action) for run in open_runs))
        there = [run for run in found if run is not None]
        if not there:
            raise NotFound(f"There is no run `{runs[0].run_id}`.")
        return there

    async def _of_turn(self, run: Run) -> list[Run]:
        """The runs under way of the turn that a run belongs to."""
        query = RunQuery(tenant=run.tenant, thread_id=run.thread_id, statuses=ACTIVE)
        return [other for other in await self._store.find(query) if other.turn_id == run.turn_id]

    async def one(self, run: Run, action: Action) -> Run | None:
        """Cancel one run, whichever process owns it; returns its record then, None if the run is gone."""
        execution = self._live.get(run.run_id)
        if execution is None:
            return await self._elsewhere(run, action)
        stopped = execution.stop(Cancelled(action=action))
        try:
            await self._store.ask_cancel(run.tenant, run.run_id, action)
        except Unavailable as error:  # its end will be written once the store is back
            logger.warning("a cancel could not be stored", run_id=run.run_id, error=error.code)
        if not stopped and not execution.cancelled:
            await asyncio.shield(execution.done)
        return execution.run

    async def _elsewhere(self, run: Run, action: Action) -> Run | None:
        known = await self._store.ask_cancel(run.tenant, run.run_id, action)
        if known is None or known.status is not RunStatus.PENDING:
            return known
        # Read before the run is taken: if this fails, the run still waits, and any process may end it.
        former = await self._live.former(known)
        taken = await self._store.take(run.tenant, run.run_id)
        if taken is not None and self._live.owns(taken):
            if taken.attempt != known.attempt:
                former = await self._live.former(taken)
            return await self._end(taken, known.cancel or action, former)
        with suppress(TimeoutError, NotFound):  # the process that has taken it meanwhile ends it at once
            async with asyncio.timeout(PATIENCE):
                return await end_of(self._store, self._live, run)
        return await self._store.get(run.tenant, run.run_id)

    async def _end(self, run: Run, action: Action, former: Former | None) -> Run:
        """End a run of this process that waited."""
        execution = self._live.finish(run, Cancelled(action=action), former, leaves=former is not None)
        return await asyncio.shield(execution.done) or execution.run

    def stop(self, run: Run, action: Action) -> None:
        """Cancel a run without waiting for anything, if it has not ended."""
        execution = self._live.get(run.run_id)
        if execution is not None:
            execution.stop(Cancelled(action=action))
        elif not run.ended and not self._live.owns(run):  # what is this process's and not under way has ended
            self._live.chores.add(self._silently(run, action))

    async def _silently(self, run: Run, action: Action) -> None:
        with suppress(NotFound):
            await self.one(run, action)

    async def run(self) -> None:
        """Act on what others ask, until cancelled."""
        while True:
            wait = self._coming or (POLL if self._store.shared else None)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._rung.wait()
            self._rung.clear()
            try:
                await self.look()
            except ProxyError as error:
                logger.warning("cancels could not be looked at", error=error.code, message=error.message)
                await asyncio.sleep(POLL)

    async def look(self) -> None:
        """Stop the runs of this process that are to be cancelled."""
        if not (len(self._live) or self._coming):
            return
        coming = False
        for run in await self._store.to_cancel():
            execution = self._live.get(run.run_id)
            if execution is not None:
                execution.stop(Cancelled(action=run.cancel or "interrupt"))
            coming = coming or execution is None
        self._coming = min(2 * self._coming or SOON, POLL) if coming else 0.0

    def _hear(self, run_id: str) -> None:
        execution = self._live.get(run_id)
        if execution is not None and not execution.cancelled:
            self._rung.set()
        elif execution is None and not self._store.shared:
            # Of a process by itself: it was claimed or made just now, unless it waits, and then there is nothing to do.
            self._coming = SOON
            self._rung.set()

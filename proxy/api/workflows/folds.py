"""What the logs of workflow runs amount to, kept for those who ask again and again: only what is new is read."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from proxy.wire.workflow_fold import RunFold
from proxy.workflow_model import WorkflowRun
from proxy.workflows.journal import EventQuery, Journal

MOST = 64
"""Runs whose folds are kept, those that were asked for last."""
MOST_BYTES = 32 * 1024 * 1024
"""Of the events in all of them but pieces of text, of which nothing is kept; of the last one, whatever it takes."""
PIECE = "node_output_delta"


class Kept:
    """The fold of one run, as far as it has been read."""

    def __init__(self) -> None:
        self.fold = RunFold()
        self.bytes = 0
        self.lock = asyncio.Lock()


class Folds:
    """The folds of runs. A log only grows, and is the same for every reader: what was read of it stays true."""

    def __init__(self, journal: Journal, *, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._journal = journal
        self._most = most
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    @asynccontextmanager
    async def of(self, tenant: str, run_id: str) -> AsyncIterator[tuple[WorkflowRun, RunFold]]:
        """The log of a run as far as it has come, and the record of that time or later; nobody feeds the fold inside
        of the block. Raises `NotFound`."""
        run = await self._journal.run(tenant, run_id)
        kept = self._kept.setdefault(run_id, Kept())
        self._kept.move_to_end(run_id)
        async with kept.lock:
            await self._read_on(run, kept)
            self._drop()
            yield await self._journal.run(tenant, run_id), kept.fold

    async def _read_on(self, run: WorkflowRun, kept: Kept) -> None:
        if kept.fold.final is not None:
            return
        query = EventQuery(tenant=run.tenant, run_id=run.run_id, after=kept.fold.seq, wait=False)
        async with aclosing(self._journal.follow(query, idle=0)) as batches:
            async for batch in batches:
                for event in batch:
                    kept.fold.feed(event.body)
                    kept.bytes += 0 if event.type == PIECE else len(event.body)

    def _drop(self) -> None:
        """Forget those that nobody has asked for in the longest time."""
        size = sum(kept.bytes for kept in self._kept.values())
        while len(self._kept) > 1 and (len(self._kept) > self._most or size > self._most_bytes):
            size -= self._kept.popitem(last=False)[1].bytes

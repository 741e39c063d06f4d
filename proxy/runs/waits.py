"""Waiting for the end of a run, whichever process owns it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from proxy.errors import NotFound
from proxy.model import Run
from proxy.runs.live import Live
from proxy.store.base import RunStore, Store

END = 1 << 53
"""Behind all entries."""


async def known(store: RunStore, tenant: str, run_id: str) -> Run:
    """The record of a run. Raises `NotFound`, also for another tenant's."""
    run = await store.get(tenant, run_id)
    if run is None:
        raise NotFound(f"There is no run `{run_id[:64]}`.")
    return run


async def end_of(store: Store, live: Live, run: Run) -> Run:
    """The record of a run once it has ended. Raises `NotFound`, and `Draining` if this process cannot wait so long."""
    execution = live.get(run.run_id)
    ended = None if execution is None else await asyncio.shield(execution.done)
    while ended is None:
        found = await known(store, run.tenant, run.run_id)
        if found.ended:
            return found
        async with aclosing(store.follow(run.run_id, after=END, idle=0)) as batches:
            async for _ in batches:
                pass
    return ended

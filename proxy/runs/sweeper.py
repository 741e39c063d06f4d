"""Deletes what is older or more than the config keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from proxy.errors import ProxyError
from proxy.model import Run
from proxy.settings import Runs
from proxy.store.base import RunStore

logger = structlog.get_logger(__name__)

Sweep = Callable[[], Awaitable[bool]]
"""Deletes a bounded number of things; False if there were none."""


class Sweeper:
    """Sweeps again and again; `forget` lets an agent forget the thread of a run that was deleted, `others` are what is
    swept besides runs. With `runs` false these are left to other processes."""

    def __init__(
        self,
        store: RunStore,
        settings: Runs,
        forget: Callable[[Run], Awaitable[None]],
        others: Sequence[Sweep] = (),
        *,
        runs: bool = True,
    ) -> None:
        self._store = store
        self._settings = settings
        self._forget = forget
        self._sweeps = [*([self.sweep] if runs else []), *others]

    async def run(self) -> None:
        """A store that is away is asked again later."""
        while True:
            swept = [await self._swept(sweep) for sweep in self._sweeps]
            if not any(swept):
                await asyncio.sleep(self._settings.retention.every)

    async def _swept(self, sweep: Sweep) -> bool:
        try:
            return await sweep()
        except ProxyError as error:
            logger.warning("what is old could not be deleted", error=error.code, message=error.message)
            return False

    async def sweep(self) -> bool:
        """Delete a bounded number of runs; False if there were none."""
        keep, now = self._settings.retention, time.time()
        swept = await self._store.sweep(
            before=now - keep.age if keep.age else 0.0, keep=keep.count, gone=now - self._settings.replay_grace
        )
        for run in swept:
            await self._forget(run)
        return bool(swept)

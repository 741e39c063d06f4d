from __future__ import annotations

import asyncio

import pytest

from proxy.model import Run
from proxy.runs.sweeper import Sweeper
from proxy.settings import Retention, Runs
from proxy.store.memory.store import MemoryStore


class Counting(MemoryStore):
    """Counts how often old runs are asked for."""

    asked = 0

    async def sweep(self, *, before: float, keep: int, gone: float = 0.0) -> list[Run]:
        self.asked += 1
        return await super().sweep(before=before, keep=keep, gone=gone)


@pytest.mark.parametrize("runs", [True, False])
def test_runs_are_swept_unless_they_are_left_to_others_and_all_else_is(runs: bool) -> None:
    async def main() -> None:
        store, rounds, done = Counting(), 0, asyncio.Event()

        async def other() -> bool:
            nonlocal rounds
            rounds += 1
            if rounds == 3:
                done.set()
            return False

        async def forget(run: Run) -> None:
            raise AssertionError(run)

        sweeper = Sweeper(store, Runs(retention=Retention(every=0.001)), forget, [other], runs=runs)
        task = asyncio.create_task(sweeper.run())
        await asyncio.wait_for(done.wait(), 10)
        task.cancel()
        assert store.asked == (3 if runs else 0)

    asyncio.run(main())

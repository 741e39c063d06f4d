"""`memory://` keeps the promises of every store."""

from __future__ import annotations

import asyncio

import pytest

from proxy.store.base import MOST_PAUSES
from proxy.store.memory.store import MemoryStore
from proxy.testing import STORE_PROMISES, BrokenPromise, check_store
from proxy.testing.records import pause_of
from proxy.testing.runs import Promise, finished, new_run


@pytest.mark.parametrize("promise", STORE_PROMISES, ids=lambda promise: promise.__name__)
def test_memory_keeps_the_promise(promise: Promise) -> None:
    asyncio.run(check_store(MemoryStore, [promise]))


def test_a_store_that_loses_a_run_is_caught() -> None:
    class Forgetful(MemoryStore):
        async def sweep(self, *, before: float, keep: int) -> list:
            return []

    with pytest.raises(BrokenPromise, match="sweeping_deletes_what_is_old"):
        asyncio.run(check_store(Forgetful))


def test_no_more_pauses_are_looked_through_than_in_other_stores() -> None:
    async def main() -> None:
        store = MemoryStore()
        runs = [new_run() for _ in range(MOST_PAUSES + 1)]
        for run in runs:
            await finished(store, run, pause=pause_of(run))
        newest = runs[:0:-1]
        assert [pause.run_id for pause in await store.pauses("default")] == [run.run_id for run in newest]

    asyncio.run(main())

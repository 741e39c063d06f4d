"""`memory://` keeps the promises of every store."""

from __future__ import annotations

import asyncio

import pytest

from proxy.store.memory.store import MemoryStore
from proxy.testing import STORE_PROMISES, BrokenPromise, check_store
from proxy.testing.runs import Promise


@pytest.mark.parametrize("promise", STORE_PROMISES, ids=lambda promise: promise.__name__)
def test_memory_keeps_the_promise(promise: Promise) -> None:
    asyncio.run(check_store(MemoryStore, [promise]))


def test_a_store_that_loses_a_run_is_caught() -> None:
    class Forgetful(MemoryStore):
        async def sweep(self, *, before: float, keep: int) -> list:
            return []

    with pytest.raises(BrokenPromise, match="sweeping_deletes_what_is_old"):
        asyncio.run(check_store(Forgetful))

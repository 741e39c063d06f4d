"""A thread that was held is free again, whatever became of who wanted it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from sqlalchemy import Connection

from proxy.errors import Unavailable
from proxy.store.postgres import locks
from proxy.store.postgres.store import PostgresStore
from tests.store.databases import Database


class Slow:
    """A database that takes its time to lock the thread `slow`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.answers = threading.Event()
        try_lock = locks.try_lock

        def slowly(connection: Connection, name: str) -> bool:
            if name.endswith(":slow"):
                self.begun.set()
                self.answers.wait(20)
            return try_lock(connection, name)

        monkeypatch.setattr(locks, "try_lock", slowly)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    made = Slow(monkeypatch)
    yield made
    made.answers.set()


@asynccontextmanager
async def opened(known: Database) -> AsyncIterator[PostgresStore]:
    store = known.store()
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def hold(store: PostgresStore, thread: str) -> None:
    async with store.hold("default", thread):
        pass


async def is_free(known: Database, thread: str) -> None:
    """Another process gets it."""
    async with opened(known) as other, asyncio.timeout(5):
        await hold(other, thread)


@pytest.mark.parametrize("patience", [None, 0.1], ids=["cancelled", "out of patience"])
def test_whoever_does_not_wait_for_a_thread_does_not_have_it(
    postgres: Database, slow: Slow, patience: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act() -> None:
        async with opened(postgres) as store:
            holding = asyncio.ensure_future(hold(store, "slow"))
            with monkeypatch.context() as context:
                if patience is not None:
                    context.setattr("proxy.store.sql.engine.PATIENCE", patience)
                await asyncio.to_thread(slow.begun.wait)
                if patience is None:
                    holding.cancel()
                    await asyncio.sleep(0)
                    slow.answers.set()
                with suppress(Unavailable, asyncio.CancelledError):
                    await holding
            slow.answers.set()
            await is_free(postgres, "slow")

    asyncio.run(act())


def test_a_thread_is_let_go_though_nobody_waits_until_the_database_takes_it(
    postgres: Database, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act() -> None:
        async with opened(postgres) as store:
            with suppress(Unavailable):
                async with store.hold("default", "t"):
                    other = asyncio.ensure_future(hold(store, "slow"))
                    await asyncio.to_thread(slow.begun.wait)
                    monkeypatch.setattr("proxy.store.sql.engine.PATIENCE", 0.1)
            monkeypatch.undo()
            slow.answers.set()
            await other
            await is_free(postgres, "t")

    asyncio.run(act())

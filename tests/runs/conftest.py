"""Threads over either store, and a database on the PostgreSQL server for the runs of several processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.store.memory.store import MemoryStore
from tests.runs.fleet import Fleet
from tests.runs.talks import Act as TalkAct
from tests.runs.talks import Talk, Talking
from tests.runs.threads_house import Act, On, thread_house
from tests.store.databases import Database, database
from tests.store.files import opened


@pytest.fixture(scope="session")
def _runs_database() -> Iterator[Database]:
    with database() as made:
        yield made


@pytest.fixture
def fleet(_runs_database: Database) -> Fleet:
    _runs_database.empty()
    return Fleet(_runs_database)


@pytest.fixture(params=["memory", "sqlite"])
def on(request: pytest.FixtureRequest, tmp_path: Path) -> On:
    """Do this in a house of its own, over either store."""

    def run(act: Act, **how: Any) -> None:
        async def trial() -> None:
            path = None if request.param == "memory" else tmp_path / "runs.db"
            async with thread_house(path, **how) as house:
                await act(house)

        asyncio.run(trial())

    return run


@pytest.fixture(params=["memory", "sqlite"])
def talking(request: pytest.FixtureRequest, tmp_path: Path) -> Talking:
    """Do this with a new thread of an agent that keeps no state itself, over either store."""

    def run(act: TalkAct, history: str = "full") -> None:
        async def trial() -> None:
            async with asyncio.timeout(20):
                if request.param == "memory":
                    await act(await Talk(MemoryStore(), history).open())
                else:
                    async with opened(tmp_path / "runs.db") as store:
                        await act(await Talk(store, history).open())

        asyncio.run(trial())

    return run

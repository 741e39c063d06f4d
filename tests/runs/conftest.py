"""A house of threads over either store, and a database on the PostgreSQL server for the runs of several processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runs.fleet import Fleet
from tests.runs.threads_house import Act, On, thread_house
from tests.store.databases import Database, database


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

"""A database on the PostgreSQL server for the runs of several processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runs.fleet import Fleet
from tests.store.databases import Database, database


@pytest.fixture(scope="session")
def _runs_database() -> Iterator[Database]:
    with database() as made:
        yield made


@pytest.fixture
def fleet(_runs_database: Database) -> Fleet:
    _runs_database.empty()
    return Fleet(_runs_database)

"""Databases for the tests of stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.store.databases import Database, database


@pytest.fixture(scope="session")
def _database() -> Iterator[Database]:
    with database() as made:
        yield made


@pytest.fixture
def postgres(_database: Database) -> Database:
    """A database on the PostgreSQL server for this process of the tests alone, with empty tables."""
    _database.empty()
    return _database

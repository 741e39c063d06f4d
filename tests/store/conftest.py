"""Databases for the tests of stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.store.cluster import Cluster
from tests.store.cluster import cluster as made_cluster
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


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with made_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def cluster(_cluster: Cluster) -> Iterator[Cluster]:
    """A PostgreSQL server for this process of the tests alone, which runs when the test begins."""
    yield _cluster
    _cluster.revive()

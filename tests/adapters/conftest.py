"""Where the state of graphs is kept in tests: in a file, or in PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

ADMIN = os.environ.get("POSTGRES_URL", "postgresql://root@127.0.0.1:5432/postgres")
KEPT = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "checkpoint_marks", "store", "servers")
SQLITE = "sqlite:///runs.db"


class Place(msgspec.Struct, frozen=True):
    """What an adapter is told of where it lives."""

    state: str
    folder: Path

    @property
    def is_file(self) -> bool:
        return self.state == SQLITE

    def rows(self, query: str) -> list[Any]:
        """Of the tables of checkpoints."""
        if self.is_file:
            with closing(sqlite3.connect(self.folder / "runs.checkpoints.db")) as connection:
                rows = connection.execute(query).fetchall()
                connection.commit()
                return rows
        with psycopg.connect(self.state, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def threads(self) -> list[str]:
        return [row[0] for row in self.rows("SELECT DISTINCT thread_id FROM checkpoints ORDER BY 1")]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A database for this process of the tests alone."""
    name = f"runwire_adapters_{uuid.uuid4().hex[:12]}"
    try:
        connection = psycopg.connect(ADMIN, autocommit=True)
    except psycopg.OperationalError as error:
        reason = f"PostgreSQL is not at hand: {error}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield f"{ADMIN.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The URL of a database whose tables are empty."""
    yield postgres
    with psycopg.connect(postgres, autocommit=True) as connection:
        made = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for table in {name for (name,) in made} & set(KEPT):
            connection.execute(f"DELETE FROM {table}".encode())


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(SQLITE if request.param == "sqlite" else request.getfixturevalue("database"), tmp_path)

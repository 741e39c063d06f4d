"""Databases on the PostgreSQL server, made for a trial and dropped again."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from proxy.store import connect
from proxy.store.postgres.store import PostgresStore

ADMIN = os.environ.get("POSTGRES_URL", "postgresql://root@127.0.0.1:5432/postgres")
"""A database to make others from."""
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename != 'alembic_version'"


class Database:
    """One database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def store(self) -> PostgresStore:
        """A process's store over it, not yet open."""
        store = connect(self.url, Path("/"))
        assert isinstance(store, PostgresStore)
        return store

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True)

    def ask(self, query: str, *values: Any) -> list[Any]:
        with self.connect() as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def empty(self) -> None:
        """Delete all rows."""
        with self.connect() as connection, connection.transaction():
            for (table,) in connection.execute(TABLES).fetchall():
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))


@contextmanager
def database(admin: str = ADMIN) -> Iterator[Database]:
    """A new one. Where there is no server, the test is skipped, or fails if `CI` is set."""
    name = f"runwire_store_{uuid.uuid4().hex[:12]}"
    try:
        connection = psycopg.connect(admin, autocommit=True)
    except psycopg.OperationalError as error:
        reason = f"PostgreSQL is not at hand: {error}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield Database(f"{admin.rpartition('/')[0]}/{name}")
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def slow(url: str, table: str, seconds: float) -> Iterator[None]:
    """Each row that is inserted into this table of the database takes so long."""
    steps = (
        f"CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$",
        f"CREATE TRIGGER slow BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION slowly()",
    )
    with psycopg.connect(url, autocommit=True) as connection:
        for step in steps:
            connection.execute(step.encode())
        try:
            yield
        finally:
            connection.execute(b"DROP FUNCTION slowly CASCADE")

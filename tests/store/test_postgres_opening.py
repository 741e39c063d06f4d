"""What is told of a `postgresql://` URL that does not work, and how many processes come to one schema."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg import sql
from sqlalchemy import create_engine

from proxy.errors import ConfigError
from proxy.store import connect, migrations
from proxy.store.base import Store
from proxy.store.signals import Topic
from proxy.store.statements import tables
from proxy.testing.runs import new_run
from tests.store.cluster import Cluster
from tests.store.databases import Database, database

ROOT = Path(__file__).parents[2]
PLACE = Path("/")


async def opened(store: Store, *, migrate: bool = True) -> None:
    await store.open(migrate=migrate)
    await store.close()


def told(url: str) -> str:
    """Why a store cannot be opened."""
    with pytest.raises(ConfigError) as caught:
        asyncio.run(opened(connect(url, PLACE)))
    return str(caught.value)


@contextmanager
def user(known: Database, rights: str = "") -> Iterator[str]:
    """A user with the password `hunter2` and no rights but these; the URL for it."""
    name = f"runwire_{uuid.uuid4().hex[:12]}"
    with known.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hunter2'").format(sql.Identifier(name)))
        try:
            if rights:
                connection.execute(sql.SQL(rights).format(sql.Identifier(name)))  # type: ignore[arg-type]
            _, _, place = known.url.rpartition("@")
            yield f"postgresql://{name}:hunter2@{place}"
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_each_spelling_of_the_scheme_is_taken(scheme: str, postgres: Database) -> None:
    asyncio.run(opened(connect(postgres.url.replace("postgresql", scheme, 1), PLACE)))


@pytest.mark.parametrize("place", ["me:hun@ter2@host/db", "me:h/un@ter2@host/db", "me:hunter2@host:port/db"])
def test_a_url_that_cannot_be_read_is_told_without_its_password(place: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read; .*percent-encoded") as caught:
        connect(f"postgresql://{place}", PLACE)
    assert "ter2" not in str(caught.value)
    assert "hun" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgres:/me:hunter2@host/db", "me:hunter2@host/db", "hunter2"])
def test_what_is_no_url_is_told_without_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"is no URL of a store; use .*`postgresql://") as caught:
        connect(url, PLACE)
    assert "hunter2" not in str(caught.value)


def test_a_missing_driver_is_told_with_the_cure() -> None:
    script = """
import sys
from pathlib import Path
sys.modules["psycopg"] = None
from proxy.errors import ConfigError
from proxy.store import connect
try:
    connect("postgresql://me:hunter2@host/db", Path("."))
except ConfigError as error:
    assert "pip install 'runwire[postgres]'" in str(error), error
    assert "hunter2" not in str(error)
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=30)


def test_a_server_that_is_not_there_is_told_with_the_cure() -> None:
    said = told("postgresql://me:hunter2@127.0.0.1:1/db")
    assert "127.0.0.1:1/db cannot be used" in said
    assert "refused" in said
    assert "start the server, or correct host and port" in said
    assert "hunter2" not in said


def test_a_host_that_is_not_known_is_told_with_the_cure() -> None:
    assert "correct the host" in told("postgresql://me:hunter2@nowhere.invalid/db")


def test_a_database_that_is_not_there_is_told_with_the_cure(postgres: Database) -> None:
    said = told(f"{postgres.url}_not")
    assert "does not exist" in said
    assert "create it, or correct the name" in said


def test_a_user_without_rights_is_told_with_the_cure(postgres: Database) -> None:
    with database() as fresh, user(fresh) as url:
        said = told(url)
    assert "permission denied" in said
    assert "give this user the rights" in said
    assert "hunter2" not in said


def test_a_schema_that_is_not_there_is_told_with_the_cure(postgres: Database) -> None:
    assert "`search_path` names does not exist" in told(f"{postgres.url}?options=-csearch_path%3Dnowhere")


def test_the_schema_of_a_newer_version_is_refused() -> None:
    with database() as fresh:
        asyncio.run(opened(fresh.store()))
        fresh.ask("UPDATE alembic_version SET version_num = '9999'")
        assert "newer version of Runwire" in told(fresh.url)
        with pytest.raises(ConfigError, match="newer version of Runwire"):
            asyncio.run(opened(fresh.store(), migrate=False))


def test_without_migrating_what_is_to_be_done_is_named() -> None:
    with database() as fresh:
        with pytest.raises(ConfigError, match=r"its schema is missing; run `runwire migrate`"):
            asyncio.run(opened(fresh.store(), migrate=False))
        assert fresh.store().version() is None
        asyncio.run(opened(fresh.store()))
        assert fresh.store().version() == migrations.HEAD
        fresh.ask("UPDATE alembic_version SET version_num = '0005'")
        with pytest.raises(ConfigError, match=r"of an older version \(0005\); run `runwire migrate`"):
            asyncio.run(opened(fresh.store(), migrate=False))


def test_many_that_start_at_once_migrate_once() -> None:
    async def start(stores: list[Store]) -> None:
        await asyncio.gather(*(store.open() for store in stores))
        await asyncio.gather(*(store.close() for store in stores))

    with database() as fresh:
        asyncio.run(start([fresh.store() for _ in range(10)]))
        assert fresh.ask("SELECT version_num FROM alembic_version") == [(migrations.HEAD,)]


def test_the_migrations_make_the_tables_whose_texts_sort_by_their_bytes(postgres: Database) -> None:
    asyncio.run(opened(postgres.store()))
    engine = create_engine(postgres.url.replace("postgresql", "postgresql+psycopg", 1))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    engine.dispose()
    others = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'"
    )
    assert postgres.ask(others) == []


def test_schemas_of_one_database_are_apart(postgres: Database) -> None:
    """Two deployments in one database see nothing of each other."""
    with postgres.connect() as connection:
        for schema in ("one", "two"):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))

    async def act() -> None:
        one, two = (connect(f"{postgres.url}?options=-csearch_path%3D{name}", PLACE) for name in ("one", "two"))
        heard: list[str] = []
        for store in (one, two):
            await store.open()
        two.signals.hear(Topic.CANCEL, heard.append)
        run = await one.insert(new_run())
        async with one.hold("default", run.thread_id), two.hold("default", run.thread_id):
            await one.ask_cancel("default", run.run_id, "interrupt")
        assert await two.get("default", run.run_id) is None
        for store in (one, two):
            await store.close()
        assert heard == []

    try:
        asyncio.run(act())
    finally:
        with postgres.connect() as connection:
            connection.execute("DROP SCHEMA one CASCADE; DROP SCHEMA two CASCADE")


def test_a_wrong_password_is_told_without_it(cluster: Cluster) -> None:
    cluster.execute("CREATE ROLE guest LOGIN PASSWORD 'right'")
    said = told(cluster.url.replace("root@", "guest:hunter2@"))
    assert "password authentication failed" in said
    assert "correct the user or the password" in said
    assert "hunter2" not in said
    assert "put the password into it" in told(cluster.url.replace("root@", "guest@"))

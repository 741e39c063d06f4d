"""What `sqlite://` makes of threads beyond the promises of every store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from msgspec import Raw
from sqlalchemy import create_engine

from proxy.events import Completed
from proxy.model import Lifetime, ThreadOutcome, ThreadStatus
from proxy.store import migrations
from proxy.store.sql.sqlite import SqliteStore
from proxy.testing.runs import ended, new_run
from proxy.testing.threads import new_thread
from tests.store.files import on


def at_version(path: Path, version: str) -> None:
    """Make the database as a program of that version would have."""
    config = Config()
    config.set_main_option("script_location", str(migrations.HERE))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    engine.dispose()


def test_a_store_from_before_threads_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    at_version(path, "0001")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO runs (tenant, run_id, thread_id, agent, status, created_at, updated_at, turn_id, temporary)"
            " VALUES ('default', 'r', 't', 'trial', 'success', 1, 1, 'r', 0)"
        )
        connection.commit()

    async def act(store: SqliteStore) -> None:
        assert await store.get("default", "r") is not None
        assert await store.get_thread("default", "t") is None
        await store.insert_thread(new_thread(thread_id="t"))
        assert await store.get_thread("default", "t") is not None

    on(path, act)


def test_lifetimes_from_before_they_were_looked_after_run_out_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    at_version(path, "0003")
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            "INSERT INTO threads (tenant, thread_id, created_at, updated_at, status, metadata, lifetime)"
            " VALUES ('default', ?, 1, 1, 'idle', '{}', ?)",
            [("mortal", b'{"ttl":1.5,"strategy":"delete"}'), ("lasting", None)],
        )
        connection.commit()

    async def act(store: SqliteStore) -> None:
        assert await store.expired_threads(91.0, limit=9) == []
        [thread] = await store.expired_threads(92.0, limit=9)
        assert (thread.thread_id, thread.lifetime) == ("mortal", Lifetime(ttl=1.5))

    on(path, act)


def test_a_thread_is_there_after_a_restart_as_its_last_run_left_it(tmp_path: Path) -> None:
    thread = new_thread(metadata={"k": "v"})
    outcome = ThreadOutcome(status=ThreadStatus.INTERRUPTED, values=Raw(b'{"n":1}'))

    async def before(store: SqliteStore) -> None:
        await store.insert_thread(thread)
        run = new_run(thread_id=thread.thread_id)
        await store.begin(run, inserted=False).settle(Completed(), ended(run), thread=outcome)

    async def after(store: SqliteStore) -> None:
        known = await store.get_thread("default", thread.thread_id)
        assert known is not None
        assert (known.metadata, known.outcome) == ({"k": "v"}, outcome)

    on(tmp_path / "runs.db", before)
    on(tmp_path / "runs.db", after)


def test_a_run_that_a_process_left_keeps_its_thread_busy_until_it_is_ended(tmp_path: Path) -> None:
    thread, run = new_thread(), new_run()

    async def before(store: SqliteStore) -> None:
        await store.insert_thread(thread)
        await store.insert(new_run(run_id=run.run_id, thread_id=thread.thread_id))

    async def after(store: SqliteStore) -> None:
        known = await store.get_thread("default", thread.thread_id)
        assert known is not None
        assert known.status is ThreadStatus.BUSY
        [lost] = await store.take_lost(limit=10)
        log = store.begin(lost.run, inserted=True, after=lost.last)
        await log.settle(Completed(), ended(lost.run), thread=ThreadOutcome())
        known = await store.get_thread("default", thread.thread_id)
        assert known is not None
        assert known.status is ThreadStatus.IDLE

    on(tmp_path / "runs.db", before)
    on(tmp_path / "runs.db", after)


def test_a_hidden_thread_leaves_no_row(tmp_path: Path) -> None:
    async def act(store: SqliteStore) -> None:
        run = new_run(temporary=True)
        await store.begin(run, inserted=False).settle(Completed(), ended(run))

    on(tmp_path / "runs.db", act)
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        assert connection.execute("SELECT count(*) FROM threads").fetchone() == (0,)

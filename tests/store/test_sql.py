"""`sqlite://` keeps the promises of every store, and what it holds survives the process."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from proxy.errors import ConfigError
from proxy.events import Completed, Failed
from proxy.model import Idempotency, RunStatus
from proxy.store import connect, migrations
from proxy.store.base import Store
from proxy.store.sql.sqlite import SqliteStore
from proxy.store.statements import tables
from proxy.testing import STORE_PROMISES, check_store
from proxy.testing.runs import Promise, all_of, ended, followed, new_run, pause_of, say, seqs, word
from tests.store.files import on

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("promise", STORE_PROMISES, ids=lambda promise: promise.__name__)
def test_sqlite_keeps_the_promise(promise: Promise, tmp_path: Path) -> None:
    numbers = itertools.count()
    asyncio.run(check_store(lambda: SqliteStore(tmp_path / f"{next(numbers)}.db"), [promise]))


def test_all_is_there_after_a_restart(tmp_path: Path) -> None:
    run = new_run()
    pause = pause_of(run)
    kept: list[object] = []

    async def before(store: SqliteStore) -> None:
        await store.insert(run, idempotency=Idempotency(key="k", fingerprint="f"))
        log = store.begin(run, inserted=True)
        await say(log, range(5000))
        await log.settle(Completed(), ended(run), pause)
        kept.append(await store.get("default", run.run_id))
        kept.append(await all_of(store, run.run_id))

    async def after(store: SqliteStore) -> None:
        assert await store.get("default", run.run_id) == kept[0]
        assert await all_of(store, run.run_id) == kept[1]
        assert seqs(await followed(store, run.run_id)) == list(range(1, 5002))
        assert await store.pauses("default", run.thread_id) == [pause]
        assert await store.insert(new_run(), idempotency=Idempotency(key="k", fingerprint="f")) == kept[0]
        assert await store.take_lost(limit=10) == []

    on(tmp_path / "runs.db", before)
    on(tmp_path / "runs.db", after)


def test_a_run_that_was_not_settled_is_lost_at_the_next_start_and_can_be_ended(tmp_path: Path) -> None:
    inserted, begun = new_run(), new_run()

    async def before(store: SqliteStore) -> None:
        await store.insert(inserted)
        await say(store.begin(begun, inserted=False), range(3))

    async def after(store: SqliteStore) -> None:
        found = await store.take_lost(limit=9)
        assert [(lost.run.run_id, lost.last) for lost in found] == [(inserted.run_id, 0), (begun.run_id, 3)]
        assert {(lost.run.owner, lost.run.attempt) for lost in found} == {(store.lease.owner, 2)}
        assert await store.take_lost(limit=9) == []
        log = store.begin(begun, inserted=True, after=10_003)
        reader = asyncio.ensure_future(followed(store, begun.run_id))
        await asyncio.sleep(0)
        end = Failed(code="server_restarted", message="")
        assert await log.settle(end, ended(begun, RunStatus.ERROR))
        assert seqs(await reader) == [1, 2, 3, 10_004]
        assert seqs(await followed(store, begun.run_id)) == [1, 2, 3, 10_004]
        assert seqs(await followed(store, begun.run_id, 5)) == [10_004]

    on(tmp_path / "runs.db", before)
    on(tmp_path / "runs.db", after)


def test_a_short_run_is_one_record_and_one_segment(tmp_path: Path) -> None:
    changes: list[tuple[int, int]] = []

    async def act(store: SqliteStore) -> None:
        run = new_run()
        log = store.begin(run, inserted=False)
        await say(log, range(3))
        await log.settle(Completed(), ended(run))

    on(tmp_path / "runs.db", act)
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        changes = connection.execute("SELECT first_seq, last_seq FROM segments").fetchall()
        assert connection.execute("SELECT status FROM runs").fetchall() == [("success",)]
    assert changes == [(1, 4)]


def test_a_second_server_on_the_file_is_refused(tmp_path: Path) -> None:
    async def act(store: SqliteStore) -> None:
        with pytest.raises(ConfigError, match=r"runs\.db is in use by another server.*set `store` to another file"):
            await SqliteStore(tmp_path / "runs.db").open()
        await store.ping()

    on(tmp_path / "runs.db", act)
    on(tmp_path / "runs.db", lambda store: store.ping())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only files")
def test_a_read_only_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    on(path, lambda store: store.ping())
    path.chmod(0o444)
    with pytest.raises(ConfigError, match="make it writable"):
        asyncio.run(SqliteStore(path).open())


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, " * 100)
    with pytest.raises(ConfigError, match=r"notes\.txt cannot be used \(file is not a database\).*set `store`"):
        asyncio.run(SqliteStore(path).open())
    assert path.read_text().startswith("these are notes")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"runs\.db cannot be used .*make it writable, or set `store`"):
        asyncio.run(SqliteStore(tmp_path / "file" / "runs.db").open())


def test_the_schema_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    on(path, lambda store: store.ping())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    for _ in range(2):
        with pytest.raises(ConfigError, match="newer version of Runwire"):
            asyncio.run(SqliteStore(path).open())


def test_the_migrations_make_the_tables(tmp_path: Path) -> None:
    on(tmp_path / "runs.db", lambda store: store.ping())
    engine = create_engine(f"sqlite:///{tmp_path / 'runs.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    engine.dispose()
    assert ScriptDirectory(str(migrations.HERE)).get_current_head() == migrations.HEAD


def test_opening_an_up_to_date_store_does_not_import_alembic(tmp_path: Path) -> None:
    on(tmp_path / "runs.db", lambda store: store.ping())
    script = """
import asyncio, sys
from pathlib import Path
from proxy.store import connect
async def main():
    store = connect("sqlite:///runs.db", Path(sys.argv[1]))
    await store.open()
    await store.close()
asyncio.run(main())
assert "alembic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=ROOT)


def test_content_that_is_not_kept_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def act(store: SqliteStore) -> None:
        for number in range(30):
            run = new_run(input=msgspec.Raw(b'"pa55word"'))
            log = store.begin(run, inserted=bool(number % 2))
            if number % 2:
                await store.insert(run)
            log.append(word("hunter2"))
            end = ended(run)
            await log.settle(Completed(), end)
            await store.strip(end)

    on(path, act)
    content = path.read_bytes()
    assert b"hunter2" not in content
    assert b"pa55word" not in content
    assert not path.with_name("runs.db-wal").exists()


def test_a_log_is_written_soon_without_being_settled(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def act(store: SqliteStore) -> None:
        log = store.begin(new_run(), inserted=False)
        log.append(word("0"))
        with closing(sqlite3.connect(path)) as connection:
            async with asyncio.timeout(5):
                while connection.execute("SELECT count(*) FROM segments").fetchone() == (0,):
                    await asyncio.sleep(0.01)
        await log.settle(Completed(), ended(log.run))
        assert seqs(await followed(store, log.run.run_id)) == [1, 2]

    on(path, act)


@pytest.mark.parametrize(
    ("url", "file"), [("sqlite:///runs.db", "runs.db"), ("sqlite:///a/b.db", "a/b.db"), ("sqlite:///{}/c.db", "c.db")]
)
def test_a_url_names_a_file_relative_to_the_folder_or_absolute(url: str, file: str, tmp_path: Path) -> None:
    async def run() -> None:
        store: Store = connect(url.format(tmp_path), tmp_path)
        await store.open()
        await store.close()

    asyncio.run(run())
    assert (tmp_path / file).exists()


@pytest.mark.parametrize("url", ["mysql://me:secret@host/db", "runs.db", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_names_no_store_is_refused_with_the_cure(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`store`: .*use `sqlite:///file\.db`, .* or `memory://`") as caught:
        connect(url, tmp_path)
    assert "secret" not in str(caught.value)


def test_many_runs_that_end_together_are_all_there_with_their_logs(tmp_path: Path) -> None:
    runs = [new_run() for _ in range(100)]

    async def before(store: SqliteStore) -> None:
        logs = [store.begin(run, inserted=False) for run in runs]
        for log in logs:
            log.append(word("hello"))
        assert all(await asyncio.gather(*(log.settle(Completed(), ended(log.run)) for log in logs)))

    async def after(store: SqliteStore) -> None:
        for run in runs:
            found = await store.get("default", run.run_id)
            assert found is not None
            assert found.ended
            assert [entry.event for entry in await all_of(store, run.run_id)] == [word("hello"), Completed()]

    on(tmp_path / "runs.db", before)
    on(tmp_path / "runs.db", after)

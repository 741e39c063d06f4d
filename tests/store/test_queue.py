"""The queue in a database: what is waiting when a store is opened, and what it costs to find who may start."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, insert

from proxy.errors import ConfigError
from proxy.model import Choices, RunStatus
from proxy.store import migrations
from proxy.store.fair import fairly
from proxy.store.sql.sqlite import SqliteStore
from proxy.store.statements import inserts, queue, records, tables
from proxy.store.statements.queue import Asked
from proxy.testing.runs import TRIAL, names, new_run, settled, waiting_run
from tests.store.files import on, steps_of
from tests.store.test_sql_threads import at_version

MANY = 2000


def test_runs_go_on_waiting_over_a_restart(tmp_path: Path) -> None:
    enqueued = Choices(strategy="enqueue")
    running = new_run(choices=enqueued)
    behind, doomed, free = new_run(thread_id=running.thread_id, choices=enqueued), waiting_run(), waiting_run()

    async def before(store: SqliteStore) -> None:
        for run in (running, behind, doomed, free):
            await store.insert(run)
        assert await store.take("default", doomed.run_id) is not None

    async def after(store: SqliteStore) -> None:
        assert names(await store.claim(TRIAL, limit=9)) == [free.run_id], "what the last process had is not free yet"
        [lost] = await store.take_lost(limit=9)
        assert (lost.run.run_id, lost.run.owner, lost.run.attempt) == (running.run_id, store.lease.owner, 2)
        assert names(await store.claim(TRIAL, limit=9)) == [doomed.run_id]
        await settled(store, lost.run)
        assert names(await store.claim(TRIAL, limit=9)) == [behind.run_id]

    on(tmp_path / "runs.db", before)
    on(tmp_path / "runs.db", after)


def test_runs_from_before_there_were_owners_are_lost_or_wait(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    at_version(path, "0005")
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            "INSERT INTO runs (tenant, run_id, thread_id, agent, status, created_at, updated_at, turn_id, temporary)"
            " VALUES ('default', ?, ?, 'trial', ?, 1, 1, 'r', 0)",
            [("a", "t", "running"), ("b", "t", "pending"), ("c", "u", "pending")],
        )
        connection.commit()

    async def act(store: SqliteStore) -> None:
        assert names([lost.run for lost in await store.take_lost(limit=9)]) == ["a"]
        assert await store.take_lost(limit=9) == []
        assert names(await store.claim(TRIAL, limit=9)) == ["c"]

    on(path, act)


def test_a_schema_that_is_behind_is_only_told_of_where_it_is_not_to_be_migrated(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    at_version(path, "0005")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"older version \(0005\); run `runwire migrate`"):
            asyncio.run(SqliteStore(path).open(migrate=False))
    on(path, lambda store: store.ping())

    async def reopen() -> None:
        store = SqliteStore(path)
        await store.open(migrate=False)
        await store.close()

    asyncio.run(reopen())


@contextmanager
def filled(path: Path, **fields: Any) -> Iterator[Connection]:
    """A database in which so many runs wait, besides one that runs on the thread `busy`."""
    engine = create_engine(f"sqlite:///{path}")
    running = new_run(thread_id="busy", owner="somebody")
    rows = [records.values(waiting_run(**fields)) for _ in range(MANY)]
    with engine.connect() as connection:
        migrations.upgrade(connection)
        connection.execute(insert(tables.runs), [records.values(running), *rows])
        connection.commit()
        yield connection
    engine.dispose()


def test_who_may_start_is_found_in_indexes_made_for_it(tmp_path: Path) -> None:
    """Not by going through all runs, all runs of a tenant, or all that wait."""
    with filled(tmp_path / "runs.db") as connection, steps_of(connection) as steps:
        assert len(queue.claim(connection, "me", Asked(("trial", "other"), 8))) == 8
        assert queue.due_at(connection, TRIAL) is None
        assert queue.is_followed(connection, [new_run()]) is False
        run = new_run()
        assert inserts.insert_run(connection, inserts.Newcomer(run=run, owner="me", most=MANY * 2)) is not None
        assert queue.ask_cancel(connection, "default", run.run_id, "interrupt") is not None
        assert queue.to_cancel(connection, "me") != []
    about_runs = [step for step in steps if " runs" in step or " other" in step]
    assert len(about_runs) > 15
    assert [step for step in about_runs if step.startswith("SCAN")] == []
    assert [step for step in about_runs if "runs_by_age" in step or "(tenant=?)" in step] == []


@pytest.mark.parametrize(
    "fields",
    [{"not_before": 9e9}, {"agent": "elsewhere"}, {"thread_id": "busy", "status": RunStatus.PENDING}],
    ids=["delayed", "of another agent", "behind one run"],
)
def test_many_that_may_not_start_do_not_hide_one_that_may(fields: dict[str, Any], tmp_path: Path) -> None:
    with filled(tmp_path / "runs.db", **fields) as connection:
        run = waiting_run()
        connection.execute(insert(tables.runs), records.values(run))
        assert names(queue.claim(connection, "me", Asked(TRIAL, 8))) == [run.run_id]


def test_a_queue_is_read_no_further_than_is_needed() -> None:
    read: list[str] = []

    def of(*run_ids: str) -> Iterator[str]:
        for run_id in run_ids:
            read.append(run_id)
            yield run_id

    queues = [("a", of("1", "2", "3")), ("b", of("4", "5")), ("a", of("0", "6")), ("busy", of("7"))]
    chosen = fairly(queues, {"busy": 9}, 4)
    assert chosen == [("a", "0"), ("b", "4"), ("a", "1"), ("b", "5")]
    assert sorted(read) == ["0", "1", "4", "5", "6"]

"""Workflow runs and sessions in a file: what is there after a restart, and what of older databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw
from sqlalchemy import create_engine

from proxy.errors import Unavailable
from proxy.model import new_id
from proxy.store import migrations
from proxy.store.sql.sqlite import SqliteStore
from proxy.store.statements import workflows
from proxy.store.statements.tables import metadata
from proxy.store.workflow import Advance, EventQuery
from proxy.testing.workflows import LATER, events_from, followed, new_workflow, seqs, start_of, went_on
from proxy.workflow_model import Said, Session, TakenResult, WorkflowRun, WorkflowStatus
from tests.store.files import on, steps_of

RESULT = TakenResult(node_id="a", step=0, call_id="c", body=Raw(b'{"output":"x"}'))


def test_a_waiting_run_is_there_after_a_restart_and_goes_on(tmp_path: Path) -> None:
    session = Session(session_id=new_id())
    run = new_workflow(session_id=session.session_id)
    kept: list[WorkflowRun] = []

    async def before(store: SqliteStore) -> None:
        await store.insert_session(session)
        stored = await store.start_workflow(start_of(run, key="k", events=events_from(1, "run_compiled")))
        assert stored.last_seq == 1
        waiting = await went_on(
            store, stored, "node_waiting", state=b"state", outputs={"x": b"1"}, status=WorkflowStatus.WAITING
        )
        assert await store.take_results("default", run.run_id, [RESULT])
        kept.append(waiting)

    async def after(store: SqliteStore) -> None:
        [found] = await store.claim_workflows(limit=10)
        assert found == msgspec.structs.replace(kept[0], owner=store.lease.owner)
        assert await store.workflow_state("default", run.run_id) == b"state"
        assert await store.node_outputs("default", run.run_id) == {"x": b"1"}
        assert await store.taken_results("default", run.run_id) == [RESULT]
        assert not await store.take_results("default", run.run_id, [RESULT])
        assert await store.start_workflow(start_of(new_workflow(), key="k")) == found
        page = await store.read_events(EventQuery(tenant="default", run_id=run.run_id, contents=True))
        assert page.events == [*events_from(1, "run_compiled", "node_waiting")]
        said = Said(role="assistant", content=Raw(b"[]"), run_id=run.run_id, at=1.0)
        await went_on(store, found, "run_completed", status=WorkflowStatus.SUCCEEDED, says=said)
        assert seqs(await followed(store, run)) == [1, 2, 3]
        assert [message.run_id for message in await store.messages("default", session.session_id)] == [run.run_id]
        assert await store.open_workflows() == []

    on(tmp_path / "runs.db", before)
    on(tmp_path / "runs.db", after)


def test_what_is_swept_or_deleted_leaves_no_row(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def act(store: SqliteStore) -> None:
        session = Session(session_id=new_id())
        await store.insert_session(session)
        run = await store.start_workflow(start_of(new_workflow(session_id=session.session_id), state=b"s"))
        assert await store.take_results("default", run.run_id, [RESULT])
        said = Said(role="assistant", content=Raw(b"[]"))
        await went_on(store, run, "run_failed", outputs={"x": b"1"}, status=WorkflowStatus.FAILED, says=said)
        assert await store.sweep_workflows(before=LATER, keep=0)
        assert await store.delete_session("default", session.session_id)

    on(path, act)
    tables = [name for name in metadata.tables if name.startswith(("workflow", "session"))]
    assert len(tables) == 9
    with closing(sqlite3.connect(path)) as connection:
        assert all(connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (0,) for name in tables)


def test_old_runs_are_swept_without_going_through_all(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'runs.db'}")
    with engine.begin() as connection:
        migrations.upgrade(connection)
        with steps_of(connection) as steps:
            assert workflows.sweep(connection, LATER, 0) == 0
    engine.dispose()
    about_runs = [step for step in steps if " workflows" in step]
    assert any("workflows_by_age (status=? AND updated_at<?)" in step for step in about_runs)
    assert [step for step in about_runs if step.startswith("SCAN")] == []


def test_a_step_that_cannot_be_stored_whole_leaves_nothing(tmp_path: Path) -> None:
    """The events are there already: what the record does not know of must not be half overwritten."""
    path = tmp_path / "runs.db"
    run = new_workflow()

    async def before(store: SqliteStore) -> None:
        await store.start_workflow(start_of(run, state=b"old"))

    async def after(store: SqliteStore) -> None:
        [known] = await store.claim_workflows(limit=1)
        step = Advance(run=known, events=events_from(1, "a", "b"), state=b"new", outputs={"x": b"1"})
        with pytest.raises(Unavailable):
            await store.advance(step)
        assert await store.get_workflow("default", run.run_id) == known
        assert await store.workflow_state("default", run.run_id) == b"old"
        assert await store.node_outputs("default", run.run_id) == {}

    on(path, before)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO workflow_events VALUES (?, 2, 'x', x'00')", (run.run_id,))
    on(path, after)

"""Which ended workflow runs the server deletes, by its settings."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from proxy.settings import Retention, Runs
from proxy.store.memory.store import MemoryStore
from proxy.store.workflow import Advance
from proxy.testing.workflows import events_from, new_workflow, start_of
from proxy.workflow_model import WorkflowStatus
from proxy.workflows.leftovers import Leftovers

AGES = (10.0, 1000.0, 100_000.0)


async def left(settings: Runs) -> list[float]:
    """The ages of the runs that are there after all has been swept."""
    store, now = MemoryStore(), time.time()
    runs = {age: new_workflow() for age in AGES}
    for age, run in runs.items():
        begun = await store.start_workflow(start_of(run))
        over = msgspec.structs.replace(begun, status=WorkflowStatus.FAILED, updated_at=now - age)
        assert await store.advance(Advance(run=over, events=events_from(1, "run_failed")))
    await store.start_workflow(start_of(new_workflow(updated_at=0.0)))
    sweeper = Leftovers(store, settings)
    while await sweeper.sweep():
        pass
    assert len(await store.open_workflows()) == 1
    return [age for age, run in runs.items() if await store.get_workflow("default", run.run_id)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Runs(), [10.0, 1000.0, 100_000.0]),
        (Runs(retention=Retention(age=50_000.0)), [10.0, 1000.0]),
        (Runs(retention=Retention(age=0.0, count=0)), [10.0, 1000.0, 100_000.0]),
        (Runs(retention=Retention(age=0.0, count=1)), [10.0]),
        (Runs(keep_content=False, replay_grace=300.0), [10.0]),
        (Runs(keep_content=False, replay_grace=300.0, retention=Retention(age=5.0)), []),
        (Runs(keep_content=False, replay_grace=300.0, retention=Retention(age=0.0)), [10.0]),
    ],
)
def test_runs_go_by_age_by_number_and_soon_where_no_content_is_kept(settings: Runs, expected: list[float]) -> None:
    assert asyncio.run(left(settings)) == expected

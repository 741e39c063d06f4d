"""Snapshots of a run that goes on for long: each event of its log is read once, however often somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from msgspec.structs import replace

from proxy.api.workflows.folds import Folds
from proxy.errors import NotFound, Unavailable
from proxy.store.memory.store import MemoryStore
from proxy.store.workflow import Advance
from proxy.testing.workflows import HASH, new_workflow, start_of
from proxy.wire.workflow import Event, NodeOutputDelta, NodeStarted, RunCompiled, RunFailed, RunStarted, envelope
from proxy.wire.workflow_fold import Extras
from proxy.wire.workflow_parts import Delta, Problem
from proxy.workflow_model import WorkflowEvent, WorkflowRun, WorkflowStatus
from proxy.workflows.journal import EventQuery, Journal

PIECE = NodeOutputDelta(node_id="a", delta=Delta(kind="message_delta", text_delta="x"))
START: tuple[Event, ...] = (RunCompiled(plan_hash=HASH), RunStarted(plan_hash=HASH), NodeStarted(node_id="a"))
END = RunFailed(plan_hash=HASH, error=Problem(message="x"))


class Counting(Journal):
    """Counts the events that are read; breaks off after so many, once."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.store = store
        self.read = 0
        self.breaks: int | None = None

    async def follow(self, query: EventQuery, *, idle: float) -> AsyncGenerator[list[WorkflowEvent]]:
        async for batch in super().follow(query, idle=idle):
            for event in batch:
                if self.breaks == 0:
                    self.breaks = None
                    raise Unavailable
                self.breaks = None if self.breaks is None else self.breaks - 1
                self.read += 1
                yield [event]
                await asyncio.sleep(0)

    async def begun(self, *events: Event) -> WorkflowRun:
        return await self.go_on(await self.store.start_workflow(start_of(new_workflow())), *START, *events)

    async def go_on(self, run: WorkflowRun, *events: Event, status: str = "running") -> WorkflowRun:
        made = tuple(
            WorkflowEvent(
                seq=seq,
                type=str(event.__struct_config__.tag),
                body=envelope(event, run_id=run.run_id, seq=seq, at=1.0),
            )
            for seq, event in enumerate(events, run.last_seq + 1)
        )
        state = WorkflowStatus(status)
        stored = await self.store.advance(Advance(run=replace(run, status=state), events=made))
        assert stored is not None
        return stored


async def shown(folds: Folds, run: WorkflowRun) -> str:
    async with folds.of(run.tenant, run.run_id) as (record, fold):
        assert (fold.run_id, fold.seq) == (run.run_id, record.last_seq)
        return fold.snapshot(Extras(nodes=(("a", "llm"),))).status


def test_each_event_is_read_once_however_often_somebody_asks() -> None:
    async def scene() -> None:
        journal = Counting(MemoryStore())
        folds = Folds(journal)
        run = await journal.begun()
        for _ in range(50):
            run = await journal.go_on(run, *[PIECE] * 20)
            for _ in range(3):
                assert await shown(folds, run) == "running"
        assert journal.read == run.last_seq == 1003
        run = await journal.go_on(run, END, status="failed")
        for _ in range(3):
            assert await shown(folds, run) == "failed"
        assert journal.read == run.last_seq

    asyncio.run(scene())


def test_many_who_ask_at_once_read_it_once() -> None:
    async def scene() -> None:
        journal = Counting(MemoryStore())
        folds = Folds(journal)
        run = await journal.begun(*[PIECE] * 100)
        assert set(await asyncio.gather(*(shown(folds, run) for _ in range(20)))) == {"running"}
        assert journal.read == run.last_seq

    asyncio.run(scene())


def test_a_log_that_breaks_off_is_read_on_where_it_did() -> None:
    async def scene() -> None:
        journal = Counting(MemoryStore())
        folds = Folds(journal)
        run = await journal.begun(*[PIECE] * 10)
        journal.breaks = 7
        with pytest.raises(Unavailable):
            await shown(folds, run)
        assert await shown(folds, run) == "running"
        assert journal.read == run.last_seq

    asyncio.run(scene())


def test_what_nobody_asked_for_in_the_longest_time_is_forgotten() -> None:
    async def scene() -> None:
        journal = Counting(MemoryStore())
        for folds in (Folds(journal, most=2), Folds(journal, most_bytes=2 * 3 * 230)):
            one, two, three = [await journal.begun(PIECE) for _ in range(3)]
            journal.read = 0
            for run in (one, two, one, three, one):
                await shown(folds, run)
            assert journal.read == 12
            await shown(folds, two)
            assert journal.read == 16

    asyncio.run(scene())


def test_a_fold_that_is_known_is_still_its_tenants() -> None:
    async def scene() -> None:
        journal = Counting(MemoryStore())
        folds = Folds(journal)
        run = await journal.begun()
        await shown(folds, run)
        with pytest.raises(NotFound):
            async with folds.of("other", run.run_id):
                pass

    asyncio.run(scene())

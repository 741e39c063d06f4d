"""What a store promises of workflow runs: plans, records, tool results. Their events are in `workflow_events`."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import Raw

from proxy.errors import Conflict, NotFound
from proxy.model import Idempotency, new_id
from proxy.store.base import Store
from proxy.store.workflow import Advance, EventQuery, Start
from proxy.testing.runs import Promise
from proxy.workflow_model import Said, SavedPlan, Session, TakenResult, WorkflowEvent, WorkflowRun, WorkflowStatus

TENANT = "default"
AT_ONCE = 50
LATER = sys.float_info.max
"""Later than any run ended."""
HASH = "a1" * 32


def new_workflow(**fields: Any) -> WorkflowRun:
    now = time.time()
    run = WorkflowRun(run_id=new_id(), plan_hash=HASH, created_at=now, updated_at=now)
    return msgspec.structs.replace(run, **fields)


def start_of(run: WorkflowRun, **fields: Any) -> Start:
    """`key` and `fingerprint` make its idempotency."""
    plan = SavedPlan(tenant=run.tenant, plan_hash=run.plan_hash, body=Raw(b'{"kind": "workflow"}'))
    if "key" in fields:
        fields["idempotency"] = Idempotency(key=fields.pop("key"), fingerprint=fields.pop("fingerprint", "f"))
    return Start(run=run, plan=plan, **fields)


def events_from(first: int, *types: str) -> tuple[WorkflowEvent, ...]:
    """Events of these types, numbered from `first` on."""
    return tuple(
        WorkflowEvent(seq=seq, type=kind, body=b'{"seq":%d}' % seq, content=b'{"n":%d}' % seq)
        for seq, kind in enumerate(types, first)
    )


async def started(store: Store, *types: str, **fields: Any) -> WorkflowRun:
    """A run with so many events; its record as it is then."""
    run = await store.start_workflow(start_of(new_workflow(**fields)))
    return await went_on(store, run, *types) if types else run


async def went_on(store: Store, run: WorkflowRun, *types: str, **fields: Any) -> WorkflowRun:
    """The run with these events more; its record as it is then."""
    names = {name: fields.pop(name) for name in ("state", "outputs", "says") if name in fields}
    changed = msgspec.structs.replace(run, updated_at=time.time(), **fields)
    stored = await store.advance(Advance(run=changed, events=events_from(run.last_seq + 1, *types), **names))
    assert stored is not None, "the run was not taken further"
    return stored


async def ended(store: Store, run: WorkflowRun) -> WorkflowRun:
    return await went_on(store, run, "run_completed", status=WorkflowStatus.SUCCEEDED)


async def followed(store: Store, run: WorkflowRun, **query: Any) -> list[WorkflowEvent]:
    """All that a follower sees, to the end."""
    seen: list[WorkflowEvent] = []
    asked = EventQuery(tenant=run.tenant, run_id=run.run_id, **query)
    async with aclosing(store.follow_events(asked)) as batches:
        async for batch in batches:
            seen += batch
    return seen


def seqs(events: list[WorkflowEvent]) -> list[int]:
    return [event.seq for event in events]


async def a_workflow_run_comes_back_as_it_was(store: Store) -> None:
    """Every field of the record is kept, and the engine's state apart from it."""
    run = new_workflow(
        status=WorkflowStatus.WAITING,
        stream=True,
        input=Raw('{"task": "ä\u2028"}'.encode()),
        overrides=Raw(b'{"model": "m"}'),
        summary=Raw(b'{"total_usd_cents": 3}'),
    )
    plain = new_workflow(tenant="other")
    begun = await store.start_workflow(start_of(new_workflow(), events=events_from(1, "a", "b")))
    assert begun.last_seq == 2
    assert await ended(store, begun) == await store.get_workflow(TENANT, begun.run_id)
    assert seqs(await followed(store, begun)) == [1, 2, 3]
    for each, state in ((run, b"\x00\xff"), (plain, b"")):
        mine = msgspec.structs.replace(each, owner=store.lease.owner)
        assert await store.start_workflow(start_of(each, state=state)) == mine
        assert await store.get_workflow(each.tenant, each.run_id) == mine
        assert await store.workflow_state(each.tenant, each.run_id) == state
    assert [each.run_id for each in await store.open_workflows()] == [run.run_id, plain.run_id]
    assert await store.get_workflow("other", run.run_id) is None
    assert await store.workflow_state("other", run.run_id) is None


async def a_plan_is_kept_as_it_is(store: Store) -> None:
    """Byte for byte, once for each tenant; a run brings its own."""
    plan = SavedPlan(plan_hash="b2" * 32, body=Raw('{"name": "ü"}'.encode()))
    await store.put_plan(plan)
    await store.put_plan(plan)
    assert await store.get_plan(TENANT, plan.plan_hash) == plan
    assert await store.get_plan("other", plan.plan_hash) is None
    await started(store)
    assert await store.get_plan(TENANT, HASH) == start_of(new_workflow()).plan


async def a_run_goes_on_for_one_writer(store: Store) -> None:
    """Of many that append after the same event, one does; the events have no gap, and the record says how many."""
    run = await started(store, "run_compiled", "run_started")
    tries = [
        store.advance(Advance(run=run, events=events_from(3, "node_started"), outputs={"a": b"%d" % number}))
        for number in range(AT_ONCE)
    ]
    done = [stored for stored in await asyncio.gather(*tries) if stored is not None]
    assert [stored.last_seq for stored in done] == [3]
    late = Advance(run=run, events=events_from(3, "node_started"), state=b"lost")
    assert await store.advance(late) is None
    assert await store.workflow_state(TENANT, run.run_id) == b""
    assert seqs((await store.read_events(EventQuery(tenant=TENANT, run_id=run.run_id))).events) == [1, 2, 3]
    assert await store.advance(Advance(run=new_workflow())) is None
    gap = events_from(5, "node_started")
    for wrong in (store.advance(Advance(run=done[0], events=gap)), store.start_workflow(start_of(run, events=gap))):
        try:
            await wrong
        except ValueError:
            pass
        else:
            raise AssertionError("a gap was taken")


async def a_step_changes_all_or_nothing(store: Store) -> None:
    """Events, record, state, outputs and what is said in the session go together; what was not given stays."""
    session = Session(session_id=new_id())
    await store.insert_session(session)
    run = await store.start_workflow(start_of(new_workflow(session_id=session.session_id), state=b"one"))
    said = Said(role="assistant", content=Raw(b"[]"), run_id=run.run_id, at=5.0)
    run = await went_on(store, run, "a", outputs={"x": b"1", "y": b"2"}, summary=Raw(b"{}"))
    run = await went_on(store, run, "b", outputs={"y": b"3"}, state=b"two", status=WorkflowStatus.WAITING, says=said)
    assert await store.get_workflow(TENANT, run.run_id) == run
    assert (run.last_seq, run.status, run.summary) == (2, WorkflowStatus.WAITING, Raw(b"{}"))
    assert await store.workflow_state(TENANT, run.run_id) == b"two"
    assert await store.node_outputs(TENANT, run.run_id) == {"x": b"1", "y": b"3"}
    assert await store.node_outputs("other", run.run_id) == {}
    assert [message.run_id for message in await store.messages(TENANT, session.session_id)] == [run.run_id]
    assert await store.delete_session(TENANT, session.session_id)
    assert (await went_on(store, run, "c", says=said)).last_seq == 3


async def an_ended_run_stays_as_it_is(store: Store) -> None:
    """It takes no event, no cancel and no result any more, and is not found among the open ones."""
    run = await ended(store, await started(store, "run_compiled"))
    assert await store.advance(Advance(run=run, events=events_from(3, "node_started"))) is None
    assert await store.cancel_workflow(TENANT, run.run_id) == run
    result = TakenResult(node_id="a", step=0, call_id="c", body=Raw(b"1"))
    assert not await store.take_results(TENANT, run.run_id, [result])
    assert await store.open_workflows() == []


async def a_cancel_is_remembered(store: Store) -> None:
    """Whatever the engine writes afterwards without knowing of it."""
    run = await started(store, "run_compiled")
    asked = await store.cancel_workflow(TENANT, run.run_id)
    assert asked is not None
    assert asked.cancel
    assert (await went_on(store, run, "node_started")).cancel
    assert await store.cancel_workflow("other", run.run_id) is None
    assert await store.cancel_workflow(TENANT, new_id()) is None


async def one_key_makes_one_workflow_run(store: Store) -> None:
    """Of many that come with one key at once, one is stored, and the others get it; as it is now, later."""
    starts = [start_of(new_workflow(), key="k") for _ in range(AT_ONCE)]
    runs = await asyncio.gather(*(store.start_workflow(start) for start in starts))
    assert len({run.run_id for run in runs}) == 1
    assert len(await store.open_workflows()) == 1
    now = await ended(store, runs[0])
    assert await store.start_workflow(start_of(new_workflow(), key="k")) == now
    other = await store.start_workflow(start_of(new_workflow(tenant="other"), key="k"))
    assert other.run_id != now.run_id


async def a_refused_start_leaves_nothing(store: Store) -> None:
    """A key of another request, or a session that is not there: no run, no plan, and the key is free."""
    await store.start_workflow(start_of(new_workflow(), key="k"))
    hidden = Session(session_id=new_id(), tenant="other")
    await store.insert_session(hidden)
    wrong = "c3" * 32
    other = start_of(new_workflow(plan_hash=wrong), key="k", fingerprint="g")
    lost = start_of(new_workflow(plan_hash=wrong, session_id=hidden.session_id), key="new")
    for start, fault in ((other, Conflict), (lost, NotFound)):
        try:
            await store.start_workflow(start)
        except fault:
            pass
        else:
            raise AssertionError(f"{start} was taken")
        assert await store.get_workflow(TENANT, start.run.run_id) is None
    assert await store.get_plan(TENANT, wrong) is None
    free = start_of(new_workflow(), key="new", fingerprint="other")
    assert (await store.start_workflow(free)).run_id == free.run.run_id


async def a_call_has_one_result(store: Store) -> None:
    """Of two answers to one call at once, one is taken; of several calls, all or none."""
    run = await started(store, "run_compiled")
    result = TakenResult(node_id="m", step=0, call_id="c" * 256, body=Raw(b'{"output": "x"}'))
    tries = [
        store.take_results(TENANT, run.run_id, [msgspec.structs.replace(result, body=Raw(b"%d" % number))])
        for number in range(AT_ONCE)
    ]
    won = (await asyncio.gather(*tries)).index(True)
    taken = await store.taken_results(TENANT, run.run_id)
    assert [bytes(each.body) for each in taken] == [b"%d" % won]
    again = msgspec.structs.replace(result, step=1)
    more = [msgspec.structs.replace(result, node_id="a"), again, msgspec.structs.replace(result, node_id="b")]
    assert not await store.take_results(TENANT, run.run_id, [*more, result])
    assert not await store.take_results(TENANT, run.run_id, [again, again])
    assert not await store.take_results("other", run.run_id, more)
    assert await store.taken_results(TENANT, run.run_id) == taken
    assert await store.take_results(TENANT, run.run_id, more)
    assert await store.taken_results(TENANT, run.run_id) == [*taken, *more]
    assert await store.taken_results("other", run.run_id) == []


async def old_workflow_runs_are_swept(store: Store) -> None:
    """Ended ones with all that is theirs, the oldest first, while open ones stay; then the plans that nobody uses."""
    running = await started(store, "a", plan_hash="d4" * 32, updated_at=1.0)
    run = await store.start_workflow(start_of(new_workflow(), key="k"))
    assert await store.take_results(TENANT, run.run_id, [TakenResult(node_id="a", step=0, call_id="c", body=Raw(b"1"))])
    gone = await ended(store, await went_on(store, run, "a", outputs={"a": b"1"}))
    kept = await ended(store, await started(store, "a"))
    assert not await store.sweep_workflows(before=gone.updated_at, keep=0)
    assert await store.sweep_workflows(before=0.0, keep=1)
    assert await store.get_workflow(TENANT, gone.run_id) is None
    assert await store.node_outputs(TENANT, gone.run_id) == {}
    assert await store.taken_results(TENANT, gone.run_id) == []
    assert await followed(store, gone) == []
    assert seqs(await followed(store, kept)) == [1, 2]
    try:
        await store.start_workflow(start_of(new_workflow(), key="k"))
    except Conflict:
        pass
    else:
        raise AssertionError("a young key was forgotten")
    assert await store.get_plan(TENANT, HASH) is not None
    assert await store.sweep_workflows(before=LATER, keep=0)
    assert not await store.sweep_workflows(before=LATER, keep=0)
    assert await store.get_plan(TENANT, HASH) is None
    assert await store.open_workflows() == [running]
    assert await store.get_plan(TENANT, running.plan_hash) is not None


PROMISES: tuple[Promise, ...] = (
    a_workflow_run_comes_back_as_it_was,
    a_plan_is_kept_as_it_is,
    a_run_goes_on_for_one_writer,
    a_step_changes_all_or_nothing,
    an_ended_run_stays_as_it_is,
    a_cancel_is_remembered,
    one_key_makes_one_workflow_run,
    a_refused_start_leaves_nothing,
    a_call_has_one_result,
    old_workflow_runs_are_swept,
)

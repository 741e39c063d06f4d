"""What a store promises of workflow runs to processes that share it: one conducts each, and all of them count alike.

Each promise gets two stores over one place, opened and joined, as two processes have them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from msgspec import Raw

from proxy.errors import LeaseLost, TooMany
from proxy.model import new_id
from proxy.store.base import Store
from proxy.store.signals import Topic
from proxy.store.workflow import Advance
from proxy.testing.runs import SharedPromise
from proxy.testing.workflows import TENANT, ended, events_from, new_workflow, start_of, started, went_on
from proxy.workflow_model import Said, Session, TakenResult, WorkflowRun

BRIEF = 0.4
"""Seconds of a lease that is to run out."""
SOON = 0.05
AT_ONCE = 20


async def claimed(store: Store, count: int = 1) -> list[WorkflowRun]:
    """So many runs that nobody conducts any more."""
    found: list[WorkflowRun] = []
    while len(found) < count:
        await store.take_lost(limit=10)
        found += await store.claim_workflows(limit=10)
        await asyncio.sleep(SOON)
    return found


async def a_workflow_run_is_conducted_by_one_process(here: Store, there: Store) -> None:
    """Nobody else may claim it or write to it, until it is released; then one of those who look gets it."""
    heard = asyncio.Event()
    there.signals.hear(Topic.WANTED, lambda _: heard.set())
    run = await started(here, "run_started")
    assert run.owner == here.lease.owner
    assert await there.claim_workflows(limit=10) == await here.claim_workflows(limit=10) == []
    stolen = msgspec.structs.replace(run, owner=there.lease.owner)
    assert await there.advance(Advance(run=stolen, events=events_from(2, "node_started"))) is None
    assert await there.advance(Advance(run=run, events=events_from(2, "node_started"))) is None
    await there.release_workflow(stolen)
    assert await there.claim_workflows(limit=10) == []
    await here.release_workflow(run)
    assert await here.advance(Advance(run=run, events=events_from(2, "node_started"))) is None
    got = await asyncio.gather(*(store.claim_workflows(limit=10) for store in (here, there) * 5))
    [mine] = [run for runs in got for run in runs]
    owner = here if mine.owner == here.lease.owner else there
    assert [standing.run_id for standing in await owner.standing_workflows()] == [run.run_id]
    await ended(owner, mine)
    assert await owner.standing_workflows() == []
    await heard.wait()


async def a_lost_workflow_run_goes_on_elsewhere(here: Store, there: Store) -> None:
    """A process that has lost its lease writes no more to it, whoever has it by then; the log goes on without a gap."""
    here.lease.seconds = BRIEF
    assert await here.renew()
    run = await started(here, "run_started")
    [mine] = await claimed(there)
    assert msgspec.structs.replace(mine, owner=run.owner) == run
    late = Advance(run=run, events=events_from(2, "node_started"))
    for _ in range(2):  # the first time it finds out
        with suppress(LeaseLost):
            assert await here.advance(late) is None
    assert here.lease.owner != run.owner
    mine = await went_on(there, mine, "node_started")
    assert (await ended(there, mine)).last_seq == 3


async def what_is_wanted_of_a_workflow_run_reaches_its_process(here: Store, there: Store) -> None:
    """Answers and cancels are stored wherever they come, the first answer wins, and the owner is told of them."""
    heard = asyncio.Event()
    here.signals.hear(Topic.WANTED, lambda name: heard.set() if name == run.run_id else None)
    run = await started(here, "run_started")
    result = TakenResult(node_id="a", step=0, call_id="c", body=Raw(b"1"))
    tries = [store.take_results(TENANT, run.run_id, [result]) for store in (here, there) * AT_ONCE]
    assert (await asyncio.gather(*tries)).count(True) == 1
    assert await there.cancel_workflow(TENANT, run.run_id) is not None
    [standing] = await here.standing_workflows()
    assert (standing.tenant, standing.run_id, standing.cancel, standing.results) == (TENANT, run.run_id, True, 1)
    assert await there.standing_workflows() == []
    await heard.wait()


async def keys_and_bounds_of_workflow_runs_hold_everywhere(here: Store, there: Store) -> None:
    """One key makes one run, and a tenant has no more than it may have; a known key is answered at the bound too."""
    starts = [start_of(new_workflow(), key="k") for _ in range(AT_ONCE)]
    both = [(here, there)[number % 2] for number in range(AT_ONCE)]
    runs = await asyncio.gather(
        *(store.start_workflow(start, most=3) for store, start in zip(both, starts, strict=True))
    )
    assert len({run.run_id for run in runs}) == 1
    more = [store.start_workflow(start_of(new_workflow()), most=3) for store in both]
    found = await asyncio.gather(*more, return_exceptions=True)
    assert sum(isinstance(each, TooMany) for each in found) == AT_ONCE - 2, found
    assert len(await here.open_workflows()) == 3
    known = await there.start_workflow(start_of(new_workflow(), key="k"), most=3)
    assert known.run_id == runs[0].run_id
    other = await there.start_workflow(start_of(new_workflow(tenant="other")), most=3)
    assert other.owner == there.lease.owner


async def a_session_has_one_order_everywhere(here: Store, there: Store) -> None:
    """Messages that two processes append at once are numbered without a gap."""
    session = Session(session_id=new_id())
    await here.insert_session(session)
    said = [Said(role="user", content=Raw(b"[%d]" % number)) for number in range(AT_ONCE)]
    both = [(here, there)[number % 2] for number in range(AT_ONCE)]
    await asyncio.gather(
        *(store.append_message(TENANT, session.session_id, each) for store, each in zip(both, said, strict=True))
    )
    messages = await there.messages(TENANT, session.session_id)
    assert [message.seq for message in messages] == list(range(1, AT_ONCE + 1))
    assert {bytes(message.content) for message in messages} == {bytes(each.content) for each in said}


PROMISES: tuple[SharedPromise, ...] = (
    a_workflow_run_is_conducted_by_one_process,
    a_lost_workflow_run_goes_on_elsewhere,
    what_is_wanted_of_a_workflow_run_reaches_its_process,
    keys_and_bounds_of_workflow_runs_hold_everywhere,
    a_session_has_one_order_everywhere,
)

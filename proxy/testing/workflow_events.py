"""What a store promises of the events of workflow runs, and of those who follow them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import msgspec

from proxy.model import new_id
from proxy.store.base import Store
from proxy.store.workflow import EventQuery
from proxy.testing.runs import Promise
from proxy.testing.workflows import TENANT, ended, events_from, followed, new_workflow, seqs, started, went_on


async def events_are_read_by_their_place(store: Store) -> None:
    """After a number, up to a limit, byte for byte; contents only where they are asked for."""
    run = await started(store, *["node_started"] * 5)
    whole = list(events_from(1, *["node_started"] * 5))
    asked = EventQuery(tenant=TENANT, run_id=run.run_id, after=1, limit=3, contents=True)
    page = await store.read_events(asked)
    assert (page.events, page.open) == (whole[1:4], True)
    page = await store.read_events(msgspec.structs.replace(asked, contents=False, limit=None))
    assert page.events == [msgspec.structs.replace(event, content=None) for event in whole[1:]]
    for strange in ({"tenant": "other"}, {"run_id": new_id()}):
        page = await store.read_events(msgspec.structs.replace(asked, **strange))
        assert (page.events, page.open) == ([], False)
    await ended(store, run)
    page = await store.read_events(msgspec.structs.replace(asked, after=6))
    assert (page.events, page.open) == ([], False)


async def all_followers_see_the_same(store: Store) -> None:
    """Whenever they come, each sees every event once, in order, and ends after the last."""
    run = await started(store, "run_compiled", "run_started")
    early = [asyncio.create_task(followed(store, run, contents=True)) for _ in range(5)]
    for number in range(100):
        run = await went_on(store, run, *["node_output_delta"] * (number % 3 + 1))
        if number == 50:
            early += [asyncio.create_task(followed(store, run, contents=True, after=7)) for _ in range(5)]
    run = await ended(store, run)
    late = await followed(store, run, contents=True)
    assert seqs(late) == list(range(1, run.last_seq + 1))
    assert late[-1].final
    seen = await asyncio.gather(*early)
    assert all(events == late for events in seen[:5])
    assert all(events == late[7:] for events in seen[5:])


async def a_follower_ends_where_it_is_told(store: Store) -> None:
    """After its limit, at what there is without waiting, and at once at the end of an ended run."""
    run = await started(store, *["a"] * 4)
    assert seqs(await followed(store, run, wait=False)) == [1, 2, 3, 4]
    assert seqs(await followed(store, run, limit=2, after=1)) == [2, 3]
    asked = EventQuery(tenant=TENANT, run_id=run.run_id, limit=5)
    async with aclosing(store.follow_events(asked, idle=0.01)) as batches:
        assert seqs(await anext(batches)) == [1, 2, 3, 4]
        assert await anext(batches) == []
        run = await went_on(store, run, "a", "a")
        assert [seqs(batch) async for batch in batches if batch] == [[5]]
    run = await ended(store, run)
    assert seqs(await followed(store, run)) == [1, 2, 3, 4, 5, 6, 7]
    for after in (7, 8):
        assert await followed(store, run, after=after) == []
    assert await followed(store, new_workflow()) == []


async def a_silent_follower_is_told(store: Store) -> None:
    """After its idle time it gets an empty list; and all followers end when they are released."""
    run = await started(store, "a")
    asked = EventQuery(tenant=TENANT, run_id=run.run_id)
    async with aclosing(store.follow_events(asked, idle=0.01)) as batches:
        assert seqs(await anext(batches)) == [1]
        assert await anext(batches) == []
        run = await went_on(store, run, "b")
        while not (batch := await anext(batches)):
            pass
        assert seqs(batch) == [2]
        store.leave_events()
        run = await went_on(store, run, "c")
        assert [seqs(batch) async for batch in batches if batch] == [[3]]
    assert seqs(await followed(store, run)) == [1, 2, 3]


PROMISES: tuple[Promise, ...] = (
    events_are_read_by_their_place,
    all_followers_see_the_same,
    a_follower_ends_where_it_is_told,
    a_silent_follower_is_told,
)

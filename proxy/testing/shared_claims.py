"""What a store promises to processes that share it: each run is one process's, and nobody's when that is gone.

Each promise gets two stores over one place, opened and joined, as two processes have them.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec

from proxy.errors import Busy, LeaseLost, TooMany
from proxy.events import Completed
from proxy.model import Choices, Idempotency, Run, RunStatus, new_id
from proxy.store.base import Store
from proxy.store.claims import Lost, Server
from proxy.store.signals import Topic
from proxy.testing.runs import (
    TRIAL,
    SharedPromise,
    ended,
    finished,
    heard,
    names,
    new_run,
    settled,
    until,
    waiting_run,
)

BRIEF = 0.3
"""Seconds of a lease that is to run out."""
QUEUE = Choices(strategy="enqueue")


async def stopped(store: Store) -> None:
    """The process is as good as dead: it renews no more, and its lease runs out."""
    store.lease.seconds = BRIEF
    assert await store.renew()
    await asyncio.sleep(BRIEF)


async def lost_by(store: Store, count: int) -> list[Lost]:
    """What another process lost, as this one and itself take it at once."""
    found: list[Lost] = []
    while len(found) < count:
        for lost in await asyncio.gather(*(store.take_lost(limit=3) for _ in range(3))):
            found += lost
    return found


async def each_run_is_claimed_once(here: Store, there: Store) -> None:
    """Of processes that claim at once each gets runs, none of them one that another has, and none is left."""
    made = [await here.insert(waiting_run(thread_id=new_id())) for _ in range(30)]
    got: list[tuple[Store, Run]] = []
    while len(got) < len(made):
        pair = await asyncio.gather(here.claim(TRIAL, limit=3), there.claim(TRIAL, limit=3))
        got += [(store, run) for store, runs in zip((here, there), pair, strict=True) for run in runs]
    assert sorted(names([run for _, run in got])) == names(made)
    assert all(run.owner == store.lease.owner for store, run in got)
    assert set(Counter(run.owner for _, run in got)) == {here.lease.owner, there.lease.owner}


async def threads_have_one_run_whoever_claims(here: Store, there: Store) -> None:
    """Processes that make, claim and end runs of a few threads at once never have two of one thread under way, and
    each runs its oldest first."""
    threads = [new_id() for _ in range(3)]
    stores = (here, there)
    made = await asyncio.gather(
        *(stores[number % 2].insert(new_run(thread_id=threads[number % 3], choices=QUEUE)) for number in range(24))
    )
    order: dict[str, list[str]] = {thread: [] for thread in threads}
    under_way: set[str] = set()

    def begins(run: Run) -> None:
        assert run.thread_id not in under_way, "a thread has two runs"
        under_way.add(run.thread_id)
        order[run.thread_id].append(run.run_id)

    async def work(store: Store, running: list[Run]) -> None:
        for run in running:
            begins(run)
        while sum(map(len, order.values())) < len(made) or running:
            for run in running:
                await asyncio.sleep(0)
                under_way.discard(run.thread_id)
                await settled(store, run)
            running = await store.claim(TRIAL, limit=2)
            for run in running:
                begins(run)

    first = [run for run in made if run.status is RunStatus.RUNNING]
    assert len(first) == len(threads)
    await asyncio.gather(*(work(store, [run for run in first if run.owner == store.lease.owner]) for store in stores))
    for thread, done in order.items():
        assert sorted(done) == sorted(run.run_id for run in made if run.thread_id == thread)
        assert done[1:] == sorted(done[1:])


async def tenants_take_turns_everywhere(here: Store, there: Store) -> None:
    """What a tenant has under way in other processes counts."""
    for _ in range(3):
        await here.insert(new_run(tenant="a"))
    await here.insert(waiting_run(tenant="a"))
    other = await here.insert(waiting_run(tenant="b"))
    assert names(await there.claim(TRIAL, limit=1)) == [other.run_id]


async def the_runs_of_a_lost_process_are_taken_once(here: Store, there: Store) -> None:
    """When its lease has run out, each run that it had is handed out once, and counts one attempt more; what it was
    about to end waits again."""
    runs = [await here.insert(new_run()) for _ in range(8)]
    doomed = await here.insert(waiting_run())
    assert await here.take("default", doomed.run_id) is not None
    mine = await there.insert(new_run())
    assert await there.take_lost(limit=9, strays=runs) == []
    assert names(await there.strays()) == [mine.run_id]
    await stopped(here)
    lost = await lost_by(there, len(runs))
    assert sorted(names([one.run for one in lost])) == names(runs)
    assert {(one.run.owner, one.run.attempt, one.run.losses) for one in lost} == {(there.lease.owner, 2, 1)}
    assert {one.last for one in lost} == {0}
    assert await there.take_lost(limit=9) == []
    assert names(await there.claim(TRIAL, limit=9)) == [doomed.run_id]
    known = await there.get("default", mine.run_id)
    assert known == mine


async def a_lease_that_is_over_is_not_lost_until_it_is_taken(here: Store, there: Store) -> None:
    """A process that renews late has all its runs, if nobody took them."""
    run = await here.insert(new_run())
    await stopped(here)
    assert not here.lease.holds()
    assert await here.renew()
    assert here.lease.holds()
    here.lease.seconds = 60
    assert await here.renew()
    assert await there.take_lost(limit=9) == []
    await settled(here, run)


async def who_has_lost_its_lease_writes_nothing(here: Store, there: Store) -> None:
    """What it had begun fails with `LeaseLost`; it goes on under another name once it has joined again."""
    run = await here.insert(new_run())
    log = here.begin(run, inserted=True)
    owner, told = here.lease.owner, list[bool]()
    here.lease.listen(told.append)
    await stopped(here)
    [lost] = await lost_by(there, 1)
    writes = [log.settle(Completed(), ended(run)), here.claim(TRIAL, limit=1), here.insert(new_run())]
    assert {type(error) for error in await asyncio.gather(*writes, return_exceptions=True)} == {LeaseLost}
    assert told == [False]
    assert here.lease.owner != owner
    assert not here.lease.holds()
    here.lease.seconds = 60
    await here.join(Server(server_id=""))
    assert here.lease.holds()
    assert (await here.insert(new_run())).owner == here.lease.owner
    assert not await here.release(run)
    await settled(there, lost.run)


async def who_is_told_of_the_loss_by_its_renewal_begins_anew(here: Store, there: Store) -> None:
    """A renewal that comes after the runs were taken is refused, once."""
    await here.insert(new_run())
    owner = here.lease.owner
    await stopped(here)
    await lost_by(there, 1)
    assert not await here.renew()
    assert here.lease.owner != owner
    await here.join(Server(server_id=""))
    assert await here.renew()


async def who_leaves_leaves_its_runs_at_once(here: Store, there: Store) -> None:
    """Nobody has to wait for the lease of a process that has said that it goes."""
    run = await here.insert(new_run())
    assert {server.server_id for server in await there.servers()} == {here.lease.owner, there.lease.owner}
    await here.leave()
    assert [server.server_id for server in await there.servers()] == [there.lease.owner]
    [lost] = await there.take_lost(limit=9)
    assert lost.run.run_id == run.run_id


async def a_run_is_cancelled_from_another_process(here: Store, there: Store) -> None:
    """Its owner is told, finds it among those to cancel, and nobody else does; so with runs that are pushed aside."""
    run = await here.insert(new_run())
    cancelled = heard(here, Topic.CANCEL)
    marked = await there.ask_cancel("default", run.run_id, "rollback")
    assert marked == msgspec.structs.replace(run, cancel="rollback")
    await until(lambda: run.run_id in cancelled)
    assert names(await here.to_cancel()) == [run.run_id]
    assert await there.to_cancel() == []
    other = await here.insert(new_run())
    await there.insert(new_run(thread_id=other.thread_id, choices=Choices(strategy="interrupt")))
    await until(lambda: other.run_id in cancelled)
    assert set(names(await here.to_cancel())) == {run.run_id, other.run_id}


async def signals_reach_the_others(here: Store, there: Store) -> None:
    """A run that may start, one that is made, and a thread that becomes free are rung in the other process too."""
    queue, threads = heard(there, Topic.QUEUE), heard(there, Topic.THREAD)
    run = await here.insert(new_run(choices=QUEUE))
    await until(lambda: len(threads) == 1)
    await here.insert(new_run(thread_id=run.thread_id, choices=QUEUE))
    await until(lambda: len(threads) == 2)
    queue.clear()
    await settled(here, run)
    await until(lambda: bool(queue))
    queue.clear()
    await here.insert(waiting_run())
    await until(lambda: bool(queue))
    queue.clear()
    async with here.hold("default", new_id()):
        pass
    await until(lambda: bool(queue))


async def the_most_runs_are_exact_everywhere(here: Store, there: Store) -> None:
    """However many processes make runs of an agent at once, a tenant has no more of them than it may."""
    stores = (here, there)
    for temporary in (False, True):
        tenant = new_id()
        tries = (
            stores[number % 2].insert(new_run(tenant=tenant, temporary=temporary), most=10) for number in range(40)
        )
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert Counter(type(outcome) for outcome in outcomes) == {Run: 10, TooMany: 30}


async def keys_and_threads_are_taken_once_everywhere(here: Store, there: Store) -> None:
    """One idempotency key makes one run, and one thread takes one run, in however many processes it is tried."""
    for number in range(8):
        key, thread = Idempotency(key=str(number), fingerprint="f"), new_id()
        made = await asyncio.gather(*(store.insert(new_run(), idempotency=key) for store in (here, there) * 2))
        assert len({run.run_id for run in made}) == 1
        tries = (store.insert(new_run(thread_id=thread)) for store in (here, there) * 2)
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert Counter(type(outcome) for outcome in outcomes) == {Run: 1, Busy: 3}


async def a_thread_is_held_everywhere(here: Store, there: Store) -> None:
    """While one process holds a thread, no other makes or starts a run of it, or holds it."""
    thread, other = new_id(), new_id()
    waiting = await here.insert(waiting_run(thread_id=thread))

    async def hold() -> None:
        async with there.hold("default", other):
            pass

    async with here.hold("default", thread), here.hold("default", other):
        late = [asyncio.ensure_future(hold()), asyncio.ensure_future(there.insert(waiting_run(thread_id=thread)))]
        assert await there.claim(TRIAL, limit=9) == []
        assert await here.claim(TRIAL, limit=9) == []
        assert not (await asyncio.wait(late, timeout=0.1))[0]
    await asyncio.gather(*late)
    assert names(await there.claim(TRIAL, limit=1)) == [waiting.run_id]


async def one_process_calls_for_each_end(here: Store, there: Store) -> None:
    """The webhooks of ended runs are for the process that ended them, and for another once that is gone."""
    ends = [await finished(here, new_run(webhook="https://hooks.example.com/")) for _ in range(3)]
    for end in ends:
        known = await there.get("default", end.run_id)
        assert known is not None
        assert known.owner == here.lease.owner
    assert await there.calling(limit=9) == []
    assert names(await here.calling(limit=9)) == names(ends)
    await here.leave()
    assert names(await there.calling(limit=9)) == names(ends)


PROMISES: tuple[SharedPromise, ...] = (
    each_run_is_claimed_once,
    threads_have_one_run_whoever_claims,
    tenants_take_turns_everywhere,
    the_runs_of_a_lost_process_are_taken_once,
    a_lease_that_is_over_is_not_lost_until_it_is_taken,
    who_has_lost_its_lease_writes_nothing,
    who_is_told_of_the_loss_by_its_renewal_begins_anew,
    who_leaves_leaves_its_runs_at_once,
    a_run_is_cancelled_from_another_process,
    signals_reach_the_others,
    the_most_runs_are_exact_everywhere,
    keys_and_threads_are_taken_once_everywhere,
    a_thread_is_held_everywhere,
    one_process_calls_for_each_end,
)

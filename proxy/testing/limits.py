"""What a store promises of runs that are cancelled, pushed aside, held up or too many, and what it rings of them."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from proxy.errors import TooMany
from proxy.events import NULL, Completed
from proxy.model import Choices, Idempotency, Run, RunStatus, new_id
from proxy.store.base import Store
from proxy.store.signals import Topic, made_on
from proxy.testing.runs import TRIAL, Promise, ended, heard, names, new_run, settled, until, waiting_run


async def the_first_to_cancel_says_how(store: Store) -> None:
    """A run is marked once, durably, and its owner told; one that has ended stays as it is; there is no other."""
    run = await store.insert(new_run())
    cancelled = heard(store, Topic.CANCEL)
    assert await store.to_cancel() == []
    assert await store.ask_cancel("other", run.run_id, "interrupt") is None
    assert await store.ask_cancel("default", new_id(), "interrupt") is None
    for action in ("rollback", "interrupt"):
        marked = await store.ask_cancel("default", run.run_id, action)
        assert marked == msgspec.structs.replace(run, cancel="rollback")
    await until(lambda: run.run_id in cancelled)
    assert await store.get("default", run.run_id) == marked
    assert await store.to_cancel() == [msgspec.structs.replace(run, cancel="rollback", input=NULL)]
    log = store.begin(run, inserted=True)
    end = ended(log.run)
    await log.settle(Completed(), end)
    assert await store.ask_cancel("default", run.run_id, "interrupt") == end
    assert await store.to_cancel() == []


async def a_run_that_is_not_stored_yet_is_told_as_it_is(store: Store) -> None:
    """To cancel a run whose record is still to come returns the record that its owner has."""
    log = store.begin(new_run(temporary=True), inserted=False)
    found = await store.ask_cancel("default", log.run.run_id, "interrupt")
    assert found is not None
    assert (found.run_id, found.status, found.owner) == (log.run.run_id, RunStatus.RUNNING, store.lease.owner)


async def what_happens_is_rung(store: Store) -> None:
    """A run that may start, a thread that is free for the next, and each run that is made on a thread."""
    queue, threads = heard(store, Topic.QUEUE), heard(store, Topic.THREAD)
    first = await store.insert(new_run(tenant="a b", choices=Choices(strategy="enqueue")))
    await until(lambda: bool(threads))
    assert [made_on(name) for name in threads] == [("a b", first.thread_id, first.run_id)]
    await store.insert(new_run(temporary=True))
    second = await store.insert(new_run(tenant="a b", thread_id=first.thread_id, choices=Choices(strategy="enqueue")))
    await until(lambda: len(threads) == 2)
    assert queue == [], "nothing may start, and there is nothing to look for"
    await settled(store, first)
    await until(lambda: bool(queue))
    queue.clear()
    assert names(await store.claim(TRIAL, limit=9)) == [second.run_id]
    await store.insert(waiting_run())
    await until(lambda: bool(queue))


async def a_tenant_has_so_many_runs_of_an_agent(store: Store) -> None:
    """`most` counts what has not ended, whether it runs, waits or is not stored yet, and is exact however many come at
    once; other agents and tenants do not count, nor does a run that is there already."""
    log = store.begin(new_run(temporary=True), inserted=False)
    await store.insert(waiting_run())
    for fields in ({"agent": "other"}, {"tenant": "other"}):
        await store.insert(new_run(**fields))
    tries = [store.insert(new_run(), most=5) for _ in range(20)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    made = [run for run in outcomes if isinstance(run, Run)]
    assert (len(made), sum(isinstance(error, TooMany) for error in outcomes)) == (3, 17)
    assert await refused(store)
    await settled(store, made[0])
    key = Idempotency(key="k", fingerprint="f")
    last = await store.insert(new_run(), idempotency=key, most=5)
    assert await store.insert(new_run(), idempotency=key, most=5) == last
    await log.settle(Completed(), ended(log.run))
    assert not await refused(store)
    assert await refused(store)


async def refused(store: Store) -> bool:
    try:
        await store.insert(new_run(), most=5)
    except TooMany:
        return True
    return False


async def a_run_that_interrupts_marks_the_others(store: Store) -> None:
    """With `interrupt` and `rollback` all others of the thread are to be cancelled, and their owners are told; those
    that were told so before stay as they were."""
    for strategy in ("interrupt", "rollback"):
        thread, cancelled = new_id(), heard(store, Topic.CANCEL)
        others = [await store.insert(new_run(thread_id=thread, choices=Choices(strategy="enqueue"))) for _ in range(3)]
        aside = await store.insert(new_run(thread_id=thread, temporary=True))
        await store.ask_cancel("default", others[1].run_id, "interrupt")
        run = await store.insert(new_run(thread_id=thread, choices=Choices(strategy=strategy)))
        assert (run.status, run.cancel) == (RunStatus.PENDING, None)
        known = [await store.get("default", other.run_id) for other in (*others, aside)]
        assert [found and found.cancel for found in known] == [strategy, "interrupt", strategy, None]
        await until(partial(set(names(others)).issubset, cancelled))
        assert names(await store.claim(TRIAL, limit=9)) == names(others[1:])
        for other in others:
            await settled(store, other)
        assert names(await store.claim(TRIAL, limit=9)) == [run.run_id]


async def a_held_thread_takes_no_run(store: Store) -> None:
    """While somebody holds a thread, no run is made on it or started, and whoever wants to hold it too waits; what is
    under way goes on, waiting runs can be taken to be ended, and other threads are not concerned."""
    thread, queue = new_id(), Choices(strategy="enqueue")
    running = await store.insert(new_run(thread_id=thread, choices=queue))
    doomed, behind = [await store.insert(new_run(thread_id=thread, choices=queue)) for _ in range(2)]
    rung = heard(store, Topic.QUEUE)

    async def hold() -> None:
        async with store.hold("default", thread):
            pass

    async with store.hold("default", thread):
        late = [
            asyncio.ensure_future(store.insert(new_run(thread_id=thread, choices=queue))),
            asyncio.ensure_future(hold()),
        ]
        await settled(store, running)
        assert await store.take("default", doomed.run_id) is not None
        await settled(store, doomed)
        assert await store.claim(TRIAL, limit=9) == []
        assert (await store.insert(new_run())).status is RunStatus.RUNNING
        assert (await store.insert(new_run(tenant="other", thread_id=thread))).status is RunStatus.RUNNING
        assert not (await asyncio.wait(late, timeout=0.05))[0]
        rung.clear()
    await asyncio.gather(*late)
    await until(lambda: bool(rung))
    assert names(await store.claim(TRIAL, limit=1)) == [behind.run_id]


PROMISES: tuple[Promise, ...] = (
    the_first_to_cancel_says_how,
    a_run_that_is_not_stored_yet_is_told_as_it_is,
    what_happens_is_rung,
    a_tenant_has_so_many_runs_of_an_agent,
    a_run_that_interrupts_marks_the_others,
    a_held_thread_takes_no_run,
)

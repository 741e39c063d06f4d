"""What a store promises of runs that wait: who gets them, when, and who may stop them."""

from __future__ import annotations

import asyncio
import time

import msgspec

from proxy.events import NULL
from proxy.model import Choices, RunStatus, new_id
from proxy.store.base import Store
from proxy.store.claims import Server
from proxy.store.signals import Topic
from proxy.testing.runs import TRIAL, Promise, heard, names, new_run, settled, until, waiting_run


async def the_oldest_run_that_waits_is_claimed_first(store: Store) -> None:
    """A claim gives that many runs, the oldest first; they are running then and owned by the process, and are not
    given again."""
    made = [await store.insert(waiting_run()) for _ in range(5)]
    assert {(run.status, run.owner) for run in made} == {(RunStatus.PENDING, None)}
    claimed = await store.claim(TRIAL, limit=3)
    assert names(claimed) == names(made)[:3]
    for run, was in zip(claimed, made, strict=False):
        now = {"status": RunStatus.RUNNING, "owner": store.lease.owner, "updated_at": run.updated_at}
        assert run == msgspec.structs.replace(was, **now)
        assert await store.get("default", run.run_id) == run
    assert names(await store.claim(TRIAL, limit=3)) == names(made)[3:]
    assert await store.claim(TRIAL, limit=3) == []


async def a_run_is_claimed_for_agents_that_are_there(store: Store) -> None:
    """A run of an agent that was not asked for goes on waiting."""
    one, other = await store.insert(waiting_run(agent="a")), await store.insert(waiting_run(agent="b"))
    assert await store.claim((), limit=9) == []
    assert await store.claim(("c",), limit=9) == []
    assert names(await store.claim(("b", "c"), limit=9)) == [other.run_id]
    assert names(await store.claim(("b", "a"), limit=9)) == [one.run_id]


async def a_delayed_run_is_claimed_when_its_time_has_come(store: Store) -> None:
    """Until then `due_at` tells when that will be, for the agents that are asked for."""
    later = await store.insert(waiting_run(not_before=time.time() + 60))
    far = await store.insert(waiting_run(not_before=time.time() + 90, agent="far"))
    assert await store.claim(("trial", "far"), limit=9) == []
    assert await store.due_at(("trial", "far")) == later.not_before
    assert await store.due_at(("far", "none")) == far.not_before
    assert await store.due_at(("none",)) is None
    soon = await store.insert(waiting_run(not_before=time.time() + 0.1))
    past = await store.insert(waiting_run(not_before=time.time() - 60))
    claimed = await store.claim(TRIAL, limit=9)
    while len(claimed) < 2:
        claimed += await store.claim(TRIAL, limit=9)
        await asyncio.sleep(0.01)
    assert set(names(claimed)) == {past.run_id, soon.run_id}
    assert await store.due_at(TRIAL) == later.not_before


async def a_thread_gives_way_to_one_run_after_the_other(store: Store) -> None:
    """Of the runs that wait for their thread the oldest is claimed when the one before it has ended."""
    thread, queue = new_id(), Choices(strategy="enqueue")
    first, *rest = [await store.insert(new_run(thread_id=thread, choices=queue)) for _ in range(4)]
    while rest:
        assert await store.claim(TRIAL, limit=9) == []
        await settled(store, first)
        [first] = await store.claim(TRIAL, limit=9)
        assert first.run_id == rest.pop(0).run_id


async def nobody_overtakes_on_a_thread(store: Store) -> None:
    """A run waits behind an older one of its thread that is due, though nobody here has that one's agent; not behind
    one whose time has not come."""
    thread = new_id()
    older = await store.insert(waiting_run(thread_id=thread, agent="elsewhere"))
    newer = await store.insert(waiting_run(thread_id=thread))
    assert await store.claim(TRIAL, limit=9) == []
    assert names(await store.claim(("elsewhere",), limit=9)) == [older.run_id]
    await settled(store, older)
    await store.insert(waiting_run(thread_id=thread, run_id=new_id(), not_before=time.time() + 60))
    last = await store.insert(waiting_run(thread_id=thread))
    assert names(await store.claim(TRIAL, limit=9)) == [newer.run_id]
    await settled(store, newer)
    assert names(await store.claim(TRIAL, limit=9)) == [last.run_id]


async def hidden_threads_wait_for_their_time_alone(store: Store) -> None:
    """Runs of hidden threads do not wait for each other, or make anybody wait."""
    thread = new_id()
    made = [await store.insert(waiting_run(thread_id=thread, temporary=True)) for _ in range(2)]
    made.append(await store.insert(waiting_run(thread_id=thread)))
    assert names(await store.claim(TRIAL, limit=9)) == names(made)
    late = await store.insert(waiting_run(thread_id=thread, temporary=True))
    assert names(await store.claim(TRIAL, limit=9)) == [late.run_id]


async def tenants_take_turns(store: Store) -> None:
    """The tenant that has fewest runs under way comes first, of several the one whose run is the oldest, whatever the
    agents; what its tenants have under way already counts."""
    a = [await store.insert(waiting_run(tenant="a", agent=("x", "y")[number % 2])) for number in range(5)]
    b = [await store.insert(waiting_run(tenant="b")) for _ in range(3)]
    c = await store.insert(waiting_run(tenant="c"))
    agents = ("trial", "x", "y", "z")
    assert names(await store.claim(agents, limit=4)) == names([a[0], b[0], c, a[1]])
    assert names(await store.claim(agents, limit=3)) == names([b[1], a[2], b[2]])
    assert names(await store.claim(agents, limit=9)) == names(a[3:])


async def a_run_to_be_cancelled_is_claimed_by_anybody_at_once(store: Store) -> None:
    """Whatever its agent, its time and its thread, a waiting run that is to be cancelled is handed out, and only once;
    what has the thread goes on."""
    thread, queue = new_id(), Choices(strategy="enqueue")
    running = await store.insert(new_run(thread_id=thread, choices=queue))
    behind = await store.insert(new_run(thread_id=thread, choices=queue))
    delayed = await store.insert(waiting_run(not_before=time.time() + 60))
    foreign = await store.insert(waiting_run(agent="elsewhere"))
    for run in (behind, delayed, foreign):
        assert await store.ask_cancel("default", run.run_id, "rollback") is not None
    claimed = await store.claim((), limit=2) + await store.claim(TRIAL, limit=9)
    assert names(claimed) == names([behind, delayed, foreign])
    assert {(run.status, run.cancel, run.owner) for run in claimed} == {
        (RunStatus.RUNNING, "rollback", store.lease.owner)
    }
    assert await store.claim(TRIAL, limit=9) == []
    for run in claimed:
        await settled(store, run)
    await settled(store, running)
    assert await store.claim(TRIAL, limit=9) == []


async def a_run_can_be_given_back(store: Store) -> None:
    """A run that its process lets go waits again, with the attempt that was given, until somebody claims it; what is
    not this process's cannot be given back."""
    run = await store.insert(waiting_run())
    assert not await store.release(run)
    [claimed] = await store.claim(TRIAL, limit=1)
    rung = heard(store, Topic.QUEUE)
    assert await store.release(msgspec.structs.replace(claimed, attempt=2))
    await until(lambda: bool(rung))
    assert not await store.release(claimed)
    known = await store.get("default", run.run_id)
    assert known is not None
    assert (known.status, known.owner, known.attempt, known.losses) == (RunStatus.PENDING, None, 2, 0)
    [again] = await store.claim(TRIAL, limit=9)
    assert (again.run_id, again.attempt, again.owner) == (run.run_id, 2, store.lease.owner)
    await settled(store, again)
    assert not await store.release(again)


async def a_waiting_run_can_be_taken_to_be_ended(store: Store) -> None:
    """By one alone, whatever it waits for; one that does not wait cannot. It waits no more, and its end is its end."""
    thread, queue = new_id(), Choices(strategy="enqueue")
    running = await store.insert(new_run(thread_id=thread, choices=queue))
    behind = await store.insert(new_run(thread_id=thread, choices=queue))
    delayed = await store.insert(waiting_run(not_before=time.time() + 60, agent="elsewhere"))
    assert await store.take("default", running.run_id) is None
    assert await store.take("other", behind.run_id) is None
    for run in (behind, delayed):
        tries = await asyncio.gather(*(store.take("default", run.run_id) for _ in range(5)))
        [taken] = [found for found in tries if found is not None]
        assert (taken.run_id, taken.status, taken.owner) == (run.run_id, RunStatus.RUNNING, store.lease.owner)
        assert await store.waiting() == ({("default", "elsewhere"): 1} if run is behind else {})
        await settled(store, taken)
        known = await store.get("default", run.run_id)
        assert known is not None
        assert known.ended


async def waiting_runs_are_counted(store: Store) -> None:
    """`waiting` counts them by tenant and agent, those under way not among them."""
    await store.insert(new_run())
    for tenant, agent, count in (("a", "x", 2), ("a", "y", 1), ("b", "x", 1)):
        for _ in range(count):
            await store.insert(waiting_run(tenant=tenant, agent=agent))
    assert await store.waiting() == {("a", "x"): 2, ("a", "y"): 1, ("b", "x"): 1}


async def stranded_runs_can_be_taken(store: Store) -> None:
    """Runs of agents that nobody has, which are due and were made before a moment, are handed out to be ended."""
    stranded = await store.insert(waiting_run(agent="gone"))
    await store.insert(waiting_run(agent="gone", not_before=time.time() + 60))
    await store.insert(waiting_run())
    await store.insert(waiting_run(agent="gone", created_at=time.time() + 60))
    assert await store.take_stranded(("trial", "gone"), before=time.time() + 1, limit=9) == []
    assert await store.take_stranded(TRIAL, before=stranded.created_at - 1, limit=9) == []
    taken = await store.take_stranded(TRIAL, before=time.time() + 1, limit=9)
    assert names(taken) == [stranded.run_id]
    assert (taken[0].status, taken[0].owner) == (RunStatus.RUNNING, store.lease.owner)
    assert await store.take_stranded(TRIAL, before=time.time() + 1, limit=9) == []


async def what_was_handed_out_and_never_began_can_be_taken_like_what_is_lost(store: Store) -> None:
    """`strays` are this process's runs that have no log here; those of them that are asked for count one loss more,
    and what was only to be ended waits again."""
    begun, made = await store.insert(new_run()), await store.insert(new_run())
    store.begin(begun, inserted=True)
    behind = await store.insert(waiting_run())
    [claimed] = await store.claim(TRIAL, limit=1)
    doomed = await store.insert(waiting_run(cancel="rollback"))
    assert await store.take("default", doomed.run_id) is not None
    await store.insert(waiting_run())
    strays = {run.run_id: run for run in await store.strays()}
    assert sorted(strays) == sorted([made.run_id, behind.run_id, doomed.run_id])
    assert strays[claimed.run_id] == msgspec.structs.replace(claimed, input=NULL)
    assert await store.take_lost(limit=9) == []
    lost = await store.take_lost(limit=9, strays=[strays[made.run_id], strays[doomed.run_id]])
    taken = {"attempt": 2, "losses": 1, "owner": store.lease.owner}
    assert [(one.run, one.last) for one in lost] == [(msgspec.structs.replace(made, **taken), 0)]
    assert await store.get("default", claimed.run_id) == claimed
    assert doomed.run_id not in names(await store.strays())
    assert names(await store.claim((), limit=9)) == [doomed.run_id]
    await settled(store, made)
    assert await store.take_lost(limit=9, strays=[made]) == []
    assert made.run_id not in names(await store.strays())


async def a_process_is_seen_until_it_leaves(store: Store) -> None:
    """Whoever joins is among the servers, by its owner's name, and renews its lease; what it has is not lost."""
    await store.join(Server(server_id="whatever", kind="worker", host="h", pid=7, agents=frozenset(TRIAL)))
    [server] = await store.servers()
    assert (server.server_id, server.kind, server.host, server.pid) == (store.lease.owner, "worker", "h", 7)
    assert server.agents == {"trial"}
    await store.insert(new_run())
    assert await store.renew()
    assert store.lease.holds()
    assert await store.take_lost(limit=9) == []
    await store.leave()
    assert await store.servers() == []


PROMISES: tuple[Promise, ...] = (
    the_oldest_run_that_waits_is_claimed_first,
    a_run_is_claimed_for_agents_that_are_there,
    a_delayed_run_is_claimed_when_its_time_has_come,
    a_thread_gives_way_to_one_run_after_the_other,
    nobody_overtakes_on_a_thread,
    hidden_threads_wait_for_their_time_alone,
    tenants_take_turns,
    a_run_to_be_cancelled_is_claimed_by_anybody_at_once,
    a_run_can_be_given_back,
    a_waiting_run_can_be_taken_to_be_ended,
    waiting_runs_are_counted,
    stranded_runs_can_be_taken,
    what_was_handed_out_and_never_began_can_be_taken_like_what_is_lost,
    a_process_is_seen_until_it_leaves,
)

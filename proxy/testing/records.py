"""What a store promises of records."""

from __future__ import annotations

import asyncio
import time

import msgspec

from proxy.errors import Busy, Conflict, NotWaiting
from proxy.events import NULL, Completed, Interrupt, PendingCall
from proxy.model import Choices, Idempotency, Run, RunStatus, new_id
from proxy.store.base import RunQuery, Store
from proxy.testing.runs import Promise, emptied, ended, finished, followed, ids, new_run, pause_of, seqs

RUNNING = frozenset({RunStatus.RUNNING})
AT_ONCE = 50


async def a_record_comes_back_as_it_was(store: Store) -> None:
    """Every field of a record is kept, before the run's end and after it."""
    choices = Choices(metadata={"a": "ä\u2028"}, store=False, keepalive=2.5, context={"deep": [1, {"x": None}]})
    run = new_run(choices=choices, group="g", temporary=True, attempt=3, losses=2, owner=store.lease.owner)
    assert await store.insert(run) == run
    assert await store.get("default", run.run_id) == run
    end = ended(run)
    await store.begin(run, inserted=True).settle(Completed(), end)
    assert await store.get("default", run.run_id) == end
    assert await store.find(RunQuery(tenant="default", group="g")) == [end]


async def a_run_is_found_before_it_is_on_disk(store: Store) -> None:
    """A run that has just begun is there for `get` and `find`."""
    run = new_run()
    log = store.begin(run, inserted=False)
    assert log.run == msgspec.structs.replace(run, owner=store.lease.owner)
    assert await store.get("default", run.run_id) == log.run
    assert await ids(store, thread_id=run.thread_id) == [run.run_id]
    assert await ids(store, statuses=frozenset({RunStatus.SUCCESS})) == []


async def runs_are_found_newest_first(store: Store) -> None:
    """`find` honours every condition, newest first, and pages through the rest."""
    thread = new_id()
    runs = [new_run(thread_id=thread, group="odd" if number % 2 else None) for number in range(6)]
    for number, run in enumerate(runs):
        if number < 3:
            await finished(store, run)
        else:
            store.begin(run, inserted=False)
    await finished(store, new_run())
    newest = [run.run_id for run in reversed(runs)]
    assert await ids(store, thread_id=thread) == newest
    assert await ids(store, thread_id=thread, limit=2, offset=2) == newest[2:4]
    assert await ids(store, thread_id=thread, statuses=RUNNING) == newest[:3]
    assert await ids(store, group="odd") == [run.run_id for run in reversed(runs[1::2])]


async def tenants_do_not_see_each_other(store: Store) -> None:
    """What belongs to one tenant does not exist for another."""
    run = new_run(tenant="a")
    key = Idempotency(key="k", fingerprint="f")
    await store.insert(run, idempotency=key)
    end = ended(run)
    await store.begin(run, inserted=True).settle(Completed(), end, pause_of(run))
    assert await store.get("b", run.run_id) is None
    assert await ids(store, tenant="b") == []
    assert await store.pauses("b", run.thread_id) == []
    assert not await store.delete("b", run.run_id)
    assert not await store.transition(msgspec.structs.replace(end, tenant="b"), frm=frozenset(RunStatus))
    other = new_run(tenant="b", thread_id=run.thread_id, owner=store.lease.owner)
    assert await store.insert(other, idempotency=key) == other
    assert await store.get("a", run.run_id) == end


async def a_status_changes_only_from_what_was_expected(store: Store) -> None:
    """Of many that change a status from the same one, one succeeds, on disk or not."""
    for inserted in (True, False):
        run = new_run(status=RunStatus.PENDING)
        if inserted:
            await store.insert(run)
        log = store.begin(run, inserted=inserted)
        running = msgspec.structs.replace(run, status=RunStatus.RUNNING)
        tries = [store.transition(running, frm=frozenset({RunStatus.PENDING})) for _ in range(8)]
        assert (await asyncio.gather(*tries)).count(True) == 1
        assert log.run == running
        assert await store.get("default", run.run_id) == running
    assert not await store.transition(new_run(), frm=frozenset(RunStatus))


async def a_key_makes_one_run(store: Store) -> None:
    """Many inserts at once with one idempotency key make one run, which all of them get."""
    key = Idempotency(key="once", fingerprint="f")
    made = await asyncio.gather(*(store.insert(new_run(), idempotency=key) for _ in range(AT_ONCE)))
    assert len({run.run_id for run in made}) == 1
    assert len(await ids(store)) == 1
    log = store.begin(made[0], inserted=True)
    await log.settle(Completed(), ended(made[0]))
    again = await store.insert(new_run(), idempotency=key)
    assert again.status is RunStatus.SUCCESS, "a repeat must get the run as it is now"


async def a_key_stands_for_one_request(store: Store) -> None:
    """The same key with another fingerprint is a `Conflict`, and so is the key of a deleted run."""
    run = new_run()
    await store.insert(run, idempotency=Idempotency(key="k", fingerprint="f"))
    await refused(store, Idempotency(key="k", fingerprint="g"))
    await store.begin(run, inserted=True).settle(Completed(), ended(run))
    assert await store.delete("default", run.run_id)
    await refused(store, Idempotency(key="k", fingerprint="f"))


async def refused(store: Store, key: Idempotency) -> None:
    before = await ids(store)
    try:
        await store.insert(new_run(), idempotency=key)
    except Conflict:
        assert await ids(store) == before
    else:
        raise AssertionError("a key was taken for another request")


async def a_thread_takes_one_run_at_a_time(store: Store) -> None:
    """Of many exclusive inserts at once one succeeds; the others name it. Its end makes room."""
    thread = new_id()
    outcomes = await asyncio.gather(*(claimed(store, thread) for _ in range(AT_ONCE)))
    (winner,) = [run for run in outcomes if isinstance(run, Run)]
    assert outcomes.count(winner.run_id) == AT_ONCE - 1
    log = store.begin(winner, inserted=True)
    assert await claimed(store, thread) == winner.run_id
    await log.settle(Completed(), ended(winner))
    assert isinstance(await claimed(store, thread), Run)


async def a_live_run_keeps_its_thread(store: Store) -> None:
    """A run that is not on disk yet makes its thread busy; a temporary one never does."""
    temporary = new_run(temporary=True)
    store.begin(temporary, inserted=False)
    await store.insert(new_run(thread_id=temporary.thread_id))
    run = new_run()
    store.begin(run, inserted=False)
    assert await claimed(store, run.thread_id) == run.run_id


async def claimed(store: Store, thread_id: str) -> Run | str:
    """A new run on the thread, or the id of the one that has it."""
    try:
        return await store.insert(new_run(thread_id=thread_id))
    except Busy as busy:
        return busy.run_id


async def a_pause_is_answered_once(store: Store) -> None:
    """A pause is open until the first answer, and comes back as it was written."""
    run = new_run()
    pause = pause_of(
        run,
        interrupts=(Interrupt(id="i", value=msgspec.Raw(b'{"q": 1}')),),
        calls=(PendingCall(call_id="c", name="f"),),
    )
    await finished(store, run, pause=pause)
    assert await store.pauses("default", run.thread_id) == [pause]
    assert await store.pauses("default", agent="trial") == [pause]
    assert await store.pauses("default", agent="other") == []
    answers = [new_run(thread_id=run.thread_id, resumes=run.run_id) for _ in range(10)]
    results = await asyncio.gather(*(store.insert(answer) for answer in answers), return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 9
    [winner] = [result for result in results if isinstance(result, Run)]
    losers = [answer.run_id for answer in answers if answer.run_id != winner.run_id]
    assert [await store.get("default", run_id) for run_id in losers] == [None] * 9
    assert await store.get("default", winner.run_id) == winner
    assert winner.owner == store.lease.owner
    assert await store.pauses("default", run.thread_id) == []
    [answered] = await store.pauses("default", run.thread_id, answered=True)
    assert answered == msgspec.structs.replace(pause, answered_by=winner.run_id)


async def a_pause_can_be_dropped_while_it_is_open(store: Store) -> None:
    """By its own tenant, and until it is answered; nobody can answer it then."""
    run, other = new_run(thread_id="t"), new_run(thread_id="t")
    for one in (run, other):
        await finished(store, one, pause=pause_of(one))
    await store.insert(new_run(thread_id="t", temporary=True, resumes=other.run_id))
    for tenant, left in (("b", 1), ("default", 0)):
        for one in (run, other):
            await store.drop_pause(tenant, one.run_id)
        assert len(await store.pauses("default", "t")) == left
    assert [pause.run_id for pause in await store.pauses("default", "t", answered=True)] == [other.run_id]
    late = new_run(thread_id="t", temporary=True, resumes=run.run_id)
    [refusal] = await asyncio.gather(store.insert(late), return_exceptions=True)
    assert isinstance(refusal, NotWaiting)


async def pauses_come_newest_first_until_they_expire(store: Store) -> None:
    """Open pauses of a thread are listed newest first, without those that have expired."""
    runs = [new_run(thread_id="t") for _ in range(3)]
    for run, expires_at in zip(runs, (time.time() + 60, time.time() - 1, time.time() + 60), strict=True):
        await finished(store, run, pause=pause_of(run, expires_at=expires_at))
    assert [pause.run_id for pause in await store.pauses("default", "t")] == [runs[2].run_id, runs[0].run_id]


async def a_deleted_run_leaves_nothing(store: Store) -> None:
    """Deleting removes record, log and pause of an ended run, and only of an ended one."""
    run = new_run()
    log = store.begin(run, inserted=False)
    assert not await store.delete("default", run.run_id)
    await log.settle(Completed(), ended(run), pause_of(run))
    assert await store.delete("default", run.run_id)
    assert not await store.delete("default", run.run_id)
    assert await store.get("default", run.run_id) is None
    assert await store.pauses("default", run.thread_id) == []
    assert await store.read(run.run_id, after=0, limit=10) == []
    assert await followed(store, run.run_id) == []


async def a_stripped_run_keeps_its_record(store: Store) -> None:
    """Stripping deletes the input and all entries but the last; a run under way is left alone."""
    run = new_run()
    log = store.begin(run, inserted=False)
    await store.strip(run)
    end = ended(run)
    await log.settle(Completed(), end)
    await emptied(store, end)
    assert await store.get("default", run.run_id) == msgspec.structs.replace(end, input=NULL)
    assert seqs(await store.read(run.run_id, after=0, limit=10)) == [1]


async def sweeping_deletes_what_is_old(store: Store) -> None:
    """Ended runs from before a moment go, with their logs; later ones and those under way stay."""
    old, live, young = new_run(), new_run(), new_run()
    store.begin(live, inserted=False)
    await finished(store, old)
    await asyncio.sleep(0.01)
    moment = time.time()
    await finished(store, young)
    assert [run.run_id for run in await store.sweep(before=moment, keep=0)] == [old.run_id]
    assert await store.sweep(before=moment, keep=0) == []
    assert await store.get("default", old.run_id) is None
    assert await store.read(old.run_id, after=0, limit=10) == []
    assert await ids(store) == [young.run_id, live.run_id]


async def sweeping_keeps_the_newest(store: Store) -> None:
    """Beyond so many ended runs the oldest go, until that many are left."""
    runs = [new_run() for _ in range(8)]
    for run in runs:
        await finished(store, run)
    while await store.sweep(before=0.0, keep=3):
        pass
    assert await ids(store) == [run.run_id for run in reversed(runs[5:])]


async def a_new_store_has_nothing_to_do(store: Store) -> None:
    """A new store answers, and has no run that waits or was lost."""
    await store.ping()
    assert await store.waiting() == {}
    assert await store.take_lost(limit=10) == []


PROMISES: tuple[Promise, ...] = (
    a_record_comes_back_as_it_was,
    a_run_is_found_before_it_is_on_disk,
    runs_are_found_newest_first,
    tenants_do_not_see_each_other,
    a_status_changes_only_from_what_was_expected,
    a_key_makes_one_run,
    a_key_stands_for_one_request,
    a_thread_takes_one_run_at_a_time,
    a_live_run_keeps_its_thread,
    a_pause_is_answered_once,
    a_pause_can_be_dropped_while_it_is_open,
    pauses_come_newest_first_until_they_expire,
    a_deleted_run_leaves_nothing,
    a_stripped_run_keeps_its_record,
    sweeping_deletes_what_is_old,
    sweeping_keeps_the_newest,
    a_new_store_has_nothing_to_do,
)

"""What a store promises of threads."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from msgspec import Raw

from proxy.errors import Busy, Conflict
from proxy.events import Completed, Failed, Interrupt
from proxy.model import Fault, Lifetime, Run, RunStatus, Thread, ThreadOutcome, ThreadStatus, new_id
from proxy.store.base import Store, ThreadQuery
from proxy.testing.runs import Promise, ended, finished, new_run, say

AT_ONCE = 20
ENDS = {"updated_at": 0.0, "state_updated_at": None}
"""What the store itself sets when a run leaves a thread."""


def new_thread(**fields: Any) -> Thread:
    now = time.time()
    return msgspec.structs.replace(Thread(thread_id=new_id(), created_at=now, updated_at=now), **fields)


def left(thread: Thread | None) -> ThreadOutcome:
    assert thread is not None, "the thread is gone"
    return thread.outcome


async def status(store: Store, thread_id: str) -> ThreadStatus:
    thread = await store.get_thread("default", thread_id)
    assert thread is not None, "the thread is gone"
    return thread.status


async def found(store: Store, **query: Any) -> list[str]:
    return [thread.thread_id for thread in await store.find_threads(ThreadQuery(**{"tenant": "default"} | query))]


async def a_thread_comes_back_as_it_was(store: Store) -> None:
    """Every field of a thread is kept."""
    asked = (Interrupt(id="i", value=Raw(b'{"q":1}')),)
    thread = new_thread(
        metadata={"a": "ä\u2028", "deep": [1, {"x": None}]},
        config={"tags": ["t"], "configurable": {"n": 1.5}},
        lifetime=Lifetime(ttl=90.0, strategy="keep_latest"),
    )
    assert await store.insert_thread(thread) == thread
    assert await store.get_thread("default", thread.thread_id) == thread
    outcome = ThreadOutcome(
        status=ThreadStatus.INTERRUPTED,
        values=Raw(b'{"messages": []}'),
        interrupts={"task": asked},
        fault=Fault(error="ValueError", message="boom"),
    )
    assert await store.leave_thread("default", thread.thread_id, outcome)
    known = await store.get_thread("default", thread.thread_id)
    assert known is not None
    assert known.state_updated_at is not None
    assert msgspec.structs.replace(known, **ENDS) == msgspec.structs.replace(thread, outcome=outcome, **ENDS)


async def a_thread_is_made_once(store: Store) -> None:
    """Of many inserts of one id one makes it; the others are refused, or get the one there is."""
    made = new_thread(metadata={"first": True})
    await store.insert_thread(made)
    again = msgspec.structs.replace(made, metadata={})
    tries = [store.insert_thread(again) for _ in range(AT_ONCE)]
    refused = await asyncio.gather(*tries, return_exceptions=True)
    assert all(isinstance(result, Conflict) for result in refused)
    assert await store.insert_thread(again, if_exists="do_nothing") == made


async def metadata_merges_key_by_key(store: Store) -> None:
    """Patches at once do not undo each other; what they do not name stays."""
    thread = await store.insert_thread(new_thread(metadata={"a": 1, "deep": {"x": 1}}))
    patches = [{str(number): number} for number in range(AT_ONCE)]
    await asyncio.gather(*(store.patch_thread("default", thread.thread_id, metadata=patch) for patch in patches))
    known = await store.patch_thread(
        "default", thread.thread_id, metadata={"a": 2, "deep": {}}, lifetime=Lifetime(ttl=1.0)
    )
    assert known is not None
    assert known.metadata == {"a": 2, "deep": {}} | {str(number): number for number in range(AT_ONCE)}
    assert known.lifetime == Lifetime(ttl=1.0)
    assert known.updated_at >= thread.updated_at
    assert known.state_updated_at is None
    assert await store.patch_thread("default", new_id(), metadata={}) is None


async def the_end_of_a_run_leaves_its_thread(store: Store) -> None:
    """Run and thread change together; values stay where a run leaves none, questions and faults do not."""
    thread = await store.insert_thread(new_thread(metadata={"k": "v"}))
    first = ThreadOutcome(
        status=ThreadStatus.INTERRUPTED, values=Raw(b'{"n":1}'), interrupts={"t": (Interrupt(id="i"),)}
    )
    await settled(store, new_run(thread_id=thread.thread_id), first)
    assert left(await store.get_thread("default", thread.thread_id)) == first
    broken = ThreadOutcome(status=ThreadStatus.ERROR, fault=Fault(error="E", message="m"))
    await settled(store, new_run(thread_id=thread.thread_id), broken)
    known = await store.get_thread("default", thread.thread_id)
    assert left(known) == msgspec.structs.replace(broken, values=Raw(b'{"n":1}'))
    assert known is not None
    assert known.metadata == {"k": "v"}


async def settled(store: Store, run: Run, outcome: ThreadOutcome) -> None:
    log = store.begin(run, inserted=False)
    await say(log, range(2))
    final = Completed() if outcome.fault is None else Failed(code="x", message="y")
    assert await log.settle(final, ended(run), thread=outcome)
    assert not await log.settle(final, ended(run), thread=ThreadOutcome())


async def a_thread_without_a_record_costs_nothing(store: Store) -> None:
    """The end of a run makes no record for its thread."""
    run = new_run(temporary=True)
    await settled(store, run, ThreadOutcome(values=Raw(b"{}")))
    assert await store.get_thread("default", run.thread_id) is None
    assert not await store.leave_thread("default", run.thread_id, ThreadOutcome())


async def a_thread_is_busy_while_it_has_a_run(store: Store) -> None:
    """From the start of a run to its end, on disk or not; hidden runs do not count."""
    thread = await store.insert_thread(new_thread())
    for stored in (True, False):
        run = new_run(thread_id=thread.thread_id, status=RunStatus.PENDING if stored else RunStatus.RUNNING)
        if stored:
            await store.insert(run)
        log = store.begin(run, inserted=stored)
        assert await status(store, thread.thread_id) is ThreadStatus.BUSY
        assert await found(store, status=ThreadStatus.BUSY) == [thread.thread_id]
        assert await found(store, status=ThreadStatus.IDLE) == []
        await log.settle(Completed(), ended(run), thread=ThreadOutcome())
        assert await status(store, thread.thread_id) is ThreadStatus.IDLE
    store.begin(new_run(thread_id=thread.thread_id, temporary=True), inserted=False)
    assert await found(store, status=ThreadStatus.IDLE) == [thread.thread_id]


async def a_deleted_thread_takes_its_runs_along(store: Store) -> None:
    """Record, runs and logs go, unless a run is under way: then nothing does."""
    thread = await store.insert_thread(new_thread())
    runs = [await finished(store, new_run(thread_id=thread.thread_id)) for _ in range(3)]
    other = await finished(store, new_run())
    for stored in (True, False):
        live = new_run(thread_id=thread.thread_id)
        if stored:
            await store.insert(live)
        log = store.begin(live, inserted=stored)
        assert await blocking(store, thread.thread_id) == live.run_id
        await log.settle(Completed(), ended(live))
    assert await store.get("default", runs[0].run_id) == runs[0]
    assert await store.delete_thread("default", thread.thread_id)
    assert await store.get_thread("default", thread.thread_id) is None
    assert [await store.get("default", run.run_id) for run in (*runs, other)] == [None, None, None, other]
    assert await store.read(runs[0].run_id, after=0, limit=10) == []
    assert not await store.delete_thread("default", thread.thread_id)


async def blocking(store: Store, thread_id: str) -> str:
    """The run that keeps a thread from being deleted."""
    try:
        await store.delete_thread("default", thread_id)
    except Busy as busy:
        return busy.run_id
    raise AssertionError("a busy thread was deleted")


async def threads_are_found_by_what_they_hold(store: Store) -> None:
    """Each condition narrows what is found and counted; objects match what contains them."""
    one = await store.insert_thread(new_thread(metadata={"graph_id": "a", "user": {"name": "x", "age": 3}, "n": 1}))
    two = await store.insert_thread(
        new_thread(metadata={"graph_id": "a", "tags": ["p", "q"], 'odd"key': "v", "n": True})
    )
    await store.insert_thread(new_thread(metadata={"graph_id": "b"}))
    await store.leave_thread(
        "default", one.thread_id, ThreadOutcome(status=ThreadStatus.ERROR, values=Raw(b'{"s":{"t":1}}'))
    )
    for query, expected in (
        ({"metadata": {"graph_id": "a"}}, {one.thread_id, two.thread_id}),
        ({"metadata": {"graph_id": "a", "user": {"name": "x"}}}, {one.thread_id}),
        ({"metadata": {"tags": ["q"]}}, {two.thread_id}),
        ({"metadata": {'odd"key': "v"}}, {two.thread_id}),
        ({"metadata": {"n": 1}}, {one.thread_id}),
        ({"metadata": {"graph_id": "c"}}, set()),
        ({"metadata": {"graph_id": None}}, set()),
        ({"values": {"s": {"t": 1}}}, {one.thread_id}),
        ({"values": {"s": 2}}, set()),
        ({"status": ThreadStatus.ERROR}, {one.thread_id}),
        ({"ids": frozenset({two.thread_id, new_id()})}, {two.thread_id}),
        ({"ids": frozenset()}, set()),
    ):
        assert set(await found(store, **query)) == expected, f"{query} found something else"
        assert await store.count_threads(ThreadQuery(tenant="default", limit=1, **query)) == len(expected)


async def threads_are_sorted_and_paged(store: Store) -> None:
    """By any column, either way, with equal ones in the order of their ids; a page is a part of that."""
    threads = [await store.insert_thread(new_thread(created_at=float(at % 2), updated_at=float(at))) for at in range(6)]
    names = [thread.thread_id for thread in threads]
    by_creation = [
        thread.thread_id for thread in sorted(threads, key=lambda thread: (thread.created_at, thread.thread_id))
    ]
    assert await found(store) == names[::-1]
    assert await found(store, sort_by="thread_id", descending=False) == sorted(names)
    assert await found(store, sort_by="created_at", descending=False) == by_creation
    assert await found(store, sort_by="created_at") == by_creation[::-1]
    assert await found(store, limit=2, offset=3) == names[::-1][3:5]
    await store.leave_thread("default", names[2], ThreadOutcome())
    assert (await found(store, sort_by="state_updated_at"))[0] == names[2]
    store.begin(new_run(thread_id=names[3]), inserted=False)
    assert (await found(store, sort_by="status", descending=False))[0] == names[3]
    marked = names[1:5]
    for name in marked:
        await store.patch_thread("default", name, metadata={"deep": {"k": 1}})
    assert len(await found(store, metadata={"deep": {"k": 1}}, limit=3)) == 3
    assert len(await found(store, metadata={"deep": {"k": 1}}, limit=3, offset=3)) == 1


async def threads_of_tenants_are_apart(store: Store) -> None:
    """One id may be a thread of each of two tenants, and neither sees or changes the other's."""
    mine = new_thread(tenant="a", metadata={"of": "a"})
    theirs = msgspec.structs.replace(mine, tenant="b", metadata={"of": "b"})
    await store.insert_thread(mine)
    assert await store.get_thread("b", mine.thread_id) is None
    assert await store.patch_thread("b", mine.thread_id, metadata={"x": 1}) is None
    assert not await store.leave_thread("b", mine.thread_id, ThreadOutcome())
    assert not await store.delete_thread("b", mine.thread_id)
    await store.insert_thread(theirs)
    store.begin(new_run(tenant="b", thread_id=mine.thread_id), inserted=False)
    assert await store.get_thread("a", mine.thread_id) == mine
    assert await store.find_threads(ThreadQuery(tenant="a")) == [mine]
    assert await store.count_threads(ThreadQuery(tenant="c")) == 0


async def threads_whose_lifetime_has_run_out_are_found(store: Store) -> None:
    """Those of all tenants, unchanged for longest first, a bounded number; not while they are busy."""
    hour, past = Lifetime(ttl=60.0), time.time() - 3000.0
    old, older, young, lasting, busy = [
        await store.insert_thread(new_thread(updated_at=updated_at, lifetime=lifetime, tenant=tenant))
        for updated_at, lifetime, tenant in (
            (past - 1000.0, hour, "a"),
            (past - 2000.0, hour, "b"),
            (past, hour, "a"),
            (past - 3000.0, None, "a"),
            (past - 4000.0, hour, "a"),
        )
    ]
    for stored in (True, False):
        run = new_run(thread_id=busy.thread_id, tenant="a")
        if stored:
            await store.insert(run)
        log = store.begin(run, inserted=stored)
        assert await expired(store) == [older.thread_id, old.thread_id]
        await log.settle(Completed(), ended(run))
    assert await expired(store) == [busy.thread_id, older.thread_id, old.thread_id]
    assert await expired(store, limit=1) == [busy.thread_id]
    assert await expired(store, now=young.updated_at + 3601.0, limit=4) == [
        busy.thread_id,
        older.thread_id,
        old.thread_id,
        young.thread_id,
    ]
    await store.patch_thread("a", lasting.thread_id, metadata={}, lifetime=Lifetime(ttl=0.0001))
    assert (await expired(store, now=time.time() + 60.0))[-1] == lasting.thread_id


async def expired(store: Store, *, now: float | None = None, limit: int = 100) -> list[str]:
    found = await store.expired_threads(time.time() if now is None else now, limit=limit)
    return [thread.thread_id for thread in found]


async def a_lifetime_begins_again_after_it_was_swept(store: Store) -> None:
    """A thread that was swept is not found again until it has changed and run out once more."""
    thread = await store.insert_thread(new_thread(updated_at=1.0, lifetime=Lifetime(ttl=1.0, strategy="keep_latest")))
    assert await expired(store) == [thread.thread_id]
    await store.mark_swept("b", thread.thread_id)
    assert await expired(store) == [thread.thread_id]
    await store.mark_swept("default", thread.thread_id)
    assert await expired(store) == []
    assert await store.get_thread("default", thread.thread_id) == thread
    await store.leave_thread("default", thread.thread_id, ThreadOutcome())
    assert await expired(store) == []
    assert await expired(store, now=time.time() + 61.0) == [thread.thread_id]


PROMISES: tuple[Promise, ...] = (
    a_thread_comes_back_as_it_was,
    a_thread_is_made_once,
    metadata_merges_key_by_key,
    the_end_of_a_run_leaves_its_thread,
    a_thread_without_a_record_costs_nothing,
    a_thread_is_busy_while_it_has_a_run,
    a_deleted_thread_takes_its_runs_along,
    threads_are_found_by_what_they_hold,
    threads_are_sorted_and_paged,
    threads_of_tenants_are_apart,
    threads_whose_lifetime_has_run_out_are_found,
    a_lifetime_begins_again_after_it_was_swept,
)

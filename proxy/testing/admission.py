"""What a store promises of runs that find their thread busy, are cancelled before they exist, or are rolled back."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from proxy.errors import Busy, Conflict, NotWaiting
from proxy.events import Cancelled, Completed
from proxy.model import Choices, Idempotency, Run, RunStatus, Strategy, Thread, new_id
from proxy.store.base import RunQuery, Store
from proxy.testing.runs import Promise, ended, finished, new_run, pause_of

KEY = Idempotency(key="k", fingerprint="f")


def asking(strategy: Strategy, thread_id: str, **fields: Any) -> Run:
    return new_run(thread_id=thread_id, choices=Choices(strategy=strategy), **fields)


async def later_runs_wait_for_their_thread(store: Store) -> None:
    """Of many runs at once that do not mind waiting one begins; the others are pending."""
    thread = new_id()
    made = await asyncio.gather(*(store.insert(asking("enqueue", thread)) for _ in range(10)))
    assert sorted(run.status for run in made) == [RunStatus.PENDING] * 9 + [RunStatus.RUNNING]
    for run in made:
        known = await store.get("default", run.run_id)
        assert known is not None
        assert known.status == run.status
    assert await blocking(store, thread) == min(run.run_id for run in made)


async def blocking(store: Store, thread_id: str) -> str | None:
    """The run that keeps the thread from taking another."""
    try:
        await store.insert(asking("reject", thread_id))
    except Busy as busy:
        return busy.run_id
    return None


async def a_delayed_run_keeps_nobody_waiting(store: Store) -> None:
    """A run whose time has not come makes others wait only if they want the thread to be empty."""
    thread = new_id()
    delayed = asking("enqueue", thread, status=RunStatus.PENDING, not_before=time.time() + 60)
    assert (await store.insert(delayed)).status is RunStatus.PENDING
    assert (await store.insert(asking("enqueue", thread))).status is RunStatus.RUNNING
    known = await store.get("default", delayed.run_id)
    assert known is not None
    assert known.not_before == delayed.not_before


async def a_key_is_cancelled_before_its_run(store: Store) -> None:
    """A run whose idempotency key was cancelled beforehand is stored as one to cancel; the key holds afterwards."""
    assert await store.cancel_key("default", KEY.key) is None
    assert await store.cancel_key("default", KEY.key) is None
    run = new_run()
    stored = await store.insert(run, idempotency=KEY)
    assert (stored.run_id, stored.status, stored.cancel) == (run.run_id, RunStatus.PENDING, "interrupt")
    assert (await store.insert(new_run(), idempotency=KEY)).run_id == run.run_id
    assert await store.cancel_key("default", KEY.key) == run.run_id
    assert (await store.insert(new_run(tenant="other"), idempotency=KEY)).cancel is None


async def a_run_brings_its_thread(store: Store) -> None:
    """A run's thread is stored with it; one that is there gets the metadata that its newest run brings."""
    thread = Thread(thread_id=new_id(), created_at=1.0, updated_at=1.0, metadata={"assistant_id": "a", "mine": 1})
    run = await store.insert(new_run(thread_id=thread.thread_id), thread=thread)
    await store.begin(run, inserted=True).settle(Completed(), ended(run))
    known = await store.get_thread("default", thread.thread_id)
    assert known is not None
    assert known.metadata == {"assistant_id": "a", "mine": 1}
    other = msgspec.structs.replace(thread, metadata={"assistant_id": "b"})
    await store.insert(new_run(thread_id=thread.thread_id), thread=other)
    known = await store.get_thread("default", thread.thread_id)
    assert known is not None
    assert known.metadata == {"assistant_id": "b", "mine": 1}
    bare = Thread(thread_id=new_id(), metadata={"mine": 2})
    await store.insert_thread(bare)
    first = msgspec.structs.replace(bare, metadata={"assistant_id": "c"})
    await store.insert(new_run(thread_id=bare.thread_id), thread=first)
    known = await store.get_thread("default", bare.thread_id)
    assert known is not None
    assert known.metadata == {"mine": 2, "assistant_id": "c"}


async def a_refused_run_brings_nothing(store: Store) -> None:
    """A run that is refused leaves no record of itself or of its thread."""
    thread = Thread(thread_id=new_id(), metadata={})
    run = new_run(thread_id=thread.thread_id, resumes=new_id())
    try:
        await store.insert(run, thread=thread)
    except NotWaiting:
        pass
    else:
        raise AssertionError("a run answered what nobody asked")
    assert await store.get_thread("default", thread.thread_id) is None
    assert await store.get("default", run.run_id) is None


async def a_new_run_closes_what_its_thread_asked(store: Store) -> None:
    """Any run of a paused thread closes the pause, and its rollback opens it again."""
    run = new_run()
    pause = pause_of(run)
    await finished(store, run, pause=pause)
    turn = await store.insert(new_run(thread_id=run.thread_id))
    assert await store.pauses("default", run.thread_id) == []
    log = store.begin(turn, inserted=True)
    gone = msgspec.structs.replace(ended(turn), status=RunStatus.CANCELLED, gone_at=time.time())
    await log.settle(Cancelled(action="rollback"), gone)
    assert await store.pauses("default", run.thread_id) == [pause]


async def a_run_that_was_rolled_back_is_hidden(store: Store) -> None:
    """It is in no list unless asked for, its log can be read by its id, and it is swept after its time."""
    run = new_run()
    log = store.begin(run, inserted=False)
    gone = msgspec.structs.replace(ended(run), gone_at=10.0)
    await log.settle(Completed(), gone)
    assert await store.find(RunQuery(tenant="default", thread_id=run.thread_id)) == []
    assert await store.find(RunQuery(tenant="default", thread_id=run.thread_id, gone=True)) == [gone]
    assert await store.get("default", run.run_id) == gone
    assert len(await store.read(run.run_id, after=0, limit=10)) == 1
    assert await store.sweep(before=0.0, keep=0, gone=10.0) == []
    assert [swept.run_id for swept in await store.sweep(before=0.0, keep=0, gone=11.0)] == [run.run_id]
    assert await store.get("default", run.run_id) is None


async def a_key_names_one_request(store: Store) -> None:
    """A key that was used for something else is refused, whatever becomes of its thread."""
    await store.insert(new_run(), idempotency=KEY)
    try:
        await store.insert(new_run(), idempotency=Idempotency(key="k", fingerprint="g"))
    except Conflict:
        return
    raise AssertionError("a key was taken for another request")


PROMISES: tuple[Promise, ...] = (
    later_runs_wait_for_their_thread,
    a_delayed_run_keeps_nobody_waiting,
    a_key_is_cancelled_before_its_run,
    a_run_brings_its_thread,
    a_refused_run_brings_nothing,
    a_new_run_closes_what_its_thread_asked,
    a_run_that_was_rolled_back_is_hidden,
    a_key_names_one_request,
)

"""Two processes that change the same records at once: each change is there in the end, and none twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from proxy.errors import Busy, Conflict, NotWaiting
from proxy.events import Completed
from proxy.model import ACTIVE, Assistant, Choices, Cron, Idempotency, RunStatus, Thread, new_id
from proxy.store.admission import CANCELLED_KEY
from proxy.store.base import Store
from proxy.store.claims import Server
from proxy.store.native import Revision
from proxy.store.postgres.store import PostgresStore
from proxy.store.signals import Topic
from proxy.store.workflow import Advance
from proxy.testing.runs import ended, finished, new_run, pause_of
from proxy.testing.threads import new_thread
from proxy.testing.workflows import events_from, new_workflow, start_of
from proxy.workflow_model import Said, Session, TakenResult
from tests.store.databases import Database, slow

Pair = tuple[PostgresStore, PostgresStore]
MANY = 20
"""Changes by each of the two."""


@asynccontextmanager
async def pair(known: Database) -> AsyncIterator[Pair]:
    stores = known.store(), known.store()
    for store in stores:
        await store.open()
        await store.join(Server(server_id=""))
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


async def both(stores: Pair, act: Callable[[Store, int], Awaitable[Any]], many: int = MANY) -> list[Any]:
    """What comes of so many acts of each, all at once; one group of a writer holds several."""
    acts = (act(store, number) for number in range(many) for store in stores)
    return await asyncio.gather(*acts, return_exceptions=True)


def play(known: Database, scene: Callable[[Pair], Awaitable[None]]) -> None:
    async def run() -> None:
        async with pair(known) as stores:
            await scene(stores)

    asyncio.run(run())


def test_messages_of_a_session_are_numbered_without_a_gap(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        session = Session(session_id=new_id())
        await stores[0].insert_session(session)
        said = Said(role="user", content=Raw(b"[]"))
        outcomes = await both(stores, lambda store, _: store.append_message("default", session.session_id, said))
        assert sorted(message.seq for _, message in outcomes) == list(range(1, 2 * MANY + 1))
        kept = await stores[1].messages("default", session.session_id)
        assert [message.seq for message in kept] == list(range(1, 2 * MANY + 1))
        known = await stores[1].get_session("default", session.session_id)
        assert known is not None
        assert (known.message_count, known.size) == (2 * MANY, 4 * MANY)

    play(postgres, scene)


def test_metadata_of_sessions_and_threads_is_merged(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        session, thread = Session(session_id=new_id()), new_thread()
        await stores[0].insert_session(session)
        await stores[0].insert_thread(thread)

        async def patch(store: Store, number: int) -> None:
            name = f"{stores.index(store)}-{number}"  # type: ignore[arg-type]
            await store.patch_session("default", session.session_id, {name: 1}, 1.0)
            await store.patch_thread("default", thread.thread_id, metadata={name: 1})
            brought = msgspec.structs.replace(thread, metadata={f"{name}-run": 1})
            await store.insert(new_run(thread_id=thread.thread_id, choices=Choices(strategy="enqueue")), thread=brought)

        assert await both(stores, patch) == [None] * 2 * MANY
        kept = await stores[0].get_session("default", session.session_id)
        known = await stores[0].get_thread("default", thread.thread_id)
        assert kept is not None
        assert known is not None
        assert len(kept.metadata) == 2 * MANY
        assert len(known.metadata) == 4 * MANY

    play(postgres, scene)


def test_a_tenant_gets_no_session_more_than_it_may_have(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        outcomes = await both(stores, lambda store, _: store.insert_session(Session(session_id=new_id()), most=MANY))
        assert Counter(type(outcome) for outcome in outcomes) == {type(None): MANY, Conflict: MANY}

    play(postgres, scene)


def test_versions_of_an_assistant_are_numbered_without_a_gap(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        assistant_id = new_id()
        made = await both(
            stores, lambda store, _: store.insert_assistant(Assistant(assistant_id=assistant_id, agent="a"))
        )
        assert sum(outcome is not None for outcome in made) == 1

        def revise(store: Store, number: int) -> Awaitable[Any]:
            revision = Revision(metadata={f"{id(store)}-{number}": 1})
            return store.revise_assistant("default", assistant_id, revision)

        outcomes = await both(stores, revise)
        assert sorted(outcome.version for outcome in outcomes) == list(range(2, 2 * MANY + 2))
        known = await stores[0].get_assistant("default", assistant_id)
        assert known is not None
        assert len(known.metadata) == 2 * MANY

    play(postgres, scene)


def test_an_assistant_that_is_deleted_while_it_is_revised_leaves_no_version(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        for _ in range(MANY):
            assistant_id = new_id()
            await stores[0].insert_assistant(Assistant(assistant_id=assistant_id, agent="a"))
            await asyncio.gather(
                stores[0].revise_assistant("default", assistant_id, Revision(name="x")),
                stores[1].delete_assistant("default", assistant_id),
            )
        assert postgres.ask("SELECT count(*) FROM assistant_versions") == [(0,)]

    play(postgres, scene)


def advanced(step: Advance, store: Store, _: int) -> Awaitable[Any]:
    return store.advance(step)


def test_of_several_that_drive_a_workflow_run_one_goes_on(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        run = await stores[0].start_workflow(start_of(new_workflow()))
        for _ in range(MANY):
            step = Advance(run=run, events=tuple(events_from(run.last_seq + 1, "a", "b")), outputs={"x": b"1"})
            went = await both(stores, partial(advanced, step), 2)
            [run] = [outcome for outcome in went if outcome is not None]
        assert run.last_seq == 2 * MANY
        assert postgres.ask("SELECT count(*) FROM workflow_events") == [(2 * MANY,)]

    play(postgres, scene)


def test_the_answer_to_a_tool_call_is_taken_once(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        run = await stores[0].start_workflow(start_of(new_workflow()))

        def take(store: Store, number: int) -> Awaitable[bool]:
            result = TakenResult(node_id="n", step=0, call_id=f"c{number}", body=Raw(b"{}"))
            return store.take_results("default", run.run_id, [result])

        outcomes = await both(stores, take)
        assert Counter(outcomes) == {True: MANY, False: MANY}
        numbers = [number for (number,) in postgres.ask("SELECT number FROM workflow_results ORDER BY number")]
        assert numbers == list(range(MANY))

    play(postgres, scene)


def test_r04_a_key_makes_one_run_whatever_process_it_comes_to(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        key = Idempotency(key="k", fingerprint="f")
        runs = await both(stores, lambda store, _: store.insert(new_run(), idempotency=key), 25)
        assert len({run.run_id for run in runs}) == 1
        started = await both(stores, lambda store, _: store.start_workflow(start_of(new_workflow(), key="k")), 25)
        assert len({run.run_id for run in started}) == 1
        cancelled = await both(stores, lambda store, _: store.cancel_key("default", "other"), 25)
        assert set(cancelled) == {None}
        assert postgres.ask("SELECT run_id FROM idempotency WHERE key = 'other'") == [(CANCELLED_KEY,)]

    play(postgres, scene)


@pytest.mark.parametrize("strategy", ["enqueue", "reject"])
def test_c15_a_thread_has_one_run_under_way(strategy: Any, postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        thread_id = new_id()
        choices = Choices(strategy=strategy)
        outcomes = await both(stores, lambda store, _: store.insert(new_run(thread_id=thread_id, choices=choices)))
        refused = sum(isinstance(outcome, Busy) for outcome in outcomes)
        statuses = Counter(outcome.status for outcome in outcomes if not isinstance(outcome, Busy))
        if strategy == "reject":
            assert (refused, statuses) == (2 * MANY - 1, {RunStatus.RUNNING: 1})
        else:
            assert (refused, statuses) == (0, {RunStatus.RUNNING: 1, RunStatus.PENDING: 2 * MANY - 1})

    play(postgres, scene)


@pytest.mark.parametrize("first", sorted(ACTIVE))
def test_c15_one_run_is_not_rejected_also_where_others_are_to_run_it(first: RunStatus, postgres: Database) -> None:
    """Each process is in the middle of its transaction when the other begins one."""

    async def scene(stores: Pair) -> None:
        thread_id, choices = new_id(), Choices(strategy="reject")
        runs = [new_run(thread_id=thread_id, choices=choices, status=each) for each in (first, RunStatus.PENDING)]
        with slow(postgres.url, "runs", 0.2):
            inserts = [store.insert(run) for store, run in zip(stores, runs, strict=True)]
            outcomes = await asyncio.gather(*inserts, return_exceptions=True)
        assert sorted(isinstance(outcome, Busy) for outcome in outcomes) == [False, True]
        assert postgres.ask("SELECT count(*) FROM runs") == [(1,)]

    play(postgres, scene)


def test_r06_a_pause_is_answered_once(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        run = new_run()
        await finished(stores[0], run, pause=pause_of(run))

        def answer(store: Store, _: int) -> Awaitable[Any]:
            return store.insert(new_run(thread_id=run.thread_id, resumes=run.run_id, temporary=True))

        outcomes = await both(stores, answer)
        assert Counter(isinstance(outcome, NotWaiting) for outcome in outcomes) == {False: 1, True: 2 * MANY - 1}

    play(postgres, scene)


def test_of_several_that_change_a_cron_one_does(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        cron = Cron(cron_id=new_id(), assistant_id="a", schedule="* * * * *")
        await stores[0].insert_cron(cron)
        outcomes = await both(
            stores, lambda store, number: store.replace_cron(msgspec.structs.replace(cron, user=f"{number}"), was=cron)
        )
        assert Counter(outcomes) == {True: 1, False: 2 * MANY - 1}

    play(postgres, scene)


def test_a_thread_is_made_once(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        thread = Thread(thread_id=new_id())
        outcomes = await both(stores, lambda store, _: store.insert_thread(thread))
        assert Counter(type(outcome) for outcome in outcomes) == {Thread: 1, Conflict: 2 * MANY - 1}
        again = await both(stores, lambda store, _: store.insert_thread(thread, if_exists="do_nothing"))
        assert {outcome.thread_id for outcome in again} == {thread.thread_id}

    play(postgres, scene)


def test_a_thread_that_is_held_gets_no_run_elsewhere(postgres: Database) -> None:
    """Nor does another process hold it; what waits goes on, and is told of it, once it is let go."""

    async def scene(stores: Pair) -> None:
        here, there = stores
        thread_id = new_id()
        first = await here.insert(new_run(thread_id=thread_id))
        await here.insert(new_run(thread_id=thread_id, choices=Choices(strategy="enqueue")))
        order: list[str] = []
        async with here.hold("default", thread_id):
            await here.begin(first, inserted=True).settle(Completed(), ended(first))
            inserting = asyncio.ensure_future(
                there.insert(new_run(thread_id=thread_id, choices=Choices(strategy="enqueue")))
            )

            async def hold() -> None:
                async with there.hold("default", thread_id):
                    order.append("held elsewhere")

            holding = asyncio.ensure_future(hold())
            assert await there.claim(["trial"], limit=9) == []
            await asyncio.wait({inserting, holding}, timeout=0.2)
            assert not inserting.done()
            assert not holding.done()
            rung = asyncio.Event()
            there.signals.hear(Topic.QUEUE, lambda _: rung.set())
            order.append("let go")
        async with asyncio.timeout(5):
            await rung.wait()
        assert (await inserting).status is RunStatus.PENDING
        await holding
        assert order == ["let go", "held elsewhere"]
        assert len(await there.claim(["trial"], limit=9)) == 1

    play(postgres, scene)


def test_a_thread_whose_holder_dies_is_free(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        here, there = stores
        async with here.hold("default", "t"):
            ours = "(SELECT oid FROM pg_database WHERE datname = current_database())"
            holders = f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = {ours}"
            for (pid,) in postgres.ask(holders):
                postgres.ask("SELECT pg_terminate_backend(%s)", pid)
            async with asyncio.timeout(5), there.hold("default", "t"):
                pass

    play(postgres, scene)


def test_one_process_sweeps(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        for _ in range(3):
            await finished(stores[0], new_run())
        swept = await asyncio.gather(*(store.sweep(before=2**40, keep=0) for store in stores))
        assert sorted(map(len, swept)) == [0, 3]
        leader = stores[0] if swept[0] else stores[1]
        follower = stores[1] if swept[0] else stores[0]
        await finished(follower, new_run())
        assert await follower.sweep(before=2**40, keep=0) == []
        await leader.close()
        assert len(await follower.sweep(before=2**40, keep=0)) == 1

    play(postgres, scene)


def test_claims_at_once_hand_out_each_run_once(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        made = [await stores[0].insert(new_run(status=RunStatus.PENDING)) for _ in range(100)]
        got = [
            run.run_id
            for runs in await both(stores, lambda store, _: store.claim(["trial"], limit=7), 10)
            for run in runs
        ]
        assert sorted(got) == sorted(run.run_id for run in made)

    play(postgres, scene)

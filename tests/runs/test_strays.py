"""Runs that the store says are this process's, and that nobody here knows of: they go on or end as lost ones do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from proxy.adapter import RunInput
from proxy.errors import Unavailable
from proxy.events import Completed, Entry, Failed, Final, RunStarted, TextDelta
from proxy.model import Choices, Run, RunStatus, new_id
from proxy.runs import live, takeover
from proxy.runs.agents import Agent, Agents
from proxy.runs.manager import RunManager
from proxy.runs.order import Order
from proxy.settings import Agent as AgentSettings
from proxy.settings import Runs
from proxy.store.claims import Lost
from proxy.store.sql.sqlite import SqliteStore
from tests.runs.fleet import Fleet, Node, Resuming

THREAD = "01930000-0000-7000-8000-000000000001"
QUEUE = Choices(strategy="enqueue")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "SIGHT", 0.05)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 60))


def unheard(node: Node, name: str) -> asyncio.Event:
    """The next answer of the store to this that hands out a run is lost, after the commit; set once it is."""
    real, lost = getattr(node.store, name), asyncio.Event()

    async def deaf(*given: Any, **named: Any) -> Any:
        answer = await real(*given, **named)
        if answer and not lost.is_set():
            lost.set()
            raise Unavailable
        return answer

    setattr(node.store, name, deaf)
    return lost


async def looks(node: Node, count: int) -> None:
    """Until this process has looked so many times more for runs that it has lost sight of."""
    real, looked = node.store.strays, asyncio.Semaphore(0)

    async def counted() -> list[Run]:
        looked.release()
        return await real()

    node.store.strays = counted  # type: ignore[method-assign]
    for _ in range(count):
        await looked.acquire()


async def nothing(agents: Collection[str], *, limit: int) -> list[Run]:
    return []


async def end_of(node: Node, run: Run) -> Final:
    return (await node.events(run))[-1]  # type: ignore[return-value]


def test_a_run_whose_claim_was_not_heard_goes_on(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here:
            lost = unheard(here, "claim")
            run = await here.start("steady", thread=THREAD, delay=0.01)
            await lost.wait()
            agent = await here.agents["steady"].started()
            assert (agent.given.run_id, agent.given.attempt) == (run.run_id, 2)
            await agent.end()
            ended = await here.manager.wait(run)
            assert (ended.status, ended.attempt, ended.losses) == (RunStatus.SUCCESS, 2, 1)

    play(scene)


def test_a_run_whose_claim_was_not_heard_ends_as_lost_where_its_agent_cannot_go_on(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here:
            lost = unheard(here, "claim")
            run = await here.start(thread=THREAD, delay=0.01)
            behind = await here.start(thread=THREAD, delay=0.02)
            await lost.wait()
            end = await end_of(here, run)
            assert isinstance(end, Failed)
            assert (end.code, end.retryable) == ("worker_lost", True)
            assert (await here.agents["plain"].started()).given.run_id == behind.run_id

    play(scene)


def test_a_run_whose_insert_was_not_heard_leaves_its_thread(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here:
            unheard(here, "insert")
            with pytest.raises(Unavailable):
                await here.start(thread=THREAD)
            later = await here.start(thread=THREAD)
            assert later.status is RunStatus.PENDING
            assert (await here.agents["plain"].started()).given.run_id == later.run_id

    play(scene)


def test_a_loss_that_was_taken_unheard_is_taken_again(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here:
            unheard(here, "take_lost")
            run = await fleet.lost("steady", THREAD)
            agent = await here.agents["steady"].started()
            assert (agent.given.run_id, agent.given.attempt) == (run.run_id, 3)

    play(scene)


def test_a_waiting_run_that_was_taken_to_be_ended_unheard_is_ended_all_the_same(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here:
            first = await here.start(thread=THREAD)
            waiting = await here.start(thread=THREAD)
            claim = here.store.claim
            here.store.claim = nothing  # type: ignore[method-assign]
            unheard(here, "take")
            with pytest.raises(Unavailable):
                await here.manager.cancel("default", waiting.run_id)
            here.store.claim = claim  # type: ignore[method-assign]
            assert (await here.manager.wait(waiting)).status is RunStatus.CANCELLED
            assert (await here.manager.get("default", first.run_id)).status is RunStatus.RUNNING

    play(scene)


def test_what_is_under_way_or_in_hand_is_left_alone(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        reading, go = asyncio.Event(), asyncio.Event()
        page = live.Live._page

        async def slow(runs: live.Live, run_id: str, after: int) -> list[Entry]:
            reading.set()
            await go.wait()
            return await page(runs, run_id, after)

        monkeypatch.setattr(live.Live, "_page", slow)
        async with fleet.node() as here:
            lost = await fleet.lost("steady", new_id())
            await reading.wait()
            run = await here.start(thread=THREAD)
            agent = await here.agents["plain"].started()
            await looks(here, 4)
            go.set()
            again = await here.agents["steady"].started()
            assert (again.given.run_id, again.given.attempt) == (lost.run_id, 2)
            await looks(here, 3)
            for each in (agent, again):
                await each.end()
            ends = [await here.manager.wait(each) for each in (run, lost)]
            assert [(end.status, end.attempt, end.losses) for end in ends] == [
                (RunStatus.SUCCESS, 1, 0),
                (RunStatus.SUCCESS, 2, 1),
            ]

    play(scene)


def test_runs_that_wait_to_be_put_back_are_left_alone(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here:
            release, away = here.store.release, asyncio.Event()

            async def refused(run: Run) -> bool:
                away.set()
                raise Unavailable

            here.store.release = refused  # type: ignore[method-assign]
            lost = await fleet.lost("steady", THREAD)
            await away.wait()
            await looks(here, 4)
            here.store.release = release  # type: ignore[method-assign]
            agent = await here.agents["steady"].started()
            assert (agent.given.run_id, agent.given.attempt) == (lost.run_id, 2)

    play(scene)


def test_each_of_several_claims_on_its_way_is_another(fleet: Fleet) -> None:
    """A run that is on its way here at two looks, but has been somebody else's between them, is not lost."""

    async def scene() -> None:
        async with fleet.node() as here:
            claim, gate = here.store.claim, asyncio.Event()
            held: asyncio.Queue[Run] = asyncio.Queue()

            async def slow(agents: Collection[str], *, limit: int) -> list[Run]:
                runs = await claim(agents, limit=limit)
                for run in runs:
                    held.put_nowait(run)
                    await gate.wait()
                return runs

            real, seen = here.store.strays, 0

            async def between() -> list[Run]:
                """Each look finds the run on its way; until the next one it is given back and claimed again."""
                nonlocal seen
                if not held.empty():
                    run = held.get_nowait()
                    found = await real()
                    assert [one.run_id for one in found] == [run.run_id]
                    seen += 1
                    if seen < 4:
                        assert await here.store.release(run)
                        held.put_nowait(*await claim(["steady"], limit=1))
                    else:
                        gate.set()
                    return found
                return await real()

            take, taken = here.store.take_lost, list[Collection[Run]]()

            async def noted(*, limit: int, strays: Collection[Run] = ()) -> list[Lost]:
                taken.append(strays)
                return await take(limit=limit, strays=strays)

            here.store.take_lost = noted  # type: ignore[method-assign]
            here.store.claim = slow  # type: ignore[method-assign]
            here.store.strays = between  # type: ignore[method-assign]
            run = await here.start("steady", thread=THREAD, delay=0.01)
            agent = await here.agents["steady"].started()
            assert (agent.given.run_id, agent.given.attempt) == (run.run_id, 1)
            assert not any(taken)

    play(scene)


def test_a_claim_that_is_heard_at_the_last_moment_counts(fleet: Fleet) -> None:
    """A run that begins while it is being taken for lost goes on here, and nowhere else."""

    async def scene() -> None:
        async with fleet.node("worker") as there, fleet.node() as here:
            claim, take, gate = there.store.claim, there.store.take_lost, asyncio.Event()
            begun: list[Any] = []

            async def slow(agents: Collection[str], *, limit: int) -> list[Run]:
                runs = await claim(agents, limit=limit)
                if runs:
                    await gate.wait()
                return runs

            async def late(*, limit: int, strays: Collection[Run] = ()) -> list[Lost]:
                lost = await take(limit=limit, strays=strays)
                if strays:
                    gate.set()
                    begun.append(await there.agents["steady"].started())
                return lost

            there.store.claim, there.store.take_lost = slow, late  # type: ignore[method-assign]
            run = await here.start("steady", thread=THREAD, background=True)
            reading = asyncio.create_task(here.events(run))
            await gate.wait()
            await looks(there, 3)
            [agent] = begun
            await agent.say("once")
            await agent.end()
            assert [type(event) for event in await reading] == [RunStarted, TextDelta, Completed]

    play(scene)


def test_a_run_that_could_not_be_begun_ends_in_a_store_that_nobody_shares(tmp_path: Path) -> None:
    async def scene() -> None:
        store = SqliteStore(tmp_path / "runs.db")
        agent = Resuming()
        agents = Agents([Agent(name="agent", adapter=agent, settings=AgentSettings(adapter="test"))])
        manager = RunManager(store, agents, Runs(cancel_grace=0.2))
        await store.open()
        await manager.open()

        async def ordered() -> Run:
            asked = RunInput(run_id=new_id(), thread_id=THREAD, agent="agent")
            return await manager.create(Order(input=asked, choices=QUEUE))

        first, second = await ordered(), await ordered()
        begin, fails = store.begin, True

        def broken(run: Run, **named: Any) -> Any:
            nonlocal fails
            if fails and run.run_id == second.run_id:
                fails = False
                raise RuntimeError
            return begin(run, **named)

        store.begin = broken  # type: ignore[method-assign]
        await (await agent.started()).end()
        assert (await manager.wait(first)).status is RunStatus.SUCCESS
        ended = await manager.wait(second)
        assert ended.outcome is not None
        assert ended.outcome.error is not None
        assert ended.outcome.error.code == "worker_lost"
        third = await ordered()
        assert (await agent.started()).given.run_id == third.run_id
        await manager.drain(0)
        await manager.close()
        await store.close()

    play(scene)

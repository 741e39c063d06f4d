"""Runs that find their thread busy, are to start later, or are cancelled before they begin."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.adapter import RunInput
from proxy.errors import Busy, Draining, TooMany
from proxy.events import Cancelled, Completed, Event
from proxy.model import Choices, Idempotency, Run, RunStatus, Strategy, new_id
from proxy.runs.agents import Agent, Agents
from proxy.runs.manager import RunManager
from proxy.runs.order import Order
from proxy.settings import Agent as AgentSettings
from proxy.settings import Limits, Runs
from proxy.store.base import Store
from proxy.store.sql.sqlite import SqliteStore
from proxy.testing import RunOver, Script
from tests.runs.house import House, house

THREAD = "01930000-0000-7000-8000-000000000001"


def play(scene: Callable[[House, Script], Awaitable[None]], limits: Limits | None = None) -> None:
    async def main() -> None:
        script = Script()
        async with house(script, limits=limits) as here:
            await asyncio.wait_for(scene(here, script), 30)

    asyncio.run(main())


async def started(here: House, strategy: Strategy, delay: float = 0.0) -> Run:
    return await here.start(thread=THREAD, choices=Choices(strategy=strategy), delay=delay)


async def status(here: House, run: Run) -> RunStatus:
    return (await here.manager.get("default", run.run_id)).status


def test_runs_of_one_thread_go_one_after_the_other_in_their_order() -> None:
    async def scene(here: House, script: Script) -> None:
        runs = [await started(here, "enqueue") for _ in range(4)]
        assert [run.status for run in runs] == [RunStatus.RUNNING] + [RunStatus.PENDING] * 3
        for run in runs:
            agent = await script.started()
            assert agent.given.run_id == run.run_id
            assert await status(here, run) is RunStatus.RUNNING
            await agent.end()
            assert isinstance(await here.final(run), Completed)

    play(scene)


def test_who_follows_a_waiting_run_sees_all_of_it() -> None:
    async def scene(here: House, script: Script) -> None:
        await started(here, "enqueue")
        second = await started(here, "enqueue")
        reading = asyncio.create_task(here.final(second))
        await (await script.started()).end()
        agent = await script.started()
        await agent.say("Hello")
        await agent.end()
        assert isinstance(await reading, Completed)

    play(scene)


def test_a_busy_thread_refuses_and_names_the_run_that_has_it() -> None:
    async def scene(here: House, script: Script) -> None:
        first = await started(here, "reject")
        with pytest.raises(Busy) as refused:
            await started(here, "reject")
        assert refused.value.run_id == first.run_id

    play(scene)


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
def test_a_new_run_pushes_all_others_aside_and_waits_for_their_end(strategy: Strategy) -> None:
    async def scene(here: House, script: Script) -> None:
        first, second = await started(here, "enqueue"), await started(here, "enqueue")
        old = await script.started()
        third = await started(here, strategy)
        new = await script.started()
        assert new.given.run_id == third.run_id
        assert old.closed.is_set()
        for run in (first, second):
            final = await here.final(run)
            assert isinstance(final, Cancelled)
            assert final.action == strategy
        await new.end()
        assert isinstance(await here.final(third), Completed)

    play(scene)


def test_of_many_at_once_that_push_aside_the_last_one_wins_and_each_has_one_end() -> None:
    async def scene(here: House, script: Script) -> None:
        runs = await asyncio.gather(*(started(here, "interrupt") for _ in range(20)))
        last = max(runs, key=lambda run: run.run_id)
        while (agent := await script.started()).given.run_id != last.run_id:
            await agent.closed.wait()
        await agent.end()
        finals = {run.run_id: await here.final(run) for run in runs}
        assert isinstance(finals.pop(last.run_id), Completed)
        assert all(isinstance(final, Cancelled) for final in finals.values())

    play(scene)


def test_a_delayed_run_waits_for_its_time_and_lets_others_go_first() -> None:
    async def scene(here: House, script: Script) -> None:
        late = await started(here, "enqueue", delay=0.05)
        assert late.status is RunStatus.PENDING
        soon = await started(here, "enqueue")
        agent = await script.started()
        assert agent.given.run_id == soon.run_id
        await agent.end()
        agent = await script.started()
        assert agent.given.run_id == late.run_id
        await agent.end()

    play(scene)


def test_a_run_that_is_cancelled_while_it_waits_never_starts() -> None:
    async def scene(here: House, script: Script) -> None:
        first, second = await started(here, "enqueue"), await started(here, "enqueue")
        delayed = await started(here, "enqueue", delay=3600)
        for run in (second, delayed):
            (cancelled,) = await here.manager.cancel("default", run.run_id)
            assert cancelled.status is RunStatus.CANCELLED
            assert [type(entry.event) for entry in await here.log(run)] == [Cancelled]
        agent = await script.started()
        assert agent.given.run_id == first.run_id
        await agent.end()
        third = await started(here, "enqueue")
        assert (await script.started()).given.run_id == third.run_id

    play(scene)


def test_r03_a_run_whose_key_was_cancelled_before_it_was_made_never_starts() -> None:
    async def scene(here: House, script: Script) -> None:
        assert await here.manager.cancel_key("default", "mine") == []
        run = await here.start(thread=THREAD, idempotency=Idempotency(key="mine", fingerprint="f"))
        assert isinstance(await here.final(run), Cancelled)
        other = await here.start(thread=THREAD, idempotency=Idempotency(key="other", fingerprint="f"))
        assert (await script.started()).given.run_id == other.run_id
        (cancelled,) = await here.manager.cancel_key("default", "other")
        assert cancelled.run_id == other.run_id
        assert isinstance(await here.final(other), Cancelled)

    play(scene)


def test_a_cancel_that_meets_the_making_of_its_run_is_not_lost() -> None:
    async def scene(here: House, script: Script) -> None:
        insert, reached, go = here.store.insert, asyncio.Event(), asyncio.Event()

        async def slow(run: Run, **how: object) -> Run:
            stored = await insert(run, **how)  # type: ignore[arg-type]
            reached.set()
            await go.wait()
            return stored

        here.store.insert = slow  # type: ignore[method-assign, assignment]
        making = asyncio.create_task(here.start(thread=THREAD, idempotency=Idempotency(key="k", fingerprint="f")))
        await reached.wait()
        await here.manager.cancel_key("default", "k")
        go.set()
        assert isinstance(await here.final(await making), Cancelled)

    play(scene)


def test_waiting_runs_count_for_the_limit() -> None:
    async def scene(here: House, script: Script) -> None:
        await started(here, "enqueue")
        await started(here, "enqueue")
        with pytest.raises(TooMany):
            await started(here, "enqueue")

    play(scene, Limits(concurrent=2))


def test_threads_do_not_wait_for_each_other() -> None:
    async def scene(here: House, script: Script) -> None:
        runs = [await here.start(thread=f"{THREAD[:-1]}{n}", choices=Choices(strategy="enqueue")) for n in range(3)]
        begun = [(await script.started()).given.run_id for _ in runs]
        assert begun == [run.run_id for run in runs]

    play(scene)


def test_random_cancels_leave_each_run_of_a_queue_with_one_end_and_none_waiting() -> None:
    async def scene(here: House, script: Script) -> None:
        chance = random.Random(5)

        async def act() -> None:
            while True:
                agent = await script.started()
                with suppress(RunOver):  # it was cancelled meanwhile
                    await agent.say(*["x"] * chance.randrange(3))
                await agent.end()

        acting = asyncio.create_task(act())
        strategies: list[Strategy] = ["enqueue", "interrupt", "rollback"]
        for _ in range(30):
            runs = [await started(here, chance.choice(strategies)) for _ in range(5)]
            for run in chance.sample(runs, 2):
                await here.manager.cancel("default", run.run_id)
            for run in runs:
                await here.final(run)
        assert not here.manager.live
        acting.cancel()

    play(scene)


class Served:
    """A manager over a file, as a server has it that is started again and again."""

    def __init__(self, file: Path) -> None:
        self.script = Script()
        self.store: Store = SqliteStore(file)
        agents = Agents([Agent(name="agent", adapter=self.script, settings=AgentSettings(adapter="test"))])
        self.manager = RunManager(self.store, agents, Runs(cancel_grace=0.2))

    async def __aenter__(self) -> Served:
        await self.store.open()
        await self.manager.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.manager.drain(0)
        await self.manager.close()
        await self.store.close()

    async def start(self) -> Run:
        asked = RunInput(run_id=new_id(), thread_id=THREAD, agent="agent")
        return await self.manager.create(Order(input=asked, choices=Choices(strategy="enqueue")))


def test_a_run_that_waits_when_the_server_goes_is_run_by_the_next_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with Served(tmp_path / "runs.db") as before:
            first = await before.start()
            waiting = await before.start()
            await before.script.started()
            following = asyncio.create_task(read(before, waiting))
        with pytest.raises(Draining):
            await following
        async with Served(tmp_path / "runs.db") as after:
            assert (await after.manager.get("default", first.run_id)).status is RunStatus.ERROR
            agent = await after.script.started()
            assert agent.given.run_id == waiting.run_id
            await agent.say("at last")
            await agent.end()
            assert isinstance((await read(after, waiting))[-1], Completed)

    asyncio.run(asyncio.wait_for(main(), 30))


async def read(served: Served, run: Run) -> list[Event]:
    return [entry.event async for batch in served.manager.follow(run, idle=0) for entry in batch]

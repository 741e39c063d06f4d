"""Run managers that share a PostgreSQL database: any of them can do what any other can."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from proxy.errors import Draining, NotFound, TooMany, Unavailable
from proxy.events import Cancelled, Completed, Failed, RunStarted, TextDelta
from proxy.model import Choices, Run, RunStatus
from proxy.runs.live import TAKEOVER
from proxy.settings import Runs
from tests.runs.fleet import Fleet, Node

THREAD = "01930000-0000-7000-8000-000000000001"


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 60))


def test_a_run_is_followed_waited_for_and_deleted_from_another_process(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here, fleet.node() as there:
            run = await here.start(thread=THREAD)
            agent = await here.agents["plain"].started()
            reading = asyncio.create_task(there.events(run))
            waiting = asyncio.create_task(there.manager.wait(run))
            await agent.say("Hello")
            while await there.manager.last(run) != 2:
                await asyncio.sleep(0.01)
            assert (await here.manager.reach(run), await there.manager.reach(run)) == (2, 2 + TAKEOVER - 1)
            await agent.end()
            assert (await reading)[1:] == [TextDelta(text="Hello"), Completed()]
            assert (await waiting).status is RunStatus.SUCCESS
            assert await there.manager.last(run) is None
            assert await there.manager.reach(run) is None
            busy = await here.start(thread=THREAD)
            agent = await here.agents["plain"].started()
            await there.manager.delete("default", busy.run_id)
            assert agent.cancelled.is_set()
            with pytest.raises(NotFound):
                await here.manager.get("default", busy.run_id)

    play(scene)


def test_a_cancel_reaches_the_process_that_has_the_run(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here, fleet.node() as there:
            run = await here.start()
            agent = await here.agents["plain"].started()
            [told] = await there.manager.cancel("default", run.run_id, "rollback")
            assert (told.status, told.cancel) == (RunStatus.RUNNING, "rollback")
            await agent.cancelled.wait()
            assert (await there.events(run))[-1] == Cancelled(action="rollback")
            other = await here.start()
            agent = await here.agents["plain"].started()
            there.manager.stop(other)
            await agent.cancelled.wait()
            assert (await there.manager.wait(other)).status is RunStatus.CANCELLED

    play(scene)


def test_a_cancel_arrives_though_its_signal_is_lost(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here, fleet.node() as there:
            run = await here.start()
            agent = await here.agents["plain"].started()
            here.store.signals.ring = lambda signals: None  # type: ignore[method-assign]
            await there.manager.cancel("default", run.run_id)
            await asyncio.wait_for(agent.cancelled.wait(), 5)

    play(scene)


def test_any_run_of_a_turn_and_any_of_a_group_is_cancelled_from_anywhere(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here, fleet.node() as there:
            runs = [await node.start(group="g") for node in (here, there, here)]
            await there.manager.cancel("default", "g")
            for run in runs:
                assert (await here.manager.wait(run)).status is RunStatus.CANCELLED

    play(scene)


def test_runs_of_one_thread_go_one_after_the_other_wherever_they_were_made(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here, fleet.node() as there:
            order: list[str] = []

            async def act(node: Node) -> None:
                while True:
                    agent = await node.agents["plain"].started()
                    order.append(agent.given.run_id)
                    await agent.say("x")
                    await agent.end()

            acting = [asyncio.create_task(act(node)) for node in (here, there)]
            runs = [await (here, there)[number % 2].start(thread=THREAD) for number in range(8)]
            for run in runs:
                assert (await here.manager.wait(run)).status is RunStatus.SUCCESS
            assert order == [run.run_id for run in runs]
            for task in acting:
                task.cancel()

    play(scene)


def test_waiting_runs_are_cancelled_or_pushed_aside_by_any_process(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here, fleet.node() as there:
            first, second = await here.start(thread=THREAD), await here.start(thread=THREAD)
            [told] = await there.manager.cancel("default", second.run_id)
            assert told.status is RunStatus.CANCELLED
            third = await here.start(thread=THREAD)
            last = await there.start(thread=THREAD, choices=Choices(strategy="interrupt"))
            for run in (first, third):
                assert (await there.manager.wait(run)).status is RunStatus.CANCELLED
            begun = [asyncio.create_task(node.agents["plain"].started()) for node in (here, there)]
            await there.until(last, RunStatus.RUNNING)
            await there.manager.cancel("default", last.run_id)
            assert (await here.manager.wait(last)).status is RunStatus.CANCELLED
            for task in begun:
                task.cancel()

    play(scene)


def test_limits_hold_over_all_processes(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here, fleet.node() as there:
            made = await asyncio.gather(
                *((here, there)[number % 2].start("few") for number in range(10)), return_exceptions=True
            )
            runs = [run for run in made if isinstance(run, Run)]
            assert len(runs) == 3
            assert all(isinstance(refused, TooMany) for refused in made if not isinstance(refused, Run))
            await here.manager.cancel("default", runs[0].run_id)
            await there.manager.wait(runs[0])
            await there.start("few")

    play(scene)


def test_workers_take_what_nobody_waits_for_and_agents_that_servers_do_not_have(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node("worker") as worker, fleet.node() as server:
            live, background = await server.start(), await server.start(background=True)
            assert (live.status, background.status) == (RunStatus.RUNNING, RunStatus.PENDING)
            assert (await server.agents["plain"].started()).given.run_id == live.run_id
            agent = await worker.agents["plain"].started()
            assert agent.given.run_id == background.run_id
            await agent.end()
            remote = await server.start("remote")
            assert remote.status is RunStatus.PENDING
            reading = asyncio.create_task(server.events(remote))
            agent = await worker.agents["remote"].started()
            await agent.say("Hello")
            await agent.end()
            assert (await reading)[1:] == [TextDelta(text="Hello"), Completed()]
        async with fleet.node() as server:
            assert (await server.start(background=True)).status is RunStatus.RUNNING

    play(scene)


def test_a_run_that_no_worker_is_up_for_is_told_of_and_waits(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as server:
            with capture_logs() as lines:
                run = await server.start("remote")
                while not any(line.get("agent") == "remote" for line in lines):
                    await asyncio.sleep(0.01)
            async with fleet.node("worker") as worker:
                assert (await worker.agents["remote"].started()).given.run_id == run.run_id

    play(scene)


def test_a_process_takes_no_more_than_it_has_room_for_and_others_take_the_rest(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node("worker", 2) as small, fleet.node() as server:
            runs = [await server.start("remote") for _ in range(4)]
            agents = [await small.agents["remote"].started() for _ in range(2)]
            await asyncio.sleep(0.1)
            assert len(small.manager.live) == 2
            async with fleet.node("worker") as large:
                agents += [await large.agents["remote"].started() for _ in range(2)]
                assert {agent.given.run_id for agent in agents} == {run.run_id for run in runs}
                for agent in agents:
                    await agent.end()
                for run in runs:
                    assert (await server.manager.wait(run)).status is RunStatus.SUCCESS

    play(scene)


def test_a_thread_tells_of_runs_that_other_processes_make(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here, fleet.node() as there:
            with there.manager.watch.listen("default", THREAD) as arrivals:
                made = [await here.start(thread=THREAD), await here.start(thread=THREAD)]
                heard = [await arrivals.get(), await arrivals.get()]
                assert [run.run_id for run in heard if run is not None] == [run.run_id for run in made]

    play(scene)


def test_a_drain_hands_over_what_can_go_on_and_ends_the_rest(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node("worker") as stays:
            async with fleet.node() as goes:
                lasting, plain = await goes.start("steady", thread=THREAD), await goes.start()
                agent = await goes.agents["steady"].started()
                await agent.say("first")
                local = asyncio.create_task(goes.log(lasting))
                elsewhere = asyncio.create_task(stays.events(lasting))
                await asyncio.sleep(0)
                await goes.manager.drain(0)
                with pytest.raises(Draining):
                    await local
                end = (await goes.events(plain))[-1]
                assert isinstance(end, Failed)
                assert end.code == "server_shutting_down"
            agent = await stays.agents["steady"].started()
            assert (agent.given.run_id, agent.given.attempt) == (lasting.run_id, 2)
            await agent.say("second")
            await agent.end()
            _, said, again, more, final = await elsewhere
            assert (said, more, final) == (TextDelta(text="first"), TextDelta(text="second"), Completed())
            assert isinstance(again, RunStarted)
            assert (again.attempt, again.resumes_after) == (2, 2)

    play(scene)


def test_a_drain_waits_for_who_cannot_come_back_and_for_no_other_reader(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node("worker") as worker, fleet.node() as goes, fleet.node() as waits:
            run = await goes.start("remote")
            agent = await worker.agents["remote"].started()
            following, attending = goes.manager.follow(run, idle=0), waits.manager.attend(run, idle=0)
            for each in (following, attending):
                assert isinstance((await anext(each))[0].event, RunStarted)
            await asyncio.wait_for(goes.manager.drain(3600), 20)
            with pytest.raises(Draining):
                await anext(following)
            draining = asyncio.create_task(waits.manager.drain(3600))
            await agent.say("more")
            assert [entry.event for entry in await anext(attending)] == [TextDelta(text="more")]
            await agent.end()
            assert [entry.event async for batch in attending for entry in batch] == [Completed()]
            await asyncio.wait_for(draining, 20)

    play(scene)


def test_a_run_is_handed_over_as_often_as_processes_are_replaced(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as node:
            run = await node.start("steady", thread=THREAD)
            assert (await node.agents["steady"].started()).given.attempt == 1
        for attempt in range(2, Runs().attempts + 3):
            async with fleet.node() as node:
                agent = await node.agents["steady"].started()
                assert (agent.given.run_id, agent.given.attempt) == (run.run_id, attempt)
        async with fleet.node() as node:
            await (await node.agents["steady"].started()).end()
            ended = await node.manager.wait(run)
            assert (ended.status, ended.attempt, ended.losses) == (RunStatus.SUCCESS, attempt + 1, 0)

    play(scene)


@pytest.mark.parametrize("agent", ["steady", "plain"])
def test_p02_a_run_that_loses_its_process_goes_on_or_ends_where_its_reader_is(fleet: Fleet, agent: str) -> None:
    async def scene() -> None:
        async with fleet.node() as here:
            run = await fleet.lost(agent, THREAD)
            entries = asyncio.create_task(here.log(run))
            if agent == "plain":
                seqs = [entry.seq for entry in await entries]
                assert seqs == [1, 2, 2 + TAKEOVER + 1]
                end = (await entries)[-1].event
                assert isinstance(end, Failed)
                assert (end.code, end.status, end.retryable) == ("worker_lost", 503, True)
                assert (await here.manager.wait(run)).status is RunStatus.ERROR
                return
            again = await here.agents["steady"].started()
            assert (again.given.run_id, again.given.attempt) == (run.run_id, 2)
            await again.say("once more")
            await again.end()
            assert [entry.seq for entry in await entries] == [1, 2, *(2 + TAKEOVER + at for at in (1, 2, 3))]
            known = await here.manager.wait(run)
            assert (known.status, known.attempt) == (RunStatus.SUCCESS, 2)

    play(scene)


def test_p05_a_run_that_loses_its_process_while_it_is_cancelled_ends_cancelled(fleet: Fleet) -> None:
    async def scene() -> None:
        async with fleet.node() as here:
            run = await fleet.lost("steady", THREAD)
            await here.manager.cancel("default", run.run_id, "rollback")
            assert (await here.events(run))[-1] == Cancelled(action="rollback")

    play(scene)


def test_p11_a_process_that_finds_its_lease_gone_stops_without_a_word_and_goes_on_under_another_name(
    fleet: Fleet,
) -> None:
    async def scene() -> None:
        async with fleet.node() as here, fleet.node("worker") as there:
            run, plain = await here.start("steady", thread=THREAD), await here.start()
            agent = await here.agents["steady"].started()
            await agent.say("first")
            local = asyncio.create_task(here.log(run))
            while await there.manager.last(run) != 2:
                await asyncio.sleep(0.01)
            fleet.bury(here.store)
            await agent.cancelled.wait()
            assert not here.manager.live
            again = await there.agents["steady"].started()
            await again.end()
            entries = await asyncio.wait_for(local, 20)
            assert [type(entry.event) for entry in entries] == [RunStarted, TextDelta, RunStarted, Completed]
            assert (await here.manager.wait(plain)).status is RunStatus.ERROR
            later = await made(here)
            assert (await here.agents["plain"].started()).given.run_id == plain.run_id
            assert (await here.agents["plain"].started()).given.run_id == later.run_id

    play(scene)


async def made(node: Node) -> Run:
    """A run, asked for as a client does who is told to come back."""
    while True:
        try:
            return await node.start()
        except Unavailable:
            await asyncio.sleep(0.05)

"""Threads as their manager keeps them: one thing at a time happens to each, and nothing is left of one that is gone."""

from __future__ import annotations

import asyncio

import pytest

from proxy.adapter import Update
from proxy.errors import BadRequest, Busy, Conflict, NotFound
from proxy.events import Cancelled, Event, Interrupt, Paused
from proxy.model import (
    Assistant,
    Fault,
    Run,
    RunStatus,
    Thread,
    ThreadOutcome,
    ThreadStatus,
    new_id,
    system_id,
)
from proxy.runs.threads import ThreadQuery
from tests.runs.threads_house import HI, HOUR, On, ThreadHouse, names, raw


async def read(house: ThreadHouse, run: Run) -> list[Event]:
    """All that the run's log has, to its end."""
    return [entry.event async for batch in house.manager.follow(run, idle=0) for entry in batch]


def test_a_deleted_thread_takes_its_running_and_its_waiting_runs_along(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        thread = await house.thread()
        done = await house.run(thread)
        await (await house.started()).end(Paused(interrupts=(Interrupt(id="i"),)))
        await house.manager.wait(done)
        live = await house.run(thread)
        agent = await house.started()
        await agent.say("half")
        queued = await house.run(thread, strategy="enqueue")
        reading = asyncio.create_task(read(house, live))
        await asyncio.sleep(0)
        await house.threads.delete("default", thread.thread_id)
        assert agent.closed.is_set()
        assert (await reading)[-1] == Cancelled(action="interrupt")
        assert house.manager.live == []
        for run in (done, live, queued):
            assert await house.store.get("default", run.run_id) is None
            assert await house.store.read(run.run_id, after=0, limit=10) == []
        assert await house.store.pauses("default", thread.thread_id) == []
        assert await house.store.states("default", thread.thread_id) == []
        with pytest.raises(NotFound):
            await house.threads.get("default", thread.thread_id)

    on(act)


def test_what_an_agent_keeps_of_a_deleted_thread_goes_too(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        thread = await house.thread("held")
        await house.write(thread, 1)
        await house.threads.delete("default", thread.thread_id)
        again = await house.threads.create(Thread(thread_id=thread.thread_id, metadata={"graph_id": "held"}))
        assert await house.values(again) == {"log": []}

    on(act)


def test_a_busy_thread_is_not_changed_and_says_which_run_it_has(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        thread = await house.thread()
        live = await house.run(thread)
        agent = await house.started()
        await house.run(thread, strategy="enqueue")
        name = ("default", thread.thread_id)
        for change in (house.write(thread), house.threads.copy(*name)):
            with pytest.raises(Busy) as refused:
                await change
            assert refused.value.run_id == live.run_id
        assert await house.threads.prune("default", [thread.thread_id], "keep_latest") == 0
        await agent.end()
        await (await house.started()).end()
        while await house.status(thread) is ThreadStatus.BUSY:
            await asyncio.sleep(0)
        assert await house.threads.prune("default", [thread.thread_id], "keep_latest") == 1
        await house.write(thread)
        assert await house.said(thread) == ["hi", "hi", "hi"]

    on(act)


@pytest.mark.parametrize("change", ["update", "copy", "keep_latest"])
def test_a_run_waits_for_a_change_that_is_under_way(on: On, change: str) -> None:
    async def act(house: ThreadHouse) -> None:
        thread = await house.thread("held")
        held, name = house.held.held, ("default", thread.thread_id)
        held.gate.clear()
        acts = {
            "update": lambda: house.write(thread, "written"),
            "copy": lambda: house.threads.copy(*name),
            "keep_latest": lambda: house.threads.prune("default", [thread.thread_id], "keep_latest"),
        }
        changing = asyncio.create_task(acts[change]())
        await held.reached.wait()
        runs = [asyncio.create_task(house.run(thread, "held", strategy="enqueue")) for _ in range(3)]
        other = await house.run(await house.thread("held"), "held")
        await (await house.started("held")).end()
        await house.manager.wait(other)
        assert not any(run.done() for run in runs)
        held.gate.set()
        await changing
        for _ in runs:
            await (await house.started("held")).end()
        for run in await asyncio.gather(*runs):
            assert (await house.manager.wait(run)).status is RunStatus.SUCCESS

    on(act)


def test_updates_and_runs_at_once_are_each_whole_or_refused(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        thread = await house.thread()

        async def talk() -> None:
            for _ in range(10):
                await (await house.started()).end()

        async def write(number: int) -> bool:
            await asyncio.sleep(number / 1000)
            try:
                await house.write(thread, {"messages": [{"role": "user", "content": f"u{number}"}]}, as_node="bot")
            except Busy:
                return False
            return True

        talking = asyncio.create_task(talk())
        runs = [house.run(thread, strategy="enqueue") for _ in range(10)]
        wrote = asyncio.gather(*(write(number) for number in range(20)))
        for run in await asyncio.gather(*runs):
            assert (await house.manager.wait(run)).status is RunStatus.SUCCESS
        await talking
        written = {f"u{number}" for number, done in enumerate(await wrote) if done}
        said = await house.said(thread)
        assert sorted(said) == sorted([*(["hi"] * 10), *written])
        assert await house.status(thread) is ThreadStatus.IDLE

    on(act)


def test_an_update_decides_how_the_thread_stands(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        thread = await house.thread()
        broken = ThreadOutcome(status=ThreadStatus.ERROR, fault=Fault(error="E", message="m"))
        await house.store.leave_thread("default", thread.thread_id, broken)
        await house.write(thread)
        waiting = await house.threads.get("default", thread.thread_id)
        assert waiting.status is ThreadStatus.INTERRUPTED
        assert waiting.outcome.fault == broken.fault
        assert waiting.outcome.values == (await house.threads.state("default", thread.thread_id)).values
        await house.write(thread, {"messages": [{"role": "assistant", "content": "ho"}]}, as_node="bot")
        assert await house.status(thread) is ThreadStatus.IDLE
        assert await house.said(thread) == ["hi", "ho"]

    on(act)


def test_a_thread_that_is_made_with_steps_has_them_or_is_not_there(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        thread = Thread(thread_id=new_id(), metadata={"graph_id": "bot"})
        steps = [[Update(values=raw(HI), as_node="__start__")], [Update(values=raw(HI), as_node="bot")]]
        made = await house.threads.create(thread, steps=steps)
        assert made.status is ThreadStatus.IDLE
        assert await house.said(made) == ["hi", "hi"]
        assert len(await house.threads.history("default", made.thread_id, limit=10)) == 2
        assert await house.threads.create(thread, steps=steps, if_exists="do_nothing") == made
        with pytest.raises(Conflict):
            await house.threads.create(thread, steps=steps)
        assert await house.said(made) == ["hi", "hi"]
        bad = [*steps, [Update(values=raw(HI), as_node="elsewhere")]]
        for metadata, wrong in (({"graph_id": "bot"}, bad), ({}, steps), ({"graph_id": "gone"}, steps)):
            lost = Thread(thread_id=new_id(), metadata=metadata)
            with pytest.raises(BadRequest):
                await house.threads.create(lost, steps=wrong)
            assert await house.store.get_thread("default", lost.thread_id) is None
            assert await house.store.states("default", lost.thread_id) == []

    on(act)


def test_a_thread_belongs_to_the_agent_of_its_assistant(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        own = Assistant(assistant_id=new_id(), agent="bot", tenant="default", name="Mine")
        await house.store.insert_assistant(own)
        for assistant in (own.assistant_id, system_id("bot"), "bot"):
            thread = await house.thread(None, metadata={"assistant_id": assistant})
            await house.write(thread)
            assert await house.said(thread) == ["hi"]
        for metadata in ({}, {"assistant_id": new_id()}, {"graph_id": ["bot"]}, {"graph_id": "other"}):
            thread = await house.thread(None, metadata=metadata)
            with pytest.raises(BadRequest, match="no assigned graph ID"):
                await house.write(thread)
            assert await house.values(thread) == {}
            assert await house.threads.history("default", thread.thread_id, limit=10) == []

    on(act)


def test_a_copy_goes_its_own_way(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        thread = await house.thread(metadata={"k": "v"}, lifetime=HOUR, tenant="a")
        await house.write(thread)
        await house.write(thread)
        copy = await house.threads.copy("a", thread.thread_id)
        kept = ("metadata", "lifetime", "tenant", "outcome")
        assert [getattr(copy, name) for name in kept] == [
            getattr(await house.threads.get("a", thread.thread_id), name) for name in kept
        ]
        assert copy.thread_id != thread.thread_id
        assert await house.said(copy) == ["hi", "hi"]
        assert len(await house.threads.history("a", copy.thread_id, limit=10)) == 2
        await house.write(copy)
        assert (await house.said(thread), await house.said(copy)) == (["hi"] * 2, ["hi"] * 3)
        await house.threads.delete("a", thread.thread_id)
        assert await house.said(copy) == ["hi"] * 3
        with pytest.raises(NotFound):
            await house.threads.copy("a", thread.thread_id)

    on(act)


def test_pruning_counts_what_it_pruned(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        one, two = await house.thread(), await house.thread()
        for _ in range(3):
            await house.write(one)
        theirs = await house.thread(tenant="b")
        given = [*names(one, one, theirs), new_id()]
        assert await house.threads.prune("default", given, "keep_latest") == 1
        assert len(await house.threads.history("default", one.thread_id, limit=10)) == 1
        assert await house.said(one) == ["hi"] * 3
        assert await house.threads.prune("default", given) == 1
        left = await house.threads.find(ThreadQuery(tenant="default"))
        assert (names(*left), await house.threads.count(ThreadQuery(tenant="b"))) == ([two.thread_id], 1)

    on(act)


def test_another_tenants_thread_is_not_there(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        thread = await house.thread()
        await house.write(thread)
        theirs = ("b", thread.thread_id)
        for act in (
            house.threads.get(*theirs),
            house.threads.patch(*theirs, metadata={"x": 1}),
            house.threads.delete(*theirs),
            house.threads.copy(*theirs),
            house.threads.state(*theirs),
            house.threads.history(*theirs, limit=1),
            house.threads.update(*theirs, Update(values=raw(HI))),
        ):
            with pytest.raises(NotFound):
                await act
        assert await house.threads.prune("b", [thread.thread_id]) == 0
        assert await house.said(thread) == ["hi"]

    on(act)

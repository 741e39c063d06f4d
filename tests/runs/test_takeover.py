"""What becomes of runs that lost their process: they go on in the same log, or end."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from proxy.adapter import Native, RunInput
from proxy.errors import TooMany
from proxy.events import Cancelled, Entry, Event, Failed, RunStarted, TextDelta, Usage
from proxy.model import Choices, Run, RunStatus, new_id
from proxy.runs.agents import Agent, Agents
from proxy.runs.claims import Claims, Room
from proxy.runs.leases import Leases
from proxy.runs.live import TAKEOVER
from proxy.runs.live import Live as LiveRuns
from proxy.runs.manager import RunManager
from proxy.runs.order import Order
from proxy.runs.takeover import Reaper
from proxy.settings import Agent as AgentSettings
from proxy.settings import Limits, Price, Runs
from proxy.store.claims import Server
from proxy.store.sql.sqlite import SqliteStore
from proxy.testing import Script, ScriptedRun
from tests.runs.fleet import Resuming

THREAD = "01930000-0000-7000-8000-000000000001"
PLAIN, RETRY = Choices(), AgentSettings(adapter="test", retry="resume")


class Stubborn(Resuming):
    """Takes its time to stop."""

    def stream(self, run: RunInput) -> AsyncGenerator[Event]:
        return self._held(super().stream(run))

    async def _held(self, events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        finally:
            await asyncio.Event().wait()


class Life:
    """One life of a server over a file."""

    def __init__(self, path: Path, settings: AgentSettings, agent: Script, name: str) -> None:
        self.path, self.script = path, agent
        self.store = SqliteStore(path)
        agents = Agents([Agent(name=name, adapter=agent, settings=settings)])
        runs = Runs(cancel_grace=5.0, attempts=2, prices={"m": Price(input=1.0)})
        self.manager = RunManager(self.store, agents, runs)

    async def start(self, *, thread: str | None = THREAD, native: bool = False, choices: Choices = PLAIN) -> Run:
        asked = RunInput(
            run_id=new_id(),
            thread_id=thread or new_id(),
            agent="agent",
            temporary=thread is None,
            native=Native(metadata={"run_attempt": 1}) if native else None,
        )
        return await self.manager.create(Order(input=asked, choices=choices, durable=True))

    async def begun(self, run: Run, *said: str | Usage) -> ScriptedRun:
        """The run's agent, once what it said is in the file."""
        agent = await self.script.started()
        assert agent.given.run_id == run.run_id
        await agent.say(*said)
        with sqlite3.connect(self.path) as file:
            last = "SELECT max(last_seq) FROM segments WHERE run_id = ?"
            while file.execute(last, (run.run_id,)).fetchone() != (len(said) + 1,):
                await asyncio.sleep(0.01)
        return agent

    async def entries(self, run: Run) -> list[Entry]:
        return [entry async for batch in self.manager.follow(run, idle=0) for entry in batch]

    async def end(self, run: Run) -> Run:
        return await self.manager.wait(run)


Live = Callable[..., AbstractAsyncContextManager[Life]]


@asynccontextmanager
async def life(
    path: Path,
    *,
    kill: bool = False,
    settings: AgentSettings = RETRY,
    agent: Script | None = None,
    name: str = "agent",
) -> AsyncIterator[Life]:
    """Ends with a drain; or with `kill` without a word of the runs that are under way."""
    here = Life(path, settings, agent or Resuming(), name)
    await here.store.open()
    try:
        await here.manager.open()
        yield here
        if not kill:
            await here.manager.drain(0)
    finally:
        if kill:
            here.store.lease.lose()
        await here.manager.close()
        await here.store.close()


def play(path: Path, scene: Callable[[Live], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(partial(life, path / "runs.db")), 30))


def test_a_run_goes_on_in_its_log_where_its_agent_can(tmp_path: Path) -> None:
    async def scene(live: Live) -> None:
        async with live(kill=True) as before:
            run = await before.start(native=True)
            await before.begun(run, "one", Usage(model="m", input_tokens=1_000_000))
        async with live() as after:
            agent = await after.script.started()
            assert (agent.given.run_id, agent.given.attempt) == (run.run_id, 2)
            assert agent.given.native is not None
            assert agent.given.native.metadata == {"run_attempt": 2}
            await agent.say("two", Usage(model="m", input_tokens=1_000_000))
            await agent.end()
            entries = await after.entries(run)
            assert [entry.seq for entry in entries] == [1, 2, 3, *(3 + TAKEOVER + at for at in range(1, 5))]
            again = entries[3].event
            assert isinstance(again, RunStarted)
            assert (again.attempt, again.resumes_after) == (2, 3)
            ended = await after.end(run)
            assert (ended.status, ended.attempt) == (RunStatus.SUCCESS, 2)
            assert ended.outcome is not None
            assert (ended.outcome.cost, ended.outcome.model_calls) == (2.0, 2)
            assert ended.outcome.first_token == pytest.approx(entries[1].at - run.created_at, abs=0.01)

    play(tmp_path, scene)


@pytest.mark.parametrize("case", ["fails", "cannot", "hidden", "unkept"])
def test_any_other_run_ends_and_tells_that_the_server_was_restarted(tmp_path: Path, case: str) -> None:
    settings = AgentSettings(adapter="test") if case == "fails" else RETRY

    async def scene(live: Live) -> None:
        agent = Script() if case == "cannot" else Resuming()
        async with live(kill=True, settings=settings, agent=agent) as before:
            run = await before.start(
                thread=None if case == "hidden" else THREAD, choices=Choices(store=case != "unkept")
            )
            await before.begun(run, "one", Usage(model="m", input_tokens=1_000_000))
        async with live(settings=settings, agent=agent) as after:
            ended = await after.manager.get("default", run.run_id)
            assert ended.status is RunStatus.ERROR
            assert ended.outcome is not None
            assert ended.outcome.cost == 1.0
            last = (await after.manager.read(run, after=0, limit=10))[-1]
            assert isinstance(last.event, Failed)
            assert (last.seq, last.event.code) == (3 + TAKEOVER + 1, "server_restarted")
            later = await after.start()
            assert (await after.script.started()).given.run_id == later.run_id

    play(tmp_path, scene)


@pytest.mark.parametrize("retry", ["resume", "fail"])
def test_a_lost_run_is_seen_to_though_its_log_is_damaged(tmp_path: Path, retry: Literal["resume", "fail"]) -> None:
    settings = AgentSettings(adapter="test", retry=retry)

    async def scene(live: Live) -> None:
        async with live(kill=True, settings=settings) as before:
            run = await before.start()
            await before.begun(run, "one")
        with sqlite3.connect(before.path) as file:
            file.execute("UPDATE segments SET body = ? WHERE run_id = ?", (b"[{", run.run_id))
        async with live(settings=settings) as after:
            if retry == "resume":
                await (await after.script.started()).end()
            ended = await after.end(run)
            assert ended.status is (RunStatus.SUCCESS if retry == "resume" else RunStatus.ERROR)
            entries = await after.manager.read(run, after=2, limit=10)
            first = 2 + TAKEOVER + 1
            assert [entry.seq for entry in entries] == ([first, first + 1] if retry == "resume" else [first])

    play(tmp_path, scene)


class Late(SqliteStore):
    """Whoever looks second at a log does so when its run has ended."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.ended = asyncio.Event()
        self._looks = 0

    async def read(self, run_id: str, *, after: int, limit: int) -> list[Entry]:
        self._looks += after == 0
        if after == 0 and self._looks > 1:
            await self.ended.wait()
        return await super().read(run_id, after=after, limit=limit)


def test_a_lost_run_ends_once_though_it_is_looked_at_from_two_sides(tmp_path: Path) -> None:
    async def scene(live: Live) -> None:
        async with live(kill=True) as before:
            run = await before.start(thread=None)
            await before.begun(run, "one")
        store = Late(before.path)
        agents = Agents([Agent(name="agent", adapter=Script(), settings=RETRY)])
        await store.open()
        runs = LiveRuns(store, agents, Runs(), None, str)
        told: list[Run] = []
        runs.on_end += [told.append, lambda ended: store.ended.set()]
        leases = Leases(store, Server(server_id=""))
        claims = Claims(store, Room(1, {}), frozenset, lambda claimed: None)
        reaper = Reaper(store, agents, runs, leases, claims, attempts=3)
        await asyncio.gather(reaper.reap(), reaper.desert(patience=0.0))
        assert [ended.run_id for ended in told] == [run.run_id]
        entries = await store.read(run.run_id, after=0, limit=10)
        assert [type(entry.event) for entry in entries] == [RunStarted, TextDelta, Failed]
        await store.close()

    play(tmp_path, scene)


def test_a_run_is_given_up_that_loses_one_process_after_the_other(tmp_path: Path) -> None:
    async def scene(live: Live) -> None:
        async with live(kill=True) as first:
            run = await first.start()
            await first.begun(run)
        async with live(kill=True) as second:
            assert (await second.script.started()).given.attempt == 2
        async with live() as third:
            ended = await third.manager.get("default", run.run_id)
            assert ended.outcome is not None
            assert ended.outcome.error is not None
            assert (ended.attempt, ended.outcome.error.code) == (3, "server_restarted")

    play(tmp_path, scene)


def test_p05_a_run_that_was_to_be_cancelled_ends_cancelled(tmp_path: Path) -> None:
    async def scene(live: Live) -> None:
        async with live(kill=True, agent=Stubborn()) as before:
            run = await before.start()
            agent = await before.begun(run, "one")
            await before.manager.cancel("default", run.run_id, "rollback")
            await agent.closed.wait()
        async with live() as after:
            assert (await after.manager.get("default", run.run_id)).status is RunStatus.CANCELLED
            assert (await after.entries(run))[-1].event == Cancelled(action="rollback")

    play(tmp_path, scene)


def test_runs_that_waited_for_a_thread_begin_once_its_lost_run_is_over(tmp_path: Path) -> None:
    async def scene(live: Live) -> None:
        queued = Choices(strategy="enqueue")
        async with live(kill=True) as before:
            first, second = await before.start(choices=queued), await before.start(choices=queued)
            await before.begun(first)
        async with live() as after:
            for run in (first, second):
                agent = await after.script.started()
                assert agent.given.run_id == run.run_id
                await agent.end()
                assert (await after.end(run)).status is RunStatus.SUCCESS

    play(tmp_path, scene)


def test_a_run_ends_that_waits_for_an_agent_which_nobody_has(tmp_path: Path) -> None:
    async def scene(live: Live) -> None:
        queued = Choices(strategy="enqueue")
        async with live() as before:
            await before.start(choices=queued)
            waiting = await before.start(choices=queued)
            await before.script.started()
        async with live(name="other") as after:
            last = (await after.entries(waiting))[-1]
            assert isinstance(last.event, Failed)
            assert (last.seq, last.event.code) == (1, "model_not_found")

    play(tmp_path, scene)


def test_a_run_ends_whose_input_this_version_cannot_read_and_others_go_on(tmp_path: Path) -> None:
    async def scene(live: Live) -> None:
        queued = Choices(strategy="enqueue")
        async with live() as before:
            runs = [await before.start(choices=queued) for _ in range(3)]
            await before.script.started()
        with sqlite3.connect(before.path) as file:
            file.execute("UPDATE runs SET input = ? WHERE run_id = ?", (b'{"run_id": 7}', runs[1].run_id))
        async with live() as after:
            assert (await after.end(runs[1])).status is RunStatus.ERROR
            assert (await after.script.started()).given.run_id == runs[2].run_id

    play(tmp_path, scene)


def test_what_waited_before_a_restart_counts_for_the_limit_after_it(tmp_path: Path) -> None:
    settings = AgentSettings(adapter="test", limits=Limits(concurrent=3))

    async def scene(live: Live) -> None:
        queued = Choices(strategy="enqueue")
        async with live(kill=True, settings=settings) as before:
            runs = [await before.start(choices=queued) for _ in range(3)]
            await before.begun(runs[0])
        async with live(settings=settings) as after:
            agent = await after.script.started()
            assert agent.given.run_id == runs[1].run_id
            runs.append(await after.start(choices=queued))
            with pytest.raises(TooMany):
                await after.start(choices=queued)
            await agent.end()
            await after.end(runs[1])
            await after.start(choices=queued)

    play(tmp_path, scene)

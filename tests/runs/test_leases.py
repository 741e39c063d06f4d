"""A process among others: renewals, losses, and whom it sees."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from proxy.errors import Unavailable
from proxy.model import RunStatus
from proxy.runs.leases import Leases
from proxy.store.claims import Server
from proxy.store.memory.store import MemoryStore
from proxy.testing import Script
from tests.runs.house import house


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Shared(MemoryStore):
    """A store with a lease that the test decides about."""

    renews = True
    away = False

    def __init__(self) -> None:
        super().__init__()
        self.lease.seconds = 15.0
        self.joined: list[str] = []
        self.there: list[Server] = []

    async def join(self, server: Server) -> None:
        if self.away:
            raise Unavailable
        self.joined.append(self.lease.owner)
        await super().join(server)

    async def renew(self) -> bool:
        if self.away:
            raise Unavailable
        if not self.renews:
            self.lease.lose()
            self.renews = True
            return False
        return True

    async def servers(self) -> list[Server]:
        return self.there


class Member:
    def __init__(self) -> None:
        self.store, self.clock = Shared(), Clock()
        self.leases = Leases(self.store, Server(server_id="", agents=frozenset({"mine"})), self.clock)

    async def beat(self, seconds: float = 5.0) -> None:
        self.clock.now += seconds
        await self.leases.beat()


def play(scene: Callable[[Member], Awaitable[None]]) -> None:
    async def main() -> None:
        member = Member()
        await member.leases.open()
        member.store.lease.deadline = float("inf")
        await scene(member)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_who_has_renewed_for_a_whole_lease_may_tell_who_is_lost() -> None:
    async def scene(member: Member) -> None:
        for steady in (False, False, True, True):
            await member.beat()
            assert member.leases.steady is steady

    play(scene)


def test_after_an_outage_nobody_is_lost_for_a_whole_lease() -> None:
    async def scene(member: Member) -> None:
        for _ in range(3):
            await member.beat()
        member.store.away = True
        with pytest.raises(Unavailable):
            await member.beat()
        assert not member.leases.steady
        member.store.away = False
        for steady in (False, False, False, True):
            await member.beat()
            assert member.leases.steady is steady

    play(scene)


def test_a_renewal_that_came_late_begins_the_count_anew() -> None:
    async def scene(member: Member) -> None:
        for _ in range(3):
            await member.beat()
        member.store.lease.deadline = 0.0
        assert not member.leases.steady
        member.store.lease.renew(float("inf"))
        assert not member.leases.steady
        await member.beat(15.0)
        assert member.leases.steady

    play(scene)


def test_after_a_loss_it_joins_anew_under_another_name() -> None:
    async def scene(member: Member) -> None:
        await member.beat(20.0)
        member.store.renews = False
        await member.beat()
        assert len(set(member.store.joined)) == 2
        assert member.store.joined[-1] == member.store.lease.owner
        assert not member.leases.steady

    play(scene)


def test_a_loss_is_answered_without_waiting_for_the_next_renewal() -> None:
    async def scene(member: Member) -> None:
        running = asyncio.create_task(member.leases.run())
        await asyncio.sleep(0)
        member.store.lease.lose()
        while member.store.joined[-1] != member.store.lease.owner:
            await asyncio.sleep(0)
        running.cancel()

    play(scene)


def test_it_sees_which_agents_have_a_worker() -> None:
    async def scene(member: Member) -> None:
        assert (member.leases.served, member.leases.known) == (frozenset(), {"mine"})
        member.store.there = [
            Server(server_id="s", agents=frozenset({"other"})),
            Server(server_id="w", kind="worker", agents=frozenset({"mine", "far"})),
        ]
        await member.beat()
        assert member.leases.served == {"mine", "far"}
        assert member.leases.known == {"mine", "far", "other"}

    play(scene)


def test_runs_that_wait_for_a_worker_while_none_is_up_are_told_of_once_a_minute() -> None:
    async def scene(member: Member) -> None:
        with capture_logs() as lines:
            member.leases.want("far")
            member.leases.want("far")
            assert lines == []
            await member.beat()
            [line] = lines
            assert (line["log_level"], line["agent"]) == ("warning", "far")
            assert "runwire worker" in line["event"]
            await member.beat(120.0)
            for _ in range(3):
                member.leases.want("far")
                await member.beat(10.0)
            assert len(lines) == 2
            member.leases.want("other")
            await member.beat()
            assert [line["agent"] for line in lines] == ["far", "far", "other"]

    play(scene)


def test_runs_whose_worker_turns_up_are_not_told_of_and_are_when_it_has_gone() -> None:
    async def scene(member: Member) -> None:
        worker = Server(server_id="w", kind="worker", agents=frozenset({"far"}))
        with capture_logs() as lines:
            for there in ([worker], [], [worker], []):
                member.leases.want("far")
                member.store.there = there
                await member.beat()
        assert len(lines) == 2

    play(scene)


def test_what_was_under_way_is_dropped_without_a_word_when_the_lease_is_lost() -> None:
    async def main() -> None:
        script = Script()
        async with house(script) as here:
            run = await here.start(thread="t")
            agent = await script.started()
            await agent.say("one")
            waiting = asyncio.create_task(here.manager.wait(run))
            await asyncio.sleep(0)
            here.store.lease.lose()
            await agent.cancelled.wait()
            assert here.manager.live == []
            assert (await here.manager.get("default", run.run_id)).status is RunStatus.RUNNING
            assert not waiting.done()
            waiting.cancel()

    asyncio.run(asyncio.wait_for(main(), 20))

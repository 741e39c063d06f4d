"""Following the events of a workflow run that another process appends to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from proxy.errors import Unavailable
from proxy.store.logs import outages
from proxy.store.logs.bells import Bells
from proxy.store.signals import ANY, Signals, Topic
from proxy.store.workflow import EventPage, EventQuery
from proxy.testing.workflows import events_from, seqs
from proxy.workflow_model import WorkflowEvent

QUERY = EventQuery(tenant="default", run_id="r")


class House:
    """Bells over a log that grows when the test says so."""

    def __init__(self) -> None:
        self.events: list[WorkflowEvent] = []
        self.reads = 0
        self.asked = 0
        self.away = False
        self.signals = Signals()
        self.bells = Bells(self.signals, self.ends)
        self.seen: list[WorkflowEvent] = []

    async def ends(self, names: Sequence[tuple[str, str]]) -> dict[str, int]:
        self.asked += 1
        if self.away:
            raise Unavailable
        assert names == [("default", "r")]
        return {"r": len(self.events)}

    async def read(self, query: EventQuery) -> EventPage:
        self.reads += 1
        if self.away:
            raise Unavailable
        return EventPage(self.events[query.after :], not self.events or not self.events[-1].final)

    def grow(self, *types: str) -> None:
        self.events += events_from(len(self.events) + 1, *types)

    async def follow(self) -> None:
        async for batch in self.bells.follow(QUERY, self.read, 0):
            self.seen += batch


def trial(work: Callable[[House, asyncio.Task[None]], Awaitable[None]]) -> None:
    """Do this while somebody listens."""

    async def run() -> None:
        house = House()
        house.grow("run_started")
        follower = asyncio.ensure_future(house.follow())
        await turns()
        async with asyncio.timeout(10):
            await work(house, follower)

    asyncio.run(run())


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_signal_of_another_process_wakes_who_listens() -> None:
    async def work(house: House, follower: asyncio.Task[None]) -> None:
        for name in ("r", ANY):
            house.grow("node_started")
            house.signals.ring([(Topic.WORKFLOW, "other"), (Topic.WORKFLOW, name)])
            await turns()
            assert len(house.seen) == len(house.events)
        house.grow("run_completed")
        house.signals.ring([(Topic.WORKFLOW, "r")])
        await follower
        assert seqs(house.seen) == [1, 2, 3, 4]

    trial(work)


def test_who_is_told_nothing_sees_all_within_a_second_or_so_also_after_an_outage() -> None:
    async def work(house: House, follower: asyncio.Task[None]) -> None:
        house.grow("run_completed")
        house.away = True
        while not house.asked:
            await asyncio.sleep(0.01)
        house.away = False
        await follower
        assert seqs(house.seen) == [1, 2]

    trial(work)


def test_a_reader_goes_on_from_its_place_when_the_store_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "SHORTEST", 0.001)
    monkeypatch.setattr(outages, "LONGEST", 0.001)

    async def work(house: House, follower: asyncio.Task[None]) -> None:
        for name in ("node_started", "run_completed"):
            house.grow(name)
            house.away = True
            house.signals.ring([(Topic.WORKFLOW, "r")])
            until = house.reads + 3
            while house.reads < until:
                await asyncio.sleep(0)
            assert not follower.done()
            house.away = False
            while len(house.seen) < len(house.events):
                await asyncio.sleep(0)
        await follower
        assert seqs(house.seen) == [1, 2, 3]

    trial(work)


def test_a_process_that_goes_down_keeps_no_reader_waiting_for_the_store() -> None:
    async def work(house: House, follower: asyncio.Task[None]) -> None:
        house.away = True
        house.signals.ring([(Topic.WORKFLOW, "r")])
        await turns()
        house.bells.close()
        with pytest.raises(Unavailable):
            await follower

    trial(work)


def test_a_process_does_not_read_again_what_it_appends_itself() -> None:
    async def work(house: House, follower: asyncio.Task[None]) -> None:
        house.grow("node_started")
        house.bells.ring("r", house.events[1:])
        await turns()
        before = house.reads
        house.signals.ring([(Topic.WORKFLOW, "r")])
        await turns()
        assert house.reads == before
        house.grow("run_completed")
        house.bells.ring("r", house.events[2:])
        await follower
        assert house.reads == before
        assert seqs(house.seen) == [1, 2, 3]

    trial(work)


def test_nobody_asks_the_store_where_nobody_listens() -> None:
    async def work(house: House, follower: asyncio.Task[None]) -> None:
        follower.cancel()
        await turns()
        assert house.bells._timer is not None
        house.bells._tick(house.ends)
        await turns()
        assert house.asked == 0
        assert house.bells._timer is None

    trial(work)

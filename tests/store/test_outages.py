"""Following a log while the store is away: who has begun keeps its place, and goes on when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from proxy.errors import Draining, Unavailable
from proxy.events import Completed
from proxy.model import Run
from proxy.store.logs import outages
from proxy.store.logs.livelogs import PAGE
from proxy.testing.runs import ended, new_run, seqs, word
from tests.store.processes import Process, Table

COUNT = 2 * PAGE
Work = Callable[[Table, Process, Run], Awaitable[None]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "SHORTEST", 0.001)
    monkeypatch.setattr(outages, "LONGEST", 0.001)


def trial(work: Work) -> None:
    """Do this in a process that does not have the run, whose log takes more than two reads."""

    async def run() -> None:
        table = Table()
        here, there = Process(table), Process(table)
        log = there.begin(new_run())
        for number in range(COUNT):
            log.append(word(str(number)))
        await log.settle(Completed(), ended(log.run))
        async with asyncio.timeout(20):
            await work(table, here, log.run)

    asyncio.run(run())


async def refused(table: Table, times: int) -> None:
    """Until the store was asked so often in vain."""
    until = table.refused + times
    while table.refused < until:
        await asyncio.sleep(0)


def test_a_reader_goes_on_from_its_place_when_the_store_is_back() -> None:
    async def work(table: Table, here: Process, run: Run) -> None:
        async with aclosing(here.logs.follow(run.run_id, 0, 0)) as batches:
            seen = seqs(await anext(batches))
            for _ in range(2):
                table.away = True
                following = asyncio.ensure_future(anext(batches))
                await refused(table, 3)
                assert not following.done()
                table.away = False
                seen += seqs(await following)
            assert seen == list(range(1, COUNT + 2))

    trial(work)


def test_meanwhile_a_reader_is_told_of_the_silence() -> None:
    async def work(table: Table, here: Process, run: Run) -> None:
        async with aclosing(here.logs.follow(run.run_id, 0, 0.005)) as batches:
            await anext(batches)
            table.away = True
            assert [await anext(batches) for _ in range(3)] == [[], [], []]
            table.away = False
            while not (batch := await anext(batches)):
                pass
            assert batch[0].seq == PAGE + 1

    trial(work)


def test_who_comes_while_the_store_is_away_is_told_to_come_again() -> None:
    async def work(table: Table, here: Process, run: Run) -> None:
        table.away = True
        with pytest.raises(Unavailable):
            await here.follow(run.run_id)

    trial(work)


def test_a_reader_of_an_own_run_that_has_fallen_behind_waits_too() -> None:
    async def work(table: Table, here: Process, _: Run) -> None:
        run = new_run()
        log = here.begin(run)
        log.append(word("0"))
        async with aclosing(here.logs.follow(run.run_id, 0, 0)) as batches:
            assert seqs(await anext(batches)) == [1]
            for number in range(3 * COUNT):
                log.append(word(str(number)))
            here.flush(log)
            table.away = True
            following = asyncio.ensure_future(anext(batches))
            await refused(table, 2)
            table.away = False
            assert (await following)[0].seq == 2

    trial(work)


def test_nobody_waits_for_a_store_that_never_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.01)

    async def work(table: Table, here: Process, run: Run) -> None:
        async with aclosing(here.logs.follow(run.run_id, 0, 0)) as batches:
            assert seqs(await anext(batches)) == list(range(1, PAGE + 1))
            table.away = True
            with pytest.raises(Unavailable):
                await anext(batches)
            assert table.refused > 1

    trial(work)


def test_a_process_that_goes_down_keeps_no_reader_waiting_for_the_store() -> None:
    async def work(table: Table, here: Process, run: Run) -> None:
        async with aclosing(here.logs.follow(run.run_id, 0, 0)) as batches:
            await anext(batches)
            table.away = True
            following = asyncio.ensure_future(anext(batches))
            await refused(table, 2)
            here.logs.let_go()
            with pytest.raises(Draining):
                await following

    trial(work)

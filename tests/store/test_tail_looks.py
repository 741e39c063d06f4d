"""The look at the store that finds what nobody told of: nothing that happens to a process stops it for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

import pytest
from structlog.testing import capture_logs

from proxy.errors import ProxyError
from proxy.events import Completed, Entry
from proxy.store.logs.livelogs import LiveLogs
from proxy.store.logs.tails import Sight
from proxy.store.postgres.store import PostgresStore
from proxy.testing.runs import ended, new_run, seqs, word
from tests.store.databases import Database
from tests.store.processes import Process, Reader, Table, trial, turns

OFTEN = 0.05


def test_an_accident_in_one_look_is_not_the_last_look() -> None:
    """Whatever it was, and although no signal comes any more."""

    async def work(table: Table, here: Process, there: Process) -> None:
        table.deaf = True
        accidents = [ValueError("no row"), RuntimeError("no thread"), KeyError("no run")]

        async def look(asked: Sequence[tuple[str, int]]) -> dict[str, Sight]:
            seen = await table.look(asked)
            if accidents:
                raise accidents.pop()
            return seen

        here.logs = LiveLogs(table.read, look, lease=here.lease, signals=here.signals, shared=True)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        run = new_run()
        log = there.begin(run)
        reader = Reader(here, run.run_id)
        await turns()
        log.append(word("0"))
        there.flush(log)
        await reader.until(1)
        assert not accidents
        await log.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == [1, 2]

    trial(work, OFTEN)


def test_an_outage_of_looks_is_logged_once_and_so_is_its_end() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = there.begin(run)
        reader = Reader(here, run.run_id)
        await turns()
        table.blind = True
        table.looks.clear()
        while len(table.looks) < 3:
            await asyncio.sleep(OFTEN)
        table.blind = False
        log.append(word("0"))
        there.flush(log)
        await reader.until(1)
        await log.settle(Completed(), ended(run))
        await reader.task

    with capture_logs() as told:
        trial(work, OFTEN)
    assert [line["log_level"] for line in told if "look" in line["event"]] == ["warning", "info"]


def test_who_comes_back_to_a_run_during_a_look_at_it_misses_nothing() -> None:
    """The look was begun for a tail that is gone; the new one has looks of its own."""

    async def work(table: Table, here: Process, there: Process) -> None:
        table.deaf = True
        run = new_run()
        log = there.begin(run)
        log.append(word("0"))
        there.flush(log)
        for number in range(20):
            leaving = Reader(here, run.run_id, log.last)
            await turns(number)
            leaving.task.cancel()
            await turns(number % 3)
            coming = Reader(here, run.run_id, log.last)
            await turns(number % 5)
            log.append(word(str(number)))
            there.flush(log)
            await coming.until(log.last)
            coming.task.cancel()
        await log.settle(Completed(), ended(run))

    trial(work, OFTEN)


def test_what_a_sink_refuses_comes_to_its_follower_although_nothing_else_is_said() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        table.deaf = True
        run = new_run()
        log = there.begin(run)
        willing = [True, True, False, True, True, False]
        offered: list[Entry] = []
        yielded: list[Entry] = []

        def sink(entry: Entry) -> bool:
            offered.append(entry)
            return willing[len(offered) - 1]

        async def read() -> None:
            async with aclosing(here.logs.follow(run.run_id, 0, 0, sink=sink)) as batches:
                async for batch in batches:
                    yielded.extend(batch)

        reader = asyncio.ensure_future(read())
        await turns()
        for wanted in ([3, 4], [3, 4, 7, 8]):
            for number in range(4):
                log.append(word(str(number)))
            there.flush(log)
            while len(yielded) < len(wanted):
                await asyncio.sleep(0.001)
            assert seqs(yielded) == wanted
        assert seqs(offered) == [1, 2, 3, 5, 6, 7]
        await log.settle(Completed(), ended(run))
        await reader

    trial(work, OFTEN)


def test_who_has_lost_the_run_looks_for_what_its_next_owner_says() -> None:
    """Without a word from anybody: its followers have become those of a tail."""

    async def work(table: Table, here: Process, there: Process) -> None:
        table.deaf = True
        run = new_run()
        log = here.begin(run)
        log.append(word("0"))
        here.flush(log)
        reader = Reader(here, run.run_id)
        await reader.until(1)
        here.lease.lose()
        here.lease.renew(time.monotonic())
        other = there.begin(run, after=10_001)
        other.append(word("again"))
        there.flush(other)
        await reader.until(10_002)
        await other.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == [1, 10_002, 10_003]

    trial(work, OFTEN)


def test_a_damaged_log_is_told_to_its_readers_and_keeps_no_others_waiting(postgres: Database) -> None:
    async def read(store: PostgresStore, run_id: str, seen: list[int]) -> None:
        async with aclosing(store.follow(run_id, idle=0)) as batches:
            async for batch in batches:
                seen += seqs(batch)

    async def work(here: PostgresStore, there: PostgresStore) -> None:
        logs = [here.begin(await here.insert(new_run()), inserted=True) for _ in range(2)]
        seen: tuple[list[int], list[int]] = [], []
        readers = [asyncio.ensure_future(read(there, log.run_id, to)) for log, to in zip(logs, seen, strict=True)]
        for log, has in zip(logs, seen, strict=True):
            log.append(word("0"))
            while not has:
                await asyncio.sleep(0.001)
        bad, good = logs
        postgres.ask("INSERT INTO segments VALUES (%s, 2, 2, '[{')", bad.run_id)
        with pytest.raises(ProxyError, match="damaged"):
            await readers[0]
        await good.settle(Completed(), ended(good.run))
        await readers[1]
        assert seen == ([1], [1, 2])

    async def run() -> None:
        here, there = postgres.store(), postgres.store()
        for store in (here, there):
            await store.open()
        try:
            async with asyncio.timeout(20):
                await work(here, there)
        finally:
            for store in (here, there):
                await store.close()

    asyncio.run(run())

"""Following a run that another process has, or nobody yet, or nobody any more."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from proxy.errors import Draining, LogTrimmed
from proxy.events import Completed
from proxy.model import RunStatus
from proxy.store.logs import tails
from proxy.store.logs.feeds import TAIL
from proxy.store.logs.livelogs import LiveLogs
from proxy.store.signals import ANY, Topic
from proxy.testing.runs import ended, new_run, seqs, word
from tests.store.processes import Process, Reader, Table, trial, turns

PENDING = RunStatus.PENDING


def test_a_run_that_waits_is_followed_until_it_begins_here() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run(status=PENDING)
        table.runs[run.run_id] = run
        reader = Reader(here, run.run_id)
        await turns()
        log = here.begin(run)
        log.append(word("0"))
        await reader.until(1)
        await log.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == [1, 2]
        assert here.logs.tails.all() == []

    trial(work)


def test_a_run_that_waits_is_followed_until_it_begins_elsewhere() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run(status=PENDING)
        table.runs[run.run_id] = run
        reader = Reader(here, run.run_id)
        await turns()
        log = there.begin(run)
        for number in range(10):
            log.append(word(str(number)))
        there.flush(log)
        await reader.until(10)
        await log.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == list(range(1, 12))

    trial(work)


def test_an_unknown_run_ends_at_once_and_an_ended_one_after_its_end() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = there.begin(run)
        log.append(word("0"))
        await log.settle(Completed(), ended(run))
        assert await here.follow("nobody") == []
        assert await here.follow("nobody", after=7) == []
        assert seqs(await here.follow(run.run_id)) == [1, 2]
        assert await here.follow(run.run_id, after=2) == []
        assert await here.follow(run.run_id, after=99) == []
        assert here.logs.tails.all() == []

    trial(work)


def test_a_follower_that_is_told_nothing_sees_all_within_a_second_or_so() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        table.deaf = True
        run = new_run()
        log = there.begin(run)
        reader = Reader(here, run.run_id)
        await turns()
        log.append(word("0"))
        there.flush(log)
        await reader.until(1)
        await log.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == [1, 2]

    trial(work, tails.ROUND)


def test_after_a_signal_that_names_nothing_all_are_looked_at() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        runs = [new_run() for _ in range(3)]
        logs = [there.begin(run) for run in runs]
        readers = [Reader(here, run.run_id) for run in runs]
        await turns()
        table.deaf = True
        for log in logs:
            log.append(word("0"))
            there.flush(log)
        table.looks.clear()
        here.signals.ring([(Topic.LOG, ANY)])
        await turns()
        assert [reader.seqs for reader in readers] == [[1], [1], [1]]
        assert table.looks == [[run.run_id for run in runs]]

    trial(work)


def test_nobody_asks_the_store_where_nobody_follows() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = there.begin(run)
        reader = Reader(here, run.run_id)
        await turns()
        reader.task.cancel()
        await turns()
        table.looks.clear()
        log.append(word("0"))
        there.flush(log)
        await turns()
        assert table.looks == []
        assert here.logs.tails._timer is None

    trial(work)


def test_in_a_store_of_its_own_a_process_looks_once_at_a_run_that_waits() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run(status=PENDING)
        table.runs[run.run_id] = run
        here.logs = LiveLogs(table.read, table.look, lease=here.lease, signals=here.signals)
        reader = Reader(here, run.run_id)
        await turns()
        assert len(table.looks) == 1
        here.logs.tails._tick()
        await turns()
        assert len(table.looks) == 1
        log = here.begin(run)
        await log.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == [1]

    trial(work)


def test_one_look_serves_many_followers_and_a_long_log_does_not_keep_others_waiting() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        table.most = 10
        long, short = new_run(), new_run()
        logs = [there.begin(long), there.begin(short)]
        readers = [Reader(here, run.run_id) for run in (long, long, long, short)]
        await turns()
        for number in range(100):
            logs[0].append(word(str(number)))
        logs[1].append(word("0"))
        table.looks.clear()
        for log in logs:
            there.flush(log)
        await readers[3].until(1)
        assert len(table.looks) <= 2
        for reader in readers[:3]:
            await reader.until(100)
            assert reader.seqs == list(range(1, 101))
        assert len(table.looks) <= 12

    trial(work)


def test_a_slow_follower_elsewhere_reads_all_and_holds_little_in_memory() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = there.begin(run)
        seen: list[int] = []
        quick = Reader(here, run.run_id)
        async with aclosing(here.logs.follow(run.run_id, 0, 0)) as batches:
            for start in range(0, 20_000, 500):
                for number in range(start, start + 500):
                    log.append(word(str(number)))
                there.flush(log)
                if not start:
                    seen += seqs(await anext(batches))
                await turns()
            tail = here.logs.tails.get(run.run_id)
            assert tail is not None
            assert len(tail.entries) <= TAIL
            await log.settle(Completed(), ended(run))
            async for batch in batches:
                seen += seqs(batch)
        await quick.task
        assert seen == quick.seqs == list(range(1, 20_002))

    trial(work)


def test_r09_joining_elsewhere_at_the_very_moment_of_the_end_sees_the_end() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        for number in range(1000):
            run = new_run()
            log = there.begin(run)
            log.append(word("0"))
            if number % 3:
                there.flush(log)
            first = asyncio.ensure_future(here.follow(run.run_id))
            settling = asyncio.ensure_future(log.settle(Completed(), ended(run)))
            await turns(number % 7)
            second = asyncio.ensure_future(here.follow(run.run_id, number % 2))
            assert seqs(await first) == [1, 2]
            assert seqs(await second) == list(range(1 + number % 2, 3))
            await settling

    trial(work)


def test_followers_are_told_to_go_when_their_process_goes() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run(status=PENDING)
        table.runs[run.run_id] = run
        reader = Reader(here, run.run_id)
        await turns()
        here.logs.let_go()
        with pytest.raises(Draining):
            await reader.task
        with pytest.raises(Draining):
            await here.follow(run.run_id)
        log = there.begin(run)
        await log.settle(Completed(), ended(run))
        assert seqs(await here.follow(run.run_id)) == [1]

    trial(work)


@pytest.mark.parametrize("placed", [True, False])
def test_a_follower_whose_run_is_deleted_is_told_that_entries_are_gone(placed: bool) -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = there.begin(run)
        log.append(word("0"))
        there.flush(log)
        readers = [Reader(here, run.run_id, after) for after in (0, 1)]
        if placed:
            await turns()
        await readers[0].until(1)
        del table.runs[run.run_id], table.entries[run.run_id]
        here.signals.ring([(Topic.LOG, run.run_id)])
        for reader in readers[: 1 + placed]:
            with pytest.raises(LogTrimmed):
                await reader.task

    trial(work)


@pytest.mark.parametrize("shared", [True, False])
def test_a_store_that_is_away_ends_no_follower(shared: bool) -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        here.logs = LiveLogs(table.read, table.look, lease=here.lease, signals=here.signals, shared=shared)
        run = new_run()
        log = there.begin(run)
        log.append(word("0"))
        there.flush(log)
        table.blind = table.deaf = True
        reader = Reader(here, run.run_id)
        await turns()
        assert len(table.looks) == 1
        await log.settle(Completed(), ended(run))
        table.blind = False
        await reader.task
        assert reader.seqs == [1, 2]

    trial(work, 0.05)


def test_silence_yields_an_empty_list_while_a_run_waits_and_after_it_has_begun() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run(status=PENDING)
        table.runs[run.run_id] = run
        async with aclosing(here.logs.follow(run.run_id, 0, 0.02)) as batches:
            assert await anext(batches) == []
            log = here.begin(run)
            assert await anext(batches) == []
            log.append(word("0"))
            assert seqs(await anext(batches)) == [1]
            assert await anext(batches) == []

    trial(work)


def test_content_goes_later_where_others_may_still_read_it() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        gone: list[str] = []
        log = here.begin(run)
        reader = Reader(here, run.run_id)
        await turns()
        await log.settle(Completed(), ended(run))
        here.logs.when_left(run.run_id, lambda: gone.append(run.run_id))
        await reader.task
        await turns()
        assert gone == []
        here.logs.close()
        assert gone == [run.run_id]

    trial(work)

"""Following a run that another process has, or nobody yet, or nobody any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from unittest.mock import patch

import msgspec
import pytest

from proxy.errors import Draining, LeaseLost, LogTrimmed
from proxy.events import Completed, Entry, RunStarted
from proxy.model import RunStatus
from proxy.store.logs import tails
from proxy.store.logs.feeds import TAIL
from proxy.store.logs.livelogs import LiveLogs
from proxy.store.signals import ANY, Topic
from proxy.testing.runs import ended, new_run, seqs, word
from tests.store.processes import Process, Reader, Table

PENDING = RunStatus.PENDING


def trial(work: Callable[[Table, Process, Process], Awaitable[None]], pause: float = 60.0) -> None:
    """Do this with two processes over one table, which look at it by themselves after such pauses."""

    async def run() -> None:
        table = Table()
        async with asyncio.timeout(20):
            await work(table, Process(table), Process(table))

    with patch.object(tails, "ROUND", pause):
        asyncio.run(run())


async def turns(count: int = 20) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


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


def test_a_sink_takes_what_comes_from_elsewhere_but_no_end_and_nothing_before_the_cursor() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = there.begin(run)
        taken: list[Entry] = []
        yielded: list[Entry] = []

        def sink(entry: Entry) -> bool:
            taken.append(entry)
            return True

        async def read() -> None:
            async with aclosing(here.logs.follow(run.run_id, 3, 0, sink=sink)) as batches:
                async for batch in batches:
                    yielded.extend(batch)

        reader = asyncio.ensure_future(read())
        await turns()
        for number in range(6):
            log.append(word(str(number)))
            there.flush(log)
            await turns()
        await log.settle(Completed(), ended(run))
        await reader
        assert seqs(taken) == [4, 5, 6]
        assert seqs(yielded) == [7]

    trial(work)


def test_a_sink_is_offered_nothing_before_it_is_known_what_comes_ahead_of_it() -> None:
    """What an owner shows while the store cannot be looked at waits for what is stored."""

    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = there.begin(run)
        seen: list[Entry] = []

        async def read() -> None:
            async with aclosing(
                here.logs.follow(run.run_id, 0, 0, sink=lambda entry: not seen.append(entry))
            ) as batches:
                async for batch in batches:
                    seen.extend(batch)

        table.blind = True
        reader = asyncio.ensure_future(read())
        await turns()
        for number in range(5):
            log.append(word(str(number)))
        there.flush(log)
        log.append(word("5"))
        here.logs.tails.hear(run.run_id, 5, log.entries[5:], 5)
        await turns()
        table.blind = False
        here.logs.tails.ask(run.run_id)
        await turns()
        await log.settle(Completed(), ended(run))
        await reader
        assert seqs(seen) == [1, 2, 3, 4, 5, 6, 7]

    trial(work)


def test_p11_past_its_lease_a_process_shows_nothing_and_after_a_late_renewal_all() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = here.begin(run)
        reader = Reader(here, run.run_id)
        await turns()
        log.append(word("0"))
        await reader.until(1)
        log.append(word("shown by nobody yet"))
        here.lease.deadline = time.monotonic()
        log.append(word("2"))
        await turns()
        assert reader.seqs == [1]
        assert await here.logs.read(run.run_id, 1, 10) == []
        here.lease.renew(time.monotonic())
        await reader.until(3)
        await log.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == [1, 2, 3, 4]

    trial(work)


def test_p11_past_its_lease_a_process_offers_nothing_to_a_sink() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = here.begin(run)
        taken: list[Entry] = []
        yielded: list[Entry] = []

        async def read() -> None:
            async with aclosing(
                here.logs.follow(run.run_id, 0, 0, sink=lambda entry: not taken.append(entry))
            ) as batches:
                async for batch in batches:
                    yielded.extend(batch)

        reader = asyncio.ensure_future(read())
        await turns()
        log.append(word("0"))
        here.lease.deadline = time.monotonic()
        log.append(word("1"))
        await turns()
        assert seqs(taken) == [1]
        here.lease.renew(time.monotonic())
        await turns()
        assert seqs(yielded) == [2]
        await log.settle(Completed(), ended(run))
        await reader

    trial(work)


def test_p11_what_was_stored_before_a_loss_is_shown_though_the_process_was_not_told() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = here.begin(run)
        reader = Reader(here, run.run_id)
        await turns()
        here.lease.deadline = time.monotonic()
        for number in range(4):
            log.append(word(str(number)))
        table.deaf = True
        table.write(run, log.entries[:1])
        log.written(1, 1)
        here.lease.lose()
        await reader.until(1)
        table.deaf = False
        table.write(run, log.entries[1:2])
        await reader.until(2)
        assert here.commits == 0
        with pytest.raises(LeaseLost):
            await log.settle(Completed(), ended(run))
        assert here.commits == 0
        assert reader.seqs == [1, 2]

    trial(work)


def test_p11_who_lost_a_run_writes_no_more_and_its_followers_go_on_with_the_next_owner() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        old = here.begin(run)
        stored, ahead, late = (Reader(here, run.run_id, after) for after in (0, 0, 10_050))
        await turns()
        for number in range(4):
            old.append(word(str(number)))
        here.flush(old)
        old.append(word("never stored"))
        await stored.until(5)
        old.append(word("never shown"))
        here.lease.deadline = time.monotonic()
        here.lease.lose()
        with pytest.raises(LeaseLost):
            old.append(word("too late"))
        with pytest.raises(LeaseLost):
            await old.settle(Completed(), ended(run))
        new = there.begin(msgspec.structs.replace(run, attempt=2), after=10_004)
        new.append(RunStarted(run_id=run.run_id, thread_id="", agent="", attempt=2, resumes_after=4))
        new.append(word("again"))
        there.flush(new)
        await new.settle(Completed(), ended(run))
        for reader in (stored, ahead, late):
            await reader.task
        assert stored.seqs == ahead.seqs == [1, 2, 3, 4, 5, 10_005, 10_006, 10_007]
        assert isinstance(stored.events[5], RunStarted)
        assert late.seqs == []
        assert seqs(await here.follow(run.run_id)) == [1, 2, 3, 4, 10_005, 10_006, 10_007]
        for cursor in (4, 5, 9_999):
            assert seqs(await here.follow(run.run_id, cursor)) == [10_005, 10_006, 10_007]

    trial(work)


def test_a_run_that_comes_back_to_the_process_that_lost_it_goes_on_for_its_followers() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        old = here.begin(run)
        reader = Reader(here, run.run_id)
        await turns()
        old.append(word("0"))
        here.flush(old)
        await reader.until(1)
        here.lease.lose()
        here.lease.renew(time.monotonic())
        new = here.begin(run, after=10_001)
        new.append(word("again"))
        await reader.until(10_002)
        await new.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == [1, 10_002, 10_003]

    trial(work)


def test_p11_an_end_that_was_under_way_at_a_loss_is_no_end() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = here.begin(run)
        reader = Reader(here, run.run_id)
        await turns()
        settling = asyncio.ensure_future(log.settle(Completed(), ended(run)))
        second = asyncio.ensure_future(log.settle(Completed(), ended(run)))
        await asyncio.sleep(0)
        here.lease.lose()
        for one in (settling, second):
            with pytest.raises(LeaseLost):
                await one
        assert not reader.seen
        assert not reader.task.done()
        await there.begin(run, after=10_000).settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == [10_001]

    trial(work)


def test_an_end_that_was_given_up_past_the_lease_is_not_shown() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = here.begin(run)
        reader = Reader(here, run.run_id)
        await turns()
        here.lease.deadline = time.monotonic()
        log.give_up(Completed(), ended(run))
        await turns()
        assert not reader.seen
        here.lease.lose()
        await there.begin(run, after=10_000).settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == [10_001]

    trial(work)


def test_what_an_owner_shows_early_is_joined_with_what_the_store_has() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = there.begin(run)
        for number in range(10):
            log.append(word(str(number)))
        reader = Reader(here, run.run_id)
        await turns()

        def say(first: int, last: int, stored: int = 0) -> None:
            here.logs.tails.hear(run.run_id, first - 1, log.entries[first - 1 : last], stored)

        say(5, 6)
        say(7, 7)
        await turns()
        assert reader.seqs == []
        there.flush(log)
        await reader.until(10)
        say(3, 8)
        log.append(word("10"))
        say(11, 11)
        await reader.until(11)
        log.append(word("lost on its way"))
        log.append(word("12"))
        say(13, 13)
        await turns()
        assert reader.seqs == list(range(1, 12))
        table.deaf = True
        there.flush(log)
        log.append(word("13"))
        say(14, 14, stored=13)
        await reader.until(14)
        table.deaf = False
        await log.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == list(range(1, 16))

    trial(work)


@pytest.mark.parametrize("count", [10, 3 * TAIL])
def test_what_is_not_stored_yet_is_there_for_who_comes_later(count: int) -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = there.begin(run)
        reader = Reader(here, run.run_id)
        await turns()
        for number in range(count):
            log.append(word(str(number)))
            here.logs.tails.hear(run.run_id, number, log.entries[number:], 0)
            if count < TAIL:
                await turns()
        await reader.until(count)
        later = Reader(here, run.run_id, 5)
        await later.until(count)
        assert later.seqs == list(range(6, count + 1))
        await log.settle(Completed(), ended(run))
        await later.task

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

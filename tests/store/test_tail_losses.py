"""What followers see of a run whose process is past its lease, or has lost it."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from proxy.errors import LeaseLost
from proxy.events import Completed, Entry, RunStarted
from proxy.testing.runs import ended, new_run, seqs, word
from tests.store.processes import Process, Reader, Table, trial, turns


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
        reader = Reader(here, run.run_id, sink=lambda entry: not taken.append(entry))
        await turns()
        log.append(word("0"))
        here.lease.deadline = time.monotonic()
        log.append(word("1"))
        await turns()
        assert seqs(taken) == [1]
        here.lease.renew(time.monotonic())
        await turns()
        assert reader.seqs == [2]
        await log.settle(Completed(), ended(run))
        await reader.task

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

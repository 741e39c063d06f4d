"""What reaches followers before it is stored: by a sink in the writer's own turn, or shown early by its owner."""

from __future__ import annotations

import pytest

from proxy.events import Completed, Entry
from proxy.store.logs.feeds import TAIL
from proxy.testing.runs import ended, new_run, seqs, word
from tests.store.processes import Process, Reader, Table, trial, turns


def test_a_sink_takes_what_comes_from_elsewhere_but_no_end_and_nothing_before_the_cursor() -> None:
    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = there.begin(run)
        taken: list[Entry] = []
        reader = Reader(here, run.run_id, after=3, sink=lambda entry: not taken.append(entry))
        await turns()
        for number in range(6):
            log.append(word(str(number)))
            there.flush(log)
            await turns()
        await log.settle(Completed(), ended(run))
        await reader.task
        assert seqs(taken) == [4, 5, 6]
        assert reader.seqs == [7]

    trial(work)


def test_a_sink_is_offered_nothing_before_it_is_known_what_comes_ahead_of_it() -> None:
    """What an owner shows while the store cannot be looked at waits for what is stored."""

    async def work(table: Table, here: Process, there: Process) -> None:
        run = new_run()
        log = there.begin(run)
        table.blind = True
        reader = Reader(here, run.run_id, sink=lambda entry: not reader.seen.append(entry))
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
        await reader.task
        assert reader.seqs == [1, 2, 3, 4, 5, 6, 7]

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

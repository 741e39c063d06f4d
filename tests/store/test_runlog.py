"""The live log: what stays in memory, and who waits for what."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress

import pytest

from proxy.errors import LogTrimmed, Unavailable
from proxy.events import Cancelled, Completed, Entry
from proxy.model import Pause, Run, ThreadOutcome
from proxy.store.lease import Lease
from proxy.store.logs.feeds import TAIL
from proxy.store.logs.livelogs import LiveLogs, Page
from proxy.store.logs.runlog import QUEUE, LiveLog
from proxy.testing.runs import ended, new_run, seqs, word


class Disk:
    """A journal that writes when the test says so."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.queued: list[LiveLog] = []
        self.hurried = 0
        self.ends: list[tuple[LiveLog, Entry, Run, asyncio.Future[None]]] = []

    def queue(self, log: LiveLog) -> None:
        self.queued.append(log)

    def hurry(self) -> None:
        self.hurried += 1

    async def commit(
        self, log: LiveLog, final: Entry, run: Run, pause: Pause | None, thread: ThreadOutcome | None
    ) -> None:
        done = asyncio.get_running_loop().create_future()
        self.ends.append((log, final, run, done))
        await done

    def write(self, log: LiveLog) -> None:
        self.queued.remove(log)
        self.entries += log.unwritten()
        log.written(log.last, 100)

    def take_end(self) -> None:
        log, final, run, done = self.ends.pop()
        self.entries += [*log.unwritten(), final]
        log.finish(final, run)
        if not done.done():
            done.set_result(None)

    def refuse_end(self) -> None:
        log, _, _, done = self.ends.pop()
        log.reopen()
        done.set_exception(Unavailable())

    async def read(self, run_id: str, after: int, limit: int) -> Page:
        return Page([entry for entry in self.entries if entry.seq > after][:limit])


class Bench:
    """A log on a disk of the test's."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.logs = LiveLogs(self.disk.read)
        self.log = LiveLog(new_run(), self.disk, inserted=False, lease=Lease())
        self.logs.add(self.log)
        self.run_id = self.log.run.run_id

    def say(self, count: int) -> None:
        for number in range(count):
            self.log.append(word(str(number)))

    def settle(self) -> asyncio.Task[bool]:
        return asyncio.ensure_future(self.log.settle(Completed(), ended(self.log.run)))

    async def follow(self, after: int = 0) -> list[Entry]:
        seen: list[Entry] = []
        async with aclosing(self.logs.follow(self.run_id, after, 0)) as batches:
            async for batch in batches:
                seen += batch
        return seen


async def turn() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_log_queues_itself_once_until_it_is_written() -> None:
    async def run() -> None:
        bench = Bench()
        bench.say(10)
        assert bench.disk.queued == [bench.log]
        bench.disk.write(bench.log)
        assert bench.disk.queued == []
        assert bench.log.bytes == 100
        bench.say(1)
        assert bench.disk.queued == [bench.log]

    asyncio.run(run())


def test_what_is_on_disk_leaves_memory_but_for_a_tail() -> None:
    async def run() -> None:
        bench = Bench()
        for _ in range(20):
            bench.say(1000)
            bench.disk.write(bench.log)
            assert len(bench.log.entries) <= 2 * TAIL + 1000
        reader = asyncio.ensure_future(bench.follow())
        settling = bench.settle()
        await turn()
        bench.disk.take_end()
        assert seqs(await reader) == list(range(1, 20_002))
        assert await settling

    asyncio.run(run())


def test_a_writer_waits_while_the_disk_is_behind_and_no_longer() -> None:
    async def run() -> None:
        bench = Bench()
        bench.say(QUEUE)
        assert bench.log.full
        assert not bench.disk.hurried
        waiting = asyncio.ensure_future(bench.log.drain())
        await turn()
        assert not waiting.done()
        assert bench.disk.hurried == 1
        bench.disk.write(bench.log)
        await turn()
        assert waiting.done()
        assert not bench.log.full

    asyncio.run(run())


def test_a_waiting_writer_is_let_go_when_the_run_is_settled_by_another() -> None:
    async def run() -> None:
        bench = Bench()
        bench.say(QUEUE)
        waiting = asyncio.ensure_future(bench.log.drain())
        await turn()
        settling = bench.settle()
        await turn()
        assert waiting.done()
        bench.disk.take_end()
        assert await settling

    asyncio.run(run())


def test_the_end_is_shown_only_when_it_is_on_disk() -> None:
    async def run() -> None:
        bench = Bench()
        reader = asyncio.ensure_future(bench.follow())
        settling = bench.settle()
        await turn()
        assert not reader.done()
        bench.disk.take_end()
        assert seqs(await reader) == [1]
        assert await settling

    asyncio.run(run())


def test_an_end_that_was_refused_can_be_tried_again_by_whoever_waits() -> None:
    async def run() -> None:
        bench = Bench()
        first, second = bench.settle(), bench.settle()
        await turn()
        bench.disk.refuse_end()
        with pytest.raises(Unavailable):
            await first
        await turn()
        bench.disk.take_end()
        assert await second
        assert not await bench.log.settle(Cancelled(), ended(bench.log.run))

    asyncio.run(run())


def test_an_end_reaches_the_followers_although_its_settler_was_cancelled() -> None:
    async def run() -> None:
        bench = Bench()
        reader = asyncio.ensure_future(bench.follow())
        settling, second = bench.settle(), bench.settle()
        await turn()
        settling.cancel()
        with suppress(asyncio.CancelledError):
            await settling
        bench.disk.take_end()
        assert seqs(await reader) == [1]
        assert not await second

    asyncio.run(run())


def test_an_end_that_is_given_up_is_shown_and_queued() -> None:
    async def run() -> None:
        bench = Bench()
        settling = bench.settle()
        await turn()
        bench.disk.refuse_end()
        with pytest.raises(Unavailable):
            await settling
        bench.log.give_up(Cancelled(), ended(bench.log.run))
        assert seqs(await bench.follow()) == [1]
        assert bench.disk.queued == [bench.log]

    asyncio.run(run())


def test_a_retired_log_is_forgotten_when_its_last_follower_leaves() -> None:
    async def run() -> None:
        bench = Bench()
        bench.say(1)
        batches = bench.logs.follow(bench.run_id, 0, 0)
        await anext(batches)
        left: list[str] = []
        bench.logs.when_left(bench.run_id, lambda: left.append("left"))
        bench.logs.retire(bench.run_id)
        assert bench.logs.get(bench.run_id) is bench.log
        assert left == []
        await batches.aclose()
        assert bench.logs.get(bench.run_id) is None
        assert left == ["left"]

    asyncio.run(run())


def test_a_follower_whose_entries_are_gone_is_told() -> None:
    async def run() -> None:
        bench = Bench()
        bench.say(3)
        settling = bench.settle()
        await turn()
        bench.disk.take_end()
        await settling
        bench.disk.entries.clear()
        bench.log.strip()
        assert seqs(await bench.follow(3)) == [4]
        with pytest.raises(LogTrimmed):
            await bench.follow(1)
        assert seqs(await bench.logs.read(bench.run_id, 0, 10)) == [4]

    asyncio.run(run())

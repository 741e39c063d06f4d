"""What an owner shows to other processes over Redis, and what it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.asyncio.connection import AbstractConnection
from structlog.testing import capture_logs

from proxy.events import Completed
from proxy.store.live import connect
from proxy.store.signals import Topic
from proxy.testing.runs import ended, new_run, word
from tests.store.processes import Process, Reader, Table
from tests.store.redis_server import RedisServer, redis_server

Work = Callable[[Table, Process, Process, RedisServer], Awaitable[None]]


@pytest.fixture
def trial(tmp_path: Path) -> Callable[[Work], None]:
    """Does something with two processes that have a Redis between them. What is stored is told to nobody else."""

    async def run(work: Work, server: RedisServer) -> None:
        table = Table()
        table.deaf = True
        here, there = (Process(table, live=connect(server.url, "trial")) for _ in range(2))
        for process in (here, there):
            assert process.live is not None
            await process.live.open(process.logs.tails, process.signals, process.lease)
        async with asyncio.timeout(20):
            await work(table, here, there, server)
        for process in (here, there):
            assert process.live is not None
            await process.live.close()

    def go(work: Work) -> None:
        with redis_server(tmp_path) as server:
            asyncio.run(run(work, server))

    return go


def test_entries_are_seen_elsewhere_before_they_are_stored_and_the_end_after_that(
    trial: Callable[[Work], None],
) -> None:
    async def work(table: Table, here: Process, there: Process, server: RedisServer) -> None:
        run = new_run()
        log = here.begin(run)
        reader = Reader(there, run.run_id)
        await followed(server, 1)
        for number in range(50):
            log.append(word(str(number)))
            await reader.until(number + 1)
        assert table.entries == {}
        await log.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == list(range(1, 52))

    trial(work)


def test_an_end_that_is_not_stored_is_shown_to_nobody_elsewhere(trial: Callable[[Work], None]) -> None:
    async def work(table: Table, here: Process, there: Process, server: RedisServer) -> None:
        run = new_run()
        log = here.begin(run)
        reader = Reader(there, run.run_id)
        await followed(server, 1)
        log.append(word("0"))
        log.give_up(Completed(), ended(run))
        await reader.until(1)
        assert [entry.seq for entry in await here.follow(run.run_id)] == [1, 2]
        other = here.begin(new_run())
        Reader(there, other.run_id)
        await followed(server, 2)
        await passed(there, other)
        assert reader.seqs == [1]
        here.flush(log)
        await reader.task
        assert reader.seqs == [1, 2]

    trial(work)


def test_p11_past_its_lease_a_process_publishes_nothing_until_it_is_renewed(trial: Callable[[Work], None]) -> None:
    async def work(table: Table, here: Process, there: Process, server: RedisServer) -> None:
        run = new_run()
        log = here.begin(run)
        reader = Reader(there, run.run_id)
        await followed(server, 1)
        log.append(word("0"))
        await reader.until(1)
        before = published(server)
        here.lease.deadline = time.monotonic()
        for number in range(20):
            log.append(word(str(number)))
            await asyncio.sleep(0.002)
        assert here.live is not None
        assert here.live.tell([(Topic.QUEUE, "")])
        while published(server) == before:
            await asyncio.sleep(0.01)
        assert published(server) == before + 1
        assert reader.seqs == [1]
        here.lease.renew(time.monotonic())
        await reader.until(21)
        await log.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == list(range(1, 23))

    trial(work)


def test_what_a_process_had_not_shown_when_it_lost_a_run_is_never_published(trial: Callable[[Work], None]) -> None:
    async def work(table: Table, here: Process, there: Process, server: RedisServer) -> None:
        run = new_run()
        old = here.begin(run)
        near, far = Reader(here, run.run_id), Reader(there, run.run_id)
        await followed(server, 1)
        old.append(word("0"))
        here.flush(old)
        await far.until(1)
        here.lease.deadline = time.monotonic()
        old.append(word("never"))
        here.lease.lose()
        here.lease.renew(time.monotonic())
        other = here.begin(new_run())
        Reader(there, other.run_id)
        await followed(server, 2)
        await passed(there, other)
        table.deaf = False
        third = Process(table)
        new = third.begin(run, after=10_001)
        new.append(word("again"))
        third.flush(new)
        await new.settle(Completed(), ended(run))
        for reader in (near, far):
            await reader.task
            assert reader.seqs == [1, 10_002, 10_003]

    trial(work)


def test_a_run_that_nobody_follows_elsewhere_is_not_published_word_by_word(trial: Callable[[Work], None]) -> None:
    async def work(table: Table, here: Process, there: Process, server: RedisServer) -> None:
        run = new_run()
        log = here.begin(run)
        for number in range(20):
            log.append(word(str(number)))
            await asyncio.sleep(0.015)
        assert published(server) < 10
        reader = Reader(there, run.run_id)
        await followed(server, 1)
        here.flush(log)
        await reader.until(20)
        log.append(word("20"))
        await reader.until(21)
        assert len(table.entries[run.run_id]) == 20
        await log.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == list(range(1, 23))

    trial(work)


def test_what_is_too_large_for_a_message_is_read_from_the_store(trial: Callable[[Work], None]) -> None:
    async def work(table: Table, here: Process, there: Process, server: RedisServer) -> None:
        run = new_run()
        log = here.begin(run)
        reader = Reader(there, run.run_id)
        await followed(server, 1)
        for text in ("small", "x" * 2_000_000, "small again"):
            log.append(word(text))
            await asyncio.sleep(0.03)
        other = here.begin(new_run())
        Reader(there, other.run_id)
        await followed(server, 2)
        await passed(there, other)
        assert reader.seqs == [1]
        here.flush(log)
        await log.settle(Completed(), ended(run))
        await reader.task
        assert reader.seqs == [1, 2, 3, 4]

    trial(work)


@pytest.mark.parametrize("way", ["heard", "sent"])
def test_a_connection_that_breaks_just_as_it_is_written_to_is_lost_like_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The loop that servers have says so in a word of its own."""
    writers: list[asyncio.StreamWriter] = []
    connect_to, send = asyncio.open_connection, AbstractConnection._send_packed_command

    async def noted(*given: Any, **named: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        streams = await connect_to(*given, **named)
        writers.append(streams[1])
        return streams

    async def torn(connection: AbstractConnection, command: Any) -> None:
        monkeypatch.setattr(AbstractConnection, "_send_packed_command", send)
        writers[0].transport.abort()
        await asyncio.sleep(0)
        await send(connection, command)

    async def go(server: RedisServer) -> None:
        here = Process(Table(), live=connect(server.url, "trial"))
        assert here.live is not None
        await here.live.open(here.logs.tails, here.signals, here.lease)
        back = asyncio.Event()
        here.signals.hear(Topic.QUEUE, lambda name: back.set() if here.live is not None and here.live.up else None)
        if way == "heard":
            writers[-1].transport.abort()
            here.live.follow("a run")
        else:
            monkeypatch.setattr(AbstractConnection, "_send_packed_command", torn)
            here.live.tell([(Topic.CANCEL, "a run")])
        await asyncio.wait_for(back.wait(), 20)
        await here.live.close()

    monkeypatch.setattr(asyncio, "open_connection", noted)
    with redis_server(tmp_path) as server, capture_logs() as logged:
        uvloop.run(go(server))
    assert [entry["log_level"] for entry in logged] == ["info", "warning", "info"]
    assert logged[1]["error"].startswith("RuntimeError")


async def followed(server: RedisServer, count: int) -> None:
    """Wait until so many runs are followed elsewhere."""
    while True:
        found: Any = server.do("PUBSUB", "CHANNELS", "trial:run:*")
        if len(found) >= count:
            return
        await asyncio.sleep(0.01)


def published(server: RedisServer) -> int:
    """Messages so far."""
    stats: Any = server.do("INFO", "commandstats")
    return int(stats.get("cmdstat_publish", {"calls": 0})["calls"])


async def passed(there: Process, log: Any) -> None:
    """Wait until what was published before has arrived."""
    log.append(word("mark"))
    tail = there.logs.tails.get(log.run_id)
    while tail is None or tail.last < 1:
        await asyncio.sleep(0.01)
        tail = there.logs.tails.get(log.run_id)

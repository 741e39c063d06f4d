"""Signals over PostgreSQL: what is told in one process is heard in the others, in texts that NOTIFY can carry."""

from __future__ import annotations

import asyncio

from proxy.model import new_id
from proxy.store.postgres.payloads import MANY, channel_of, decode, payloads
from proxy.store.postgres.store import PostgresStore
from proxy.store.signals import ANY, Signal, Topic
from proxy.testing.runs import new_run
from tests.store.databases import Database

CARRIED = 8000
"""Bytes that PostgreSQL does not carry any more."""


def carried(signals: list[Signal]) -> list[Signal]:
    """What comes out of the texts for these signals."""
    texts = payloads("me", signals)
    assert all(len(text.encode()) < CARRIED for text in texts)
    read = [decode(text) for text in texts]
    assert {payload.origin for payload in read} <= {"me"}
    return [signal for payload in read for signal in payload.signals()]


def test_all_signals_arrive_each_once() -> None:
    signals = [(topic, new_id()) for topic in (Topic.LOG, Topic.CANCEL) for _ in range(MANY)]
    signals += [(Topic.QUEUE, ""), (Topic.THREAD, 'default "ä\0" x')]
    assert sorted(carried(signals * 2)) == sorted(signals)


def test_too_many_or_too_long_names_are_told_as_any() -> None:
    many = [(Topic.LOG, new_id()) for _ in range(MANY + 1)]
    assert carried([*many, (Topic.CANCEL, "one")]) == [(Topic.LOG, ANY), (Topic.CANCEL, "one")]
    assert carried([(Topic.THREAD, "é" * CARRIED), (Topic.THREAD, "x")]) == [(Topic.THREAD, ANY)]


def test_a_channel_is_a_name_that_is_not_cut_off() -> None:
    names = {channel_of("s" * length) for length in range(1, 64)}
    assert len(names) == 63
    assert max(map(len, names)) < 64


async def opened(known: Database) -> PostgresStore:
    store = known.store()
    await store.open()
    return store


def test_what_is_told_in_one_process_is_heard_in_all_and_once_at_home(postgres: Database) -> None:
    async def act() -> None:
        here, there = await opened(postgres), await opened(postgres)
        heard: dict[str, list[str]] = {"here": [], "there": []}
        last = asyncio.Event()
        here.signals.hear(Topic.CANCEL, heard["here"].append)
        there.signals.hear(Topic.CANCEL, heard["there"].append)
        runs = [await here.insert(new_run()) for _ in range(3)]
        there.signals.hear(Topic.CANCEL, lambda name: last.set() if name == runs[-1].run_id else None)
        for run in runs:
            await here.ask_cancel("default", run.run_id, "interrupt")
        async with asyncio.timeout(5):
            await last.wait()
        for store in (here, there):
            await store.close()
        assert heard["here"] == heard["there"] == [run.run_id for run in runs]

    asyncio.run(act())


def test_after_its_connection_was_lost_a_process_looks_at_everything_and_hears_again(postgres: Database) -> None:
    listeners = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%%' AND pid != %s"
    )

    async def act() -> None:
        here, there = await opened(postgres), await opened(postgres)
        looked, told = asyncio.Event(), asyncio.Event()
        run = await here.insert(new_run())
        there.signals.hear(Topic.LOG, lambda name: looked.set() if name == ANY else None)
        there.signals.hear(Topic.CANCEL, lambda name: told.set() if name == run.run_id else None)
        postgres.ask(listeners, 0)
        async with asyncio.timeout(10):
            await looked.wait()
            await here.ask_cancel("default", run.run_id, "interrupt")
            await told.wait()
        for store in (here, there):
            await store.close()

    asyncio.run(act())

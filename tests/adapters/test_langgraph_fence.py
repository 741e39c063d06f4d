"""A process that lost its right to write keeps nothing of what its runs still do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.store.base import BaseStore
from msgspec import Raw

from adapters.langgraph import LangGraphAdapter
from proxy.adapter import Site, ThreadName, Update
from proxy.errors import Unavailable
from tests.adapters import busy_graphs
from tests.adapters.conftest import Place
from tests.adapters.langgraph_runs import events_of
from tests.adapters.native_runs import THREAD, native_run
from tests.adapters.official import HELLO

OTHER = ThreadName(thread_id="01a1fc14-7166-779a-87ad-beb642000e02")
TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "checkpoint_marks")
ME = "server-1"


@asynccontextmanager
async def process(state: str, graph: str = "tests.adapters.native_graphs:nested", **site: Any) -> AsyncIterator[Any]:
    """One that `owner` and `holds` speak for."""
    options = LangGraphAdapter.Options(graph=graph)
    adapter = LangGraphAdapter(options, Site(**{"agent": "a", "folder": Path(), "state": state} | site))
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


@pytest.fixture
def registered(database: str) -> str:
    """A database where this process has its row."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS servers (server_id TEXT PRIMARY KEY, lease_until FLOAT)")
        connection.execute("INSERT INTO servers VALUES (%s, 1)", (ME,))
    return database


@contextmanager
def reaper(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Another process, in a transaction in which it has taken the place of this one."""
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM servers WHERE server_id = %s", (ME,))
        yield connection


def rows(url: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        return [sorted(connection.execute(f"SELECT * FROM {table}".encode()), key=repr) for table in TABLES]


async def blocked(url: str) -> None:
    """Wait until somebody waits for a lock."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while await (await connection.execute(query)).fetchone() is None:
            await asyncio.sleep(0.005)


def change(adapter: Any) -> Awaitable[Any]:
    update = Update(values=Raw(b'{"messages": []}'), as_node="before")
    return asyncio.create_task(adapter.threads.update(THREAD, [[update]]))


def test_p11_a_run_of_a_process_that_was_taken_over_writes_nothing_more(
    registered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, waits = step_by_step()
    monkeypatch.setattr(busy_graphs, "stepping", graph, raising=False)

    async def main() -> None:
        async with process(registered, "tests.adapters.busy_graphs:stepping", owner=lambda: ME) as adapter:
            task = asyncio.create_task(events_of(adapter, native_run("stepping", [], HELLO, durability="sync")))
            await waits.begun.wait()
            with reaper(registered):
                pass
            before = rows(registered)
            assert before[0]
            waits.go.set()
            await asyncio.wait([task])
            assert waits.after, "the process did not go on"
            assert rows(registered) == before

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("joined", [False, True], ids=["gone", "under another name"])
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_p11_nor_does_it_remember_anything_more(
    registered: str, monkeypatch: pytest.MonkeyPatch, kind: str, joined: bool
) -> None:
    begun, go = threading.Event(), threading.Event()

    def note(state: Any, *, store: BaseStore) -> dict[str, Any]:
        store.put(("notes",), "before", {"a": 1})
        begun.set()
        go.wait()
        store.put(("notes",), "after", {"a": 1})
        return {"messages": ["later"]}

    async def anote(state: Any, *, store: BaseStore) -> dict[str, Any]:
        await store.aput(("notes",), "before", {"a": 1})
        begun.set()
        await asyncio.to_thread(go.wait)
        await store.aput(("notes",), "after", {"a": 1})
        return {"messages": ["later"]}

    node = anote if kind == "async" else note
    monkeypatch.setattr(busy_graphs, "stepping", busy_graphs.line(note=node).compile(), raising=False)
    owner = ME

    async def main() -> None:
        nonlocal owner
        async with process(registered, "tests.adapters.busy_graphs:stepping", owner=lambda: owner) as adapter:
            task = asyncio.create_task(events_of(adapter, native_run("stepping", [], HELLO, durability="sync")))
            await asyncio.to_thread(begun.wait)
            with reaper(registered) as other:
                if joined:
                    owner = "server-2"
                    other.execute("INSERT INTO servers VALUES (%s, 1)", (owner,))
            before = rows(registered)
            go.set()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception()
            assert rows(registered) == before
            with psycopg.connect(registered, autocommit=True) as connection:
                assert connection.execute("SELECT key FROM store").fetchall() == [("before",)]

    asyncio.run(asyncio.wait_for(main(), 60))


class Waits:
    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.after = False


def step_by_step() -> tuple[Any, Waits]:
    waits = Waits()

    async def hold(state: Any) -> dict[str, Any]:
        waits.begun.set()
        await waits.go.wait()
        waits.after = True
        return {"messages": ["later"]}

    async def last(state: Any) -> dict[str, Any]:
        return {"messages": ["last"]}

    return busy_graphs.line(hold=hold, last=last).compile(), waits


def test_a_write_that_meets_a_takeover_waits_for_it_and_is_refused(registered: str) -> None:
    async def main() -> None:
        async with process(registered, owner=lambda: ME) as adapter:
            await change(adapter)
            before = rows(registered)
            with reaper(registered):
                late = change(adapter)
                await blocked(registered)
            with pytest.raises(Unavailable):
                await late
            assert rows(registered) == before

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_takeover_that_is_called_off_lets_the_write_through(registered: str) -> None:
    async def main() -> None:
        async with process(registered, owner=lambda: ME) as adapter:
            await change(adapter)
            before = rows(registered)
            with reaper(registered) as other:
                late = change(adapter)
                await blocked(registered)
                other.rollback()
            await late
            assert rows(registered) != before

    asyncio.run(asyncio.wait_for(main(), 60))


ACTS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "update": change,
    "copy": lambda adapter: adapter.threads.copy(THREAD, OTHER),
    "keep_newest": lambda adapter: adapter.threads.keep_newest(THREAD),
    "mark": lambda adapter: adapter.threads.mark(THREAD, run_id="r9"),
    "forget": lambda adapter: adapter.forget(THREAD.key),
}


@pytest.mark.parametrize("act", ACTS)
def test_nothing_is_done_to_threads_by_a_process_that_was_taken_over(registered: str, act: str) -> None:
    async def main() -> None:
        async with process(registered, owner=lambda: ME) as adapter:
            await events_of(adapter, native_run("nested", [], HELLO))
            with reaper(registered):
                pass
            before = rows(registered)
            with pytest.raises(Unavailable):
                await ACTS[act](adapter)
            assert rows(registered) == before
            assert (await adapter.threads.state(THREAD)).next == ("inner",)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_rollback_by_a_process_that_was_taken_over_is_refused(registered: str) -> None:
    async def main() -> None:
        async with process(registered, owner=lambda: ME) as adapter:
            mark = await adapter.threads.mark(THREAD)
            await events_of(adapter, native_run("nested", [], HELLO))
            with reaper(registered):
                pass
            before = rows(registered)
            with pytest.raises(Unavailable):
                await adapter.threads.rollback(THREAD, mark)
            assert rows(registered) == before

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_process_that_says_that_it_may_not_write_does_not(place: Place) -> None:
    held = True

    async def main() -> None:
        nonlocal held
        async with process(place.state, folder=place.folder, holds=lambda: held) as adapter:
            await events_of(adapter, native_run("nested", [], HELLO))
            before = await adapter.threads.history(THREAD, limit=100)
            held = False
            run = asyncio.create_task(events_of(adapter, native_run("nested", [], HELLO)))
            await asyncio.wait([run])
            assert await adapter.threads.history(THREAD, limit=100) == before

    asyncio.run(asyncio.wait_for(main(), 60))

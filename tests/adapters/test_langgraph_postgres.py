"""The state of graphs in PostgreSQL: how it is reached, made, lost and found again, and what fits into it."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psycopg
import pytest

from adapters.langgraph.checkpoints import Checkpoints
from adapters.langgraph.memories import LangGraphMemories
from proxy.adapter import Site
from proxy.errors import ConfigError, Unavailable
from tests.adapters import native_graphs
from tests.adapters.conftest import Place
from tests.adapters.langgraph_runs import agent, events_of
from tests.adapters.native_runs import NATIVE, THREAD, native_run
from tests.adapters.official import COUNT, HELLO
from tests.adapters.test_langgraph_memories import kept

ASKS = {"draft": "d"}


def site(state: str) -> Site:
    return Site(agent="a", folder=Path(), state=state)


def run(scene: Any) -> None:
    asyncio.run(asyncio.wait_for(scene, 60))


def tables(url: str, schema: str) -> set[str]:
    with psycopg.connect(url, autocommit=True) as connection:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
        return {name for (name,) in connection.execute(query, (schema,))}


@pytest.fixture
def schema(database: str) -> Iterator[tuple[str, str]]:
    """A database, and the name of an empty schema in it."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA elsewhere")
        yield database, "elsewhere"
        connection.execute("DROP SCHEMA elsewhere CASCADE")


@pytest.mark.parametrize(
    "escaped", ["-csearch_path=elsewhere", "-csearch_path%3Delsewhere", "-c%20search_path%3Delsewhere"]
)
@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_the_parameters_of_the_url_count(schema: tuple[str, str], escaped: str, scheme: str) -> None:
    url, name = schema

    async def main() -> None:
        state = f"{scheme}://{url.partition('://')[2]}?options={escaped}&application_name=mine"
        async with agent(f"{NATIVE}:asks", state=state) as adapter:
            await events_of(adapter, native_run("asks", [], ASKS))
            assert (await adapter.threads.state(THREAD)).next == ("review",)
            await LangGraphMemories.of(adapter.site).put("t", ("n",), "k", {"a": 1})

    run(main())
    assert {"checkpoints", "checkpoint_blobs", "checkpoint_writes", "checkpoint_marks", "store"} <= tables(url, name)


def test_processes_that_start_at_once_make_the_tables_together(schema: tuple[str, str]) -> None:
    url, name = schema
    state = f"{url}?options=-csearch_path={name}"

    async def begin() -> None:
        async with agent(f"{NATIVE}:asks", state=state) as adapter, kept(Place(state, Path())) as memories:
            await asyncio.gather(adapter.threads.state(THREAD), memories.get("t", ("n",), "k"))

    async def main() -> None:
        await asyncio.gather(*(begin() for _ in range(6)))

    run(main())


def test_where_the_tables_are_the_role_need_not_make_any(schema: tuple[str, str]) -> None:
    url, name = schema
    state = f"{url}?options=-csearch_path={name}"
    lesser = f"runwire_{uuid.uuid4().hex[:8]}"

    async def use(state: str) -> None:
        async with agent(f"{NATIVE}:asks", state=state) as adapter, kept(Place(state, Path())) as memories:
            await events_of(adapter, native_run("asks", [], ASKS))
            await memories.put("t", ("n",), "k", {"a": 1})

    async def begin() -> None:
        async with agent("chat", state=state):
            pass

    run(begin())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {lesser} LOGIN".encode())
        connection.execute(f"GRANT USAGE ON SCHEMA {name} TO {lesser}".encode())
        connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {lesser}".encode())
        try:
            run(use(state.replace("//root@", f"//{lesser}@")))
        finally:
            connection.execute(f"DROP OWNED BY {lesser}".encode())
            connection.execute(f"DROP ROLE {lesser}".encode())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url + "_missing", "`store`: .* does not exist"),
        (lambda url: url + "?sslmode=sometimes", "`store`.*sslmode"),
        (lambda url: url + "?nonsense=1", "`store` is no URL of PostgreSQL"),
        (
            lambda url: url + "?options=-csearch_path=nowhere",
            "`store`: tables .* cannot be made .*runwire migrate",
        ),
    ],
    ids=["database", "value", "parameter", "schema"],
)
def test_what_is_wrong_with_the_store_is_said_at_the_start(database: str, change: Any, said: str) -> None:
    async def main() -> None:
        async with agent("chat", state=change(database)):
            raise AssertionError("it opened")

    with pytest.raises(ConfigError, match=said):
        run(main())


def test_a_database_that_is_away_at_the_start_is_told_from_a_wrong_config(closed_port: int) -> None:
    async def main() -> None:
        async with agent("chat", state=f"postgresql://root@127.0.0.1:{closed_port}/x"):
            raise AssertionError("it opened")

    with pytest.raises(Unavailable, match=r"`store`: .*start PostgreSQL"):
        run(main())


@pytest.fixture
def closed_port() -> int:
    with asyncio.Runner() as runner:
        server = runner.run(asyncio.start_server(lambda *_: None, "127.0.0.1", 0))
        port: int = server.sockets[0].getsockname()[1]
        server.close()
        return port


@pytest.mark.parametrize("kind", [Checkpoints, LangGraphMemories])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    for name in ("postgres_home", "postgres_store", "postgres", "database"):
        monkeypatch.delitem(sys.modules, f"adapters.langgraph.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg_pool", None)
    with pytest.raises(ConfigError, match=r"pip install 'runwire\[postgres\]'"):
        kind.of(site("postgresql://root@127.0.0.1/x"))


class Relay:
    """Stands before the database, and lets nobody through while it is `away`."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._open: set[asyncio.StreamWriter] = set()
        self._away = False
        self.refused = asyncio.Event()

    async def start(self) -> asyncio.Server:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return self._server

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        return f"postgresql://{self._target.username}@127.0.0.1:{port}{self._target.path}"

    def leave(self) -> None:
        self._away = True
        for writer in self._open:
            writer.transport.abort()

    def come_back(self) -> None:
        self._away = False

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            self.refused.set()
            return
        back, there = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._open |= {writer, there}
        await asyncio.gather(self._pump(reader, there), self._pump(back, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def relay(url: str) -> AsyncIterator[Relay]:
    made = Relay(url)
    server = await made.start()
    try:
        yield made
    finally:
        made.leave()
        server.close()


def test_s04_a_run_goes_on_over_a_restart_of_the_database(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()
    go = asyncio.Event()

    async def hold(state: Any) -> dict[str, Any]:
        begun.set()
        await go.wait()
        return {"n": 1, "log": ["held"]}

    graph = native_graphs.sequence(native_graphs.Count, hold=hold, b=native_graphs.step("b")).compile()
    monkeypatch.setattr(native_graphs, "holding", graph, raising=False)

    async def main() -> None:
        async with relay(database) as before, agent(f"{NATIVE}:holding", state=before.url) as adapter:
            task = asyncio.create_task(events_of(adapter, native_run("holding", [], COUNT)))
            await begun.wait()
            before.leave()
            go.set()
            await before.refused.wait()
            before.come_back()
            await task
            assert (await adapter.threads.state(THREAD)).next == ()
            assert len(await adapter.threads.history(THREAD, limit=10)) == 4

    run(main())


def test_while_the_database_is_away_it_is_unavailable_and_then_again_there(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.langgraph.database.PATIENCE", 0.3)
    monkeypatch.setattr("adapters.langgraph.database.TURN", 0.2)

    async def main() -> None:
        async with relay(database) as before, agent(f"{NATIVE}:asks", state=before.url) as adapter:
            memories = LangGraphMemories.of(adapter.site)
            await events_of(adapter, native_run("asks", [], ASKS))
            await memories.put("t", ("n",), "k", {"a": 1})
            before.leave()
            with pytest.raises(Unavailable):
                await adapter.threads.state(THREAD)
            with pytest.raises(Unavailable):
                await events_of(adapter, native_run("asks", [], ASKS))
            with pytest.raises(Unavailable):
                await memories.get("t", ("n",), "k")
            before.come_back()
            assert (await adapter.threads.state(THREAD)).next == ("review",)
            assert await memories.get("t", ("n",), "k")
            await events_of(adapter, native_run("asks", [], ASKS))

    run(main())


def test_connections_are_few_however_many_runs_there_are(database: str) -> None:
    async def main() -> None:
        async with agent(f"{NATIVE}:nested", state=database) as adapter:
            runs = [msgspec.structs.replace(native_run("nested", [], HELLO), thread_id=f"t{n}") for n in range(60)]
            await asyncio.gather(*(events_of(adapter, each) for each in runs))
            with psycopg.connect(database, autocommit=True) as connection:
                query = (
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE application_name = 'runwire-graphs' AND datname = current_database()"
                )
                assert 1 < connection.execute(query).fetchone()[0] <= 5  # type: ignore[index]

    run(main())

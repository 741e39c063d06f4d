"""Threads by the official Python client: every method it has for them, with a graph and with a plain agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError, UnprocessableEntityError

from tests.e2e.house import HERE, Server, serving

MISSING = "0193e000-0000-7000-8000-00000000dead"
KEYS = ["sk-test", {"name": "team-b", "key": "sk-b", "tenant": "b"}]
GRAPHS = HERE.parent / "adapters" / "native_graphs.py"
AGENTS: dict[str, Any] = {
    "count": {"adapter": "langgraph", "options": {"graph": f"{GRAPHS}:halts"}},
    "echo": {"adapter": "plain", "options": {"function": f"{HERE / 'agents.py'}:whole"}},
    "actor": {"adapter": "plain", "options": {"function": f"{HERE / 'agents.py'}:actor"}},
}
CONFIG: dict[str, Any] = {"store": "sqlite:///runs.db", "server": {"api_keys": KEYS}, "agents": AGENTS}
VALUES: dict[str, Any] = {
    "count": {"n": 1, "log": ["one"]},
    "echo": {"messages": [{"role": "user", "content": "hi"}]},
}
NODES = {"count": "b", "echo": "echo"}
BOTH = pytest.mark.parametrize("agent", ["count", "echo"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("threads"), CONFIG) as running:
        yield running


def use(server: Server, scene: Callable[[LangGraphClient], Awaitable[None]], key: str = "sk-test") -> None:
    async def act() -> None:
        async with get_client(url=server.url, headers={"authorization": f"Bearer {key}"}) as client:
            await scene(client)

    asyncio.run(asyncio.wait_for(act(), 60))


async def made(client: LangGraphClient, agent: str, *, steps: int = 0, **metadata: Any) -> str:
    """A thread whose state was written to so many times."""
    thread = await client.threads.create(graph_id=agent, metadata=metadata)
    for _ in range(steps):
        await client.threads.update_state(thread["thread_id"], VALUES[agent])
    return thread["thread_id"]


def test_a_thread_is_made_changed_and_deleted(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await client.threads.create(metadata={"a": 1}, graph_id="count", ttl=30)
        name = thread["thread_id"]
        assert (thread["status"], thread["values"], thread["metadata"]) == ("idle", None, {"a": 1, "graph_id": "count"})
        assert await client.threads.get(name) == thread
        with pytest.raises(ConflictError):
            await client.threads.create(thread_id=name)
        again = await client.threads.create(thread_id=name, metadata={"b": 1}, if_exists="do_nothing")
        assert again == thread
        changed = await client.threads.update(name, metadata={"b": 2}, ttl={"ttl": 9, "strategy": "keep_latest"})
        assert changed["metadata"] == {"a": 1, "b": 2, "graph_id": "count"}
        assert await client.threads.update(name, metadata={"c": 3}, return_minimal=True) is None
        assert (await client.threads.get(name))["metadata"]["c"] == 3
        await client.threads.delete(name)
        with pytest.raises(NotFoundError):
            await client.threads.get(name)
        with pytest.raises(UnprocessableEntityError):
            await client.threads.get("abc")

    use(server, scene)


@BOTH
def test_states_are_written_read_and_branched_from(server: Server, agent: str) -> None:
    async def scene(client: LangGraphClient) -> None:
        name = await made(client, agent)
        empty = await client.threads.get_state(name)
        assert (empty["values"], empty["checkpoint"]) == ({}, None)
        first = await client.threads.update_state(name, VALUES[agent])
        start = await client.threads.get_state(name, subgraphs=True)
        assert start["checkpoint"] == first["checkpoint"]
        assert (await client.threads.get(name))["status"] == "interrupted"
        await client.threads.update_state(name, VALUES[agent], as_node=NODES[agent])
        end = await client.threads.get_state(name)
        assert (end["next"], end["parent_checkpoint"]) == ([], start["checkpoint"])
        thread = await client.threads.get(name)
        assert (thread["status"], thread["values"]) == ("idle", end["values"])
        assert await client.threads.get_history(name) == [end, start]
        assert await client.threads.get_history(name, before=end["checkpoint"]) == [start]
        assert await client.threads.get_history(name, limit=1, metadata={"source": "update"}) == [end]
        assert await client.threads.get_history(name, select=["next"]) == [{"next": []}, {"next": start["next"]}]
        assert await client.threads.get_state(name, checkpoint=start["checkpoint"]) == start
        by_id = await client.threads.get_state(name, checkpoint_id=first["checkpoint_id"])
        assert by_id["values"] == start["values"]
        assert await client.threads.get_state(name, select=["next"]) == {"next": []}
        await client.threads.update_state(name, VALUES[agent], checkpoint=start["checkpoint"])
        branch = await client.threads.get_state(name)
        assert branch["parent_checkpoint"] == start["checkpoint"]
        assert len(await client.threads.get_history(name)) == 3
        with pytest.raises(BadRequestError):
            await client.threads.update_state(name, VALUES[agent], as_node="elsewhere")
        with pytest.raises(UnprocessableEntityError):
            await client.threads.get_history(name, before="abc")

    use(server, scene)


@BOTH
def test_a_thread_is_made_with_a_past_and_found_by_what_it_holds(server: Server, agent: str) -> None:
    async def scene(client: LangGraphClient) -> None:
        steps = [
            {"updates": [{"values": VALUES[agent], "as_node": "__start__"}]},
            {"updates": [{"values": VALUES[agent], "as_node": NODES[agent]}]},
        ]
        thread = await client.threads.create(graph_id=agent, supersteps=steps, metadata={"past": agent})
        other = await made(client, agent, past=agent)
        name = thread["thread_id"]
        assert len(await client.threads.get_history(name)) == 2
        mine = {"past": agent}
        assert await client.threads.count(metadata=mine) == 2
        assert await client.threads.count(metadata=mine, status="error") == 0
        values = thread["values"]
        assert isinstance(values, dict)
        assert await client.threads.count(metadata=mine, values=values) == 1
        found = await client.threads.search(metadata=mine, sort_by="created_at", sort_order="asc", limit=2)
        assert [row["thread_id"] for row in found] == [name, other]
        assert [row["thread_id"] for row in await client.threads.search(metadata=mine, ids=[other])] == [other]
        assert await client.threads.search(metadata=mine, offset=2) == []
        path = "values.log[-1]" if agent == "count" else "values.messages[-1].content"
        said = await client.threads.search(ids=[name], select=["status"], extract={"last": path})
        last = "one" if agent == "count" else "hi"
        assert said == [{"status": "idle", "extracted": {"last": last}}]

    use(server, scene)


@BOTH
def test_a_thread_is_copied_and_pruned(server: Server, agent: str) -> None:
    async def scene(client: LangGraphClient) -> None:
        name = await made(client, agent, steps=3, of=agent)
        copy: Any = await client.threads.copy(name)
        other = copy["thread_id"]
        assert copy["metadata"] == {"graph_id": agent, "of": agent}
        latest = await client.threads.get_state(name)
        assert (await client.threads.get_state(other))["values"] == latest["values"]
        assert len(await client.threads.get_history(other)) == 3
        assert await client.threads.prune([name, MISSING], strategy="keep_latest") == {"pruned_count": 1}
        assert await client.threads.get_history(name) == [latest]
        assert len(await client.threads.get_history(other)) == 3
        assert await client.threads.prune([name, other]) == {"pruned_count": 2}
        assert await client.threads.count(metadata={"of": agent}) == 0
        with pytest.raises(NotFoundError):
            await client.threads.copy(name)

    use(server, scene)


def test_a_busy_thread_is_left_alone_and_stops_when_it_is_deleted(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        name = await made(client, "actor")
        body = {"model": "actor", "messages": [{"role": "user", "content": "say half\nwait"}], "stream": True}
        headers = {"authorization": "Bearer sk-test", "x-thread-id": name}
        async with (
            httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as http,
            http.stream("POST", "/v1/chat/completions", json=body) as chat,
        ):
            lines = chat.aiter_lines()
            async for line in lines:
                if "half" in line:
                    break
            assert (await client.threads.get(name))["status"] == "busy"
            with pytest.raises(ConflictError) as refused:
                await client.threads.update_state(name, VALUES["echo"])
            assert refused.value.response.headers["x-run-id"] in str(refused.value)
            with pytest.raises(ConflictError):
                await client.threads.copy(name)
            await client.threads.delete(name)
            assert [line async for line in lines if line][-1] == "data: [DONE]"
        with pytest.raises(NotFoundError):
            await client.threads.get_state(name)

    use(server, scene)


def test_threads_are_where_they_were_after_a_restart(tmp_path: Path) -> None:
    before: dict[str, Any] = {}

    async def write(client: LangGraphClient) -> None:
        for agent in VALUES:
            name = await made(client, agent, steps=2)
            before[name] = [await client.threads.get(name), await client.threads.get_history(name)]

    async def read(client: LangGraphClient) -> None:
        for name, known in before.items():
            assert [await client.threads.get(name), await client.threads.get_history(name)] == known

    with serving(tmp_path, CONFIG) as server:
        use(server, write)
        server.process.kill()
        server.process.wait()
    with serving(tmp_path, CONFIG) as server:
        use(server, read)


def test_another_key_sees_none_of_it(server: Server) -> None:
    names: list[str] = []

    async def write(client: LangGraphClient) -> None:
        names.append(await made(client, "count", steps=1))

    async def pry(client: LangGraphClient) -> None:
        threads, [name] = client.threads, names
        for act in (
            threads.get(name),
            threads.update(name, metadata={}),
            threads.delete(name),
            threads.copy(name),
            threads.get_state(name),
            threads.get_history(name),
            threads.update_state(name, VALUES["count"]),
        ):
            with pytest.raises(NotFoundError):
                await act
        assert await threads.search(ids=[name]) == []
        assert await threads.count() == 0
        assert await threads.prune([name]) == {"pruned_count": 0}

    async def read(client: LangGraphClient) -> None:
        assert (await client.threads.get_state(names[0]))["values"] == VALUES["count"]

    use(server, write)
    use(server, pry, "sk-b")
    use(server, read)

"""Assistants by the official Python client: every method it has for them, with a graph and with a plain agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from tests.e2e.house import HERE, Server, serving

MISSING = "0193e000-0000-7000-8000-00000000dead"
KEYS = ["sk-test", {"name": "team-b", "key": "sk-b", "tenant": "b"}]
AGENTS: dict[str, Any] = {
    "reviewer": {
        "adapter": "langgraph",
        "options": {"graph": f"{HERE.parent / 'adapters' / 'native_graphs.py'}:nested"},
        "description": "Reviews.",
    },
    "echo": {"adapter": "plain", "options": {"function": f"{HERE / 'agents.py'}:whole"}},
}
CONFIG: dict[str, Any] = {"store": "sqlite:///runs.db", "server": {"api_keys": KEYS}, "agents": AGENTS}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("assistants"), CONFIG) as running:
        yield running


def use(server: Server, scene: Callable[[LangGraphClient], Awaitable[None]], key: str = "sk-test") -> None:
    async def act() -> None:
        async with get_client(url=server.url, headers={"authorization": f"Bearer {key}"}) as client:
            await scene(client)

    asyncio.run(asyncio.wait_for(act(), 60))


def test_an_assistant_is_made_changed_and_deleted(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        made = await client.assistants.create(
            "reviewer", context={"tone": "kind"}, metadata={"team": "a"}, name="Kind", description="Is kind."
        )
        assert (made["graph_id"], made["version"], made["config"]) == (
            "reviewer",
            1,
            {"configurable": {"tone": "kind"}},
        )
        name = made["assistant_id"]
        assert await client.assistants.get(name) == made
        again = await client.assistants.create("echo", assistant_id=name, if_exists="do_nothing")
        assert again == made
        with pytest.raises(ConflictError):
            await client.assistants.create("echo", assistant_id=name)
        changed = await client.assistants.update(name, metadata={"stage": 2}, config={"tags": ["t"]})
        assert (changed["version"], changed["name"], changed["description"]) == (2, "Kind", "Is kind.")
        assert changed["metadata"] == {"team": "a", "stage": 2}
        assert [one["version"] for one in await client.assistants.get_versions(name)] == [2, 1]
        assert [one["version"] for one in await client.assistants.get_versions(name, metadata={"stage": 2})] == [2]
        back = await client.assistants.set_latest(name, 1)
        assert (back["version"], back["metadata"]) == (1, {"team": "a"})
        moved = await client.assistants.update(name, graph_id="echo")
        assert (moved["version"], moved["graph_id"], moved["metadata"]) == (3, "echo", {"team": "a"})
        await client.assistants.delete(name)
        with pytest.raises(NotFoundError):
            await client.assistants.get(name)

    use(server, scene)


def test_assistants_are_searched_page_by_page_with_those_of_the_system(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        made = [await client.assistants.create("echo", name=f"page {n}", metadata={"paged": True}) for n in range(3)]
        system = await client.assistants.search(metadata={"created_by": "system"}, sort_by="name", sort_order="asc")
        assert [one["name"] for one in system] == ["echo", "reviewer"]
        assert await client.assistants.count(graph_id="echo") == 4
        page = await client.assistants.search(graph_id="echo", limit=2, response_format="object")
        assert [one["name"] for one in page["assistants"]] == ["page 2", "page 1"]
        assert page["next"] == "2"
        last = await client.assistants.search(graph_id="echo", limit=2, offset=2, response_format="object")
        assert [one["name"] for one in last["assistants"]] == ["page 0", "echo"]
        assert last["next"] is None
        chosen = await client.assistants.search(name="PAGE 1", select=["name", "version"])
        assert chosen == [{"name": "page 1", "version": 1}]
        for one in made:
            await client.assistants.delete(one["assistant_id"])

    use(server, scene)


def test_a_graph_tells_what_it_is_made_of(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        [reviewer] = await client.assistants.search(graph_id="reviewer")
        for name in ("reviewer", reviewer["assistant_id"]):
            graph = await client.assistants.get_graph(name)
            assert [node["id"] for node in graph["nodes"]] == ["__start__", "before", "inner", "after", "__end__"]
            assert graph["edges"][0] == {"source": "__start__", "target": "before"}
            deep = await client.assistants.get_graph(name, xray=True)
            assert {"inner:deep:think", "inner:deep:ask"} < {node["id"] for node in deep["nodes"]}
            assert "inner:deep" in {node["id"] for node in (await client.assistants.get_graph(name, xray=1))["nodes"]}
            schemas = await client.assistants.get_schemas(name)
            assert schemas["graph_id"] == "reviewer"
            assert "messages" in schemas["input_schema"]["properties"]
            assert set(await client.assistants.get_subgraphs(name)) == {"inner"}
            assert set(await client.assistants.get_subgraphs(name, recurse=True)) == {"inner", "inner|deep"}
            assert set(await client.assistants.get_subgraphs(name, "inner|deep", recurse=True)) == {"inner|deep"}

    use(server, scene)


def test_an_agent_that_is_no_graph_is_drawn_as_one_node(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        graph = await client.assistants.get_graph("echo", xray=True)
        assert [node["id"] for node in graph["nodes"]] == ["__start__", "echo", "__end__"]
        schemas = await client.assistants.get_schemas("echo")
        assert list(schemas["input_schema"]["properties"]) == ["messages"]
        assert await client.assistants.get_subgraphs("echo", recurse=True) == {}

    use(server, scene)


def test_what_the_client_gets_wrong_it_is_told(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        for act in (client.assistants.get(MISSING), client.assistants.create("nothing")):
            with pytest.raises(NotFoundError):
                await act
        for name in ("os:system", "revewer"):
            with pytest.raises(UnprocessableEntityError):
                await client.assistants.get(name)
        with pytest.raises(ConflictError, match="out of the config"):
            await client.assistants.delete("echo")

    use(server, scene)


def test_a05_another_keys_assistants_are_not_there(server: Server) -> None:
    names: list[str] = []

    async def mine(client: LangGraphClient) -> None:
        names.append((await client.assistants.create("echo", name="secret"))["assistant_id"])

    async def theirs(client: LangGraphClient) -> None:
        [name] = names
        calls = client.assistants
        for act in (
            calls.get(name),
            calls.get_graph(name),
            calls.get_schemas(name),
            calls.get_subgraphs(name),
            calls.get_versions(name),
            calls.set_latest(name, 1),
            calls.update(name, name="x"),
            calls.delete(name),
        ):
            with pytest.raises(NotFoundError, match=name):
                await act
        assert await calls.search(name="secret") == []
        assert await calls.count(name="secret") == 0

    use(server, mine)
    use(server, theirs, key="sk-b")


def test_versions_and_system_ids_are_the_same_after_a_restart(tmp_path: Path) -> None:
    kept: list[Any] = []

    async def state(client: LangGraphClient) -> list[Any]:
        found = await client.assistants.search(limit=100)
        return [found, *[await client.assistants.get_versions(one["assistant_id"]) for one in found]]

    async def before(client: LangGraphClient) -> None:
        made = await client.assistants.create("reviewer", name="one", config={"tags": ["t"], "recursion_limit": 3})
        await client.assistants.update(made["assistant_id"], name="two")
        await client.assistants.set_latest(made["assistant_id"], 1)
        await client.assistants.update("echo", context={"tone": "calm"})
        kept.extend(await state(client))

    async def after(client: LangGraphClient) -> None:
        assert await state(client) == kept
        [made, *_] = kept[0]
        assert (await client.assistants.update(made["assistant_id"], name="three"))["version"] == 3

    for scene in (before, after):
        with serving(tmp_path, CONFIG) as running:
            use(running, scene)
            running.stop()

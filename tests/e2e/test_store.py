"""The long-term store by LangGraph's own client, and from inside of graphs, over a restart of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.e2e.house import Server, serving

GRAPHS = """
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.base import BaseStore

async def asynchronous(state, *, store: BaseStore):
    said = state["messages"][-1].content
    if said != "what?":
        await store.aput(("notes",), "last", {"text": said})
    note = await store.aget(("notes",), "last")
    return {"messages": [AIMessage(note.value["text"] if note else "nothing")]}

def synchronous(state, *, store: BaseStore):
    said = state["messages"][-1].content
    if said != "what?":
        store.put(("notes",), "last", {"text": said})
    note = store.get(("notes",), "last")
    return {"messages": [AIMessage(note.value["text"] if note else "nothing")]}

one = StateGraph(MessagesState).add_node("node", asynchronous).add_edge(START, "node")
two = StateGraph(MessagesState).add_node("node", synchronous).add_edge(START, "node")
"""
AGENTS = {name: {"adapter": "langgraph", "options": {"graph": f"./graphs.py:{name}"}} for name in ("one", "two")}
KEYS = ["sk-test", {"name": "team-b", "key": "sk-b", "tenant": "b"}]
CONFIG = {"store": "sqlite:///runs.db", "server": {"api_keys": KEYS}, "agents": AGENTS}
SMUGGLED: list[dict[str, Any]] = [
    {"lc": 1, "type": "constructor", "id": ["langchain_core", "messages", "HumanMessage"], "kwargs": {"content": "x"}},
    {"lc": 1, "type": "secret", "id": ["HOME"]},
    {"py/reduce": [{"py/function": "os.system"}, ["true"]]},
    {"__class__": "os.system", "pickle": "gASVIAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAR0cnVllIWUUpQu"},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One without a graph, whose store is opened by the first request."""
    plain = {"echo": {"adapter": "plain", "options": {"function": "proxy.demo.echo:echo"}}}
    with serving(tmp_path_factory.mktemp("store"), CONFIG | {"agents": plain}) as running:
        yield running


@asynccontextmanager
async def client(server: Server, key: str = "sk-test", prefix: str = "") -> AsyncIterator[LangGraphClient]:
    made = get_client(url=server.url + prefix, api_key=key)
    async with made:
        yield made


def play(scene: Callable[[LangGraphClient], Awaitable[None]], server: Server, **how: str) -> None:
    async def main() -> None:
        async with client(server, **how) as store:
            await scene(store)

    asyncio.run(asyncio.wait_for(main(), 60))


def says(server: Server, model: str, text: str, key: str = "sk-test") -> str:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(f"{server.base_url}/chat/completions", json=body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_the_official_client_puts_finds_lists_and_deletes(server: Server, prefix: str) -> None:
    async def scene(client: LangGraphClient) -> None:
        store, root = client.store, f"drinks{len(prefix)}"
        for number, kind in enumerate(("tea", "coffee", "tea")):
            value = {"kind": kind, "price": number, "from": {"land": "JP"}}
            await store.put_item([root, kind], str(number), value, index=False, ttl=60)
        item = await store.get_item([root, "tea"], "2", refresh_ttl=False)
        assert (item["namespace"], item["key"], item["value"]["price"]) == ([root, "tea"], "2", 2)
        assert await store.get_item([root, "tea"], "9") is None
        found = await store.search_items([root], filter={"kind": "tea", "from": {"land": "JP"}})
        assert [each["key"] for each in found["items"]] == ["2", "0"]
        found = await store.search_items([root], filter={"price": {"$lt": 2}}, limit=1, offset=1, query="anything")
        assert [each["key"] for each in found["items"]] == ["0"]
        listed: Any = await store.list_namespaces(prefix=[root])
        assert listed == {"namespaces": [[root, "coffee"], [root, "tea"]]}
        listed = await store.list_namespaces(prefix=[root], suffix=["*"], max_depth=1)
        assert listed == {"namespaces": [[root]]}
        await store.delete_item([root, "coffee"], "1")
        listed = await store.list_namespaces(prefix=[root])
        assert listed == {"namespaces": [[root, "tea"]]}

    play(scene, server, prefix=prefix)


@pytest.mark.parametrize("value", SMUGGLED, ids=lambda value: next(iter(value)))
def test_a08_what_looks_like_an_object_stays_data(server: Server, value: dict[str, Any]) -> None:
    async def scene(client: LangGraphClient) -> None:
        await client.store.put_item(["smuggled"], "k", {"deep": [value], **value})
        item = await client.store.get_item(["smuggled"], "k")
        assert item["value"] == {"deep": [value], **value}

    play(scene, server)


def test_a05_a_key_of_another_tenant_sees_nothing(server: Server) -> None:
    async def put(client: LangGraphClient) -> None:
        await client.store.put_item(["secret"], "k", {"a": 1})

    async def look(client: LangGraphClient) -> None:
        assert await client.store.get_item(["secret"], "k") is None
        assert (await client.store.search_items([]))["items"] == []
        listed: Any = await client.store.list_namespaces()
        assert listed == {"namespaces": []}
        await client.store.delete_item(["secret"], "k")

    async def get(client: LangGraphClient) -> None:
        assert (await client.store.get_item(["secret"], "k"))["value"] == {"a": 1}

    play(put, server)
    play(look, server, key="sk-b")
    play(get, server)


def test_graphs_and_callers_share_a_store_that_survives_a_restart(tmp_path: Path) -> None:
    async def find(client: LangGraphClient) -> None:
        item = await client.store.get_item(["notes"], "last")
        assert item["value"] == {"text": "remember the milk"}

    async def put(client: LangGraphClient) -> None:
        await client.store.put_item(["notes"], "last", {"text": "by a caller"})

    (tmp_path / "graphs.py").write_text(GRAPHS)
    with serving(tmp_path, CONFIG) as server:
        assert says(server, "one", "what?") == "nothing"
        for model, other in (("one", "two"), ("two", "one")):
            assert says(server, model, f"written by {model}") == f"written by {model}"
            assert says(server, other, "what?") == f"written by {model}"
            assert says(server, other, "what?", key="sk-b") == "nothing"
        says(server, "two", "remember the milk")
        assert server.stop() == 0
    with serving(tmp_path, CONFIG) as server:
        play(find, server)
        assert says(server, "one", "what?") == "remember the milk"
        assert says(server, "two", "what?", key="sk-b") == "nothing"
        play(put, server)
        assert says(server, "two", "what?") == "by a caller"
        assert server.stop() == 0

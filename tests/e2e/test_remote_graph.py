"""A graph of this server as a node of another graph, by LangGraph's own `RemoteGraph`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph_sdk import get_sync_client

from tests.e2e.house import HERE, Server, serving

KEY = "sk-test"
GRAPHS = HERE.parent / "adapters" / "native_graphs.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    graphs = {
        name: {"adapter": "langgraph", "options": {"graph": f"{GRAPHS}:{name}"}} for name in ("agent", "asks", "breaks")
    }
    actor = {"adapter": "plain", "options": {"function": f"{HERE / 'agents.py'}:actor"}}
    config = {"server": {"api_keys": [KEY]}, "agents": {**graphs, "actor": actor}}
    with serving(tmp_path_factory.mktemp("remote"), config) as running:
        yield running


def remote(server: Server, name: str) -> RemoteGraph:
    return RemoteGraph(name, url=server.url, api_key=KEY)


def thread(server: Server) -> Any:
    made = get_sync_client(url=server.url, api_key=KEY).threads.create()
    return {"configurable": {"thread_id": made["thread_id"]}}


def test_it_is_invoked_and_streamed_as_a_graph_at_hand(server: Server) -> None:
    graph = remote(server, "agent")
    said = graph.invoke({"messages": [{"role": "user", "content": "Hi"}]})
    assert said["messages"][0]["content"] == "Hi"
    assert said["messages"][-1]["type"] == "ai"
    updates = list(graph.stream({"messages": [{"role": "user", "content": "Hi"}]}, stream_mode="updates"))
    assert all(isinstance(update, dict) for update in updates)
    assert len(updates) >= 2


def test_it_draws_itself(server: Server) -> None:
    drawing = remote(server, "agent").get_graph()
    assert {"__start__", "__end__"} < set(drawing.nodes)


def test_it_keeps_a_thread_and_shows_its_state_and_history(server: Server) -> None:
    graph, config = remote(server, "agent"), thread(server)
    graph.invoke({"messages": [{"role": "user", "content": "One"}]}, config)
    state = graph.get_state(config)
    assert state.values["messages"][0]["content"] == "One"
    assert next(each.values for each in graph.get_state_history(config)) == state.values
    graph.update_state(config, {"messages": [{"role": "user", "content": "Two"}]})
    assert graph.get_state(config).values["messages"][-1]["content"] == "Two"


def test_it_is_a_node_of_another_graph_and_its_tokens_come_through(server: Server) -> None:
    outer = StateGraph(MessagesState).add_node("far", remote(server, "actor")).add_edge(START, "far").compile()

    async def main() -> list[Any]:
        asked: Any = {"messages": [{"role": "user", "content": "say Hello"}]}
        return [part async for part in outer.astream(asked, stream_mode="updates", subgraphs=True)]

    parts = asyncio.run(main())
    assert parts[-1][0] == ()
    assert parts[-1][1]["far"]["messages"][-1]["type"] == "ai"


def test_what_fails_there_fails_here(server: Server) -> None:
    with pytest.raises(RemoteException, match="boom"):
        remote(server, "breaks").invoke({"n": 1})

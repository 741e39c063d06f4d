"""One server with three tenants, all kinds of agents and a fake upstream, for everybody who wants to hurt it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.house import HERE, Server, serving
from tests.fakes.upstream import Upstream
from tests.faults.attacker import KEYS, UPSTREAM_KEY, Attacker
from tests.faults.natives import Caller
from tests.faults.natives import config as natives_config

GRAPHS = '''
import json

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt


async def count(state):
    said = [message.text for message in state["messages"] if message.type == "human"]
    return {"messages": [AIMessage(" | ".join(said))]}


async def consent(state):
    answer = interrupt({"action_request": {"action": "approve", "args": {"sum": 5}}, "question": "Pay 5?"})
    return {"messages": [AIMessage(f"answer: {json.dumps(answer)}")]}


async def tell(state, config):
    """What the request may have smuggled into the graph's config."""
    given = {key: str(value) for key, value in config["configurable"].items() if not key.startswith("__pregel_")}
    return {"messages": [AIMessage(json.dumps(given))]}


counting = StateGraph(MessagesState).add_node("count", count).add_edge(START, "count")
asking = StateGraph(MessagesState).add_node("consent", consent).add_edge(START, "consent")
telling = StateGraph(MessagesState).add_node("tell", tell).add_edge(START, "tell")
'''


def config(upstream: str) -> dict[str, Any]:
    def graph(name: str, **options: Any) -> dict[str, Any]:
        return {"adapter": "langgraph", "options": {"graph": f"./graphs.py:{name}", **options}}

    def plain(name: str) -> dict[str, Any]:
        return {"adapter": "plain", "options": {"function": f"{HERE / 'agents.py'}:{name}"}}

    behind = {"base_url": upstream, "api_key": UPSTREAM_KEY}
    agents = {name: plain(name) for name in ("actor", "whole", "curious", "threaded")} | {
        "counting": graph("counting") | {"history": "last"},
        "asking": graph("asking"),
        "calling": graph("asking") | {"interrupts": "tool_calls"},
        "telling": graph("telling", configurable={"secret_of_config": "fixed"}, request_keys=["tone"]),
        "gpt": {"adapter": "openai", "options": behind | {"model": "gpt-4o"}},
        "upstream": {"adapter": "openai", "options": behind | {"models": "*", "prefix": "up/"}},
        "stern": plain("actor") | {"on_disconnect": "cancel"},
    }
    keys = [
        {"name": "a", "key": KEYS["a"], "tenant": "org"},
        {"name": "b", "key": KEYS["b"], "tenant": "b"},
        {"name": "deep", "key": KEYS["deep"], "tenant": "org:1"},
    ]
    return {"store": "sqlite:///runs.db", "server": {"api_keys": keys}, "agents": agents}


@pytest.fixture(scope="session")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Upstream]]:
    folder: Path = tmp_path_factory.mktemp("besieged")
    (folder / "graphs.py").write_text(GRAPHS)
    with Upstream() as upstream, serving(folder, config(upstream.url)) as server:
        yield server, upstream


@pytest.fixture(scope="session")
def attacker(besieged: tuple[Server, Upstream]) -> Attacker:
    return Attacker(besieged[0])


@pytest.fixture(scope="session")
def behind(besieged: tuple[Server, Upstream]) -> Upstream:
    """The upstream of that server's agents."""
    return besieged[1]


@pytest.fixture(scope="session")
def natives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of graphs and plain agents for three tenants; see `tests.faults.natives`."""
    with serving(tmp_path_factory.mktemp("natives"), natives_config()) as server:
        yield server


@pytest.fixture(scope="session")
def native(natives: Server) -> Caller:
    """Tenant a of it."""
    return Caller(natives)

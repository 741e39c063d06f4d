"""How a graph is named, loaded and given its values."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.langgraph.inproc import LangGraphAdapter
from adapters.langgraph.options import GraphOptions
from proxy.adapter import Site
from proxy.errors import ConfigError
from proxy.messages import Tool, ToolFunction
from tests.adapters import graphs
from tests.adapters.langgraph_runs import GRAPHS, agent, events_of, played, run_of, text


@pytest.fixture(autouse=True)
def opened() -> list[str]:
    graphs.opened.clear()
    return graphs.opened


def fault(graph: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        asyncio.run(played(graph, **options))
    return caught.value.message


@pytest.mark.parametrize("graph", ["chat", "uncompiled_chat", "make", "make_async", "make_within", "make_within_sync"])
def test_a_graph_may_be_compiled_or_not_or_made(graph: str) -> None:
    assert text(asyncio.run(played(graph))) == "Hello"


@pytest.mark.parametrize("graph", ["make_within", "make_within_sync"])
def test_a_factory_without_an_argument_is_open_as_long_as_the_agent(graph: str, opened: list[str]) -> None:
    async def main() -> None:
        async with agent(graph) as adapter:
            await events_of(adapter)
            await events_of(adapter)
            assert opened == ["enter"]
        assert opened == ["enter", "exit"]

    asyncio.run(main())


def test_a_factory_of_the_config_makes_a_graph_for_each_run() -> None:
    async def main() -> None:
        async with agent("make_for", request_keys=["lang"]) as adapter:
            assert text(await events_of(adapter, run_of(context={"lang": "de"}))) == "de"
            assert text(await events_of(adapter, run_of(context={"lang": "fr"}))) == "fr"

    asyncio.run(main())


def test_what_a_factory_opens_for_a_run_is_closed_with_it(opened: list[str]) -> None:
    async def main() -> None:
        async with agent("make_for_within", configurable={"lang": "de"}) as adapter:
            assert opened == []
            stream = adapter.stream(run_of())
            await anext(stream)
            assert opened == ["enter"]
            assert [event async for event in stream]
            assert opened == ["enter", "exit"]

    asyncio.run(main())


def test_a_file_is_named_relative_to_the_config(tmp_path: Path) -> None:
    (tmp_path / "words_of_mine.py").write_text("WORD = 'from a sibling'")
    (tmp_path / "bots.py").write_text(
        "from langchain_core.messages import AIMessage\n"
        "from langgraph.graph import START, MessagesState, StateGraph\n"
        "from words_of_mine import WORD\n"
        "chat = StateGraph(MessagesState).add_node('n', lambda s: {'messages': [AIMessage(WORD)]})\n"
        "chat.add_edge(START, 'n')\n"
    )
    for name in ("./bots.py:chat", "bots.py:chat"):
        assert text(asyncio.run(played(name, folder=tmp_path))) == "from a sibling"


def test_a_misspelt_name_is_told_with_its_place_and_the_nearest_one() -> None:
    assert fault("tests.adapters.graph:chat").startswith(
        "agents.a.options.graph: no module `tests.adapters.graph`; did you mean `tests.adapters.graphs`?"
    )
    assert "has no `chatt`; did you mean `chat`?" in fault("chatt")


@pytest.mark.parametrize(("graph", "kind"), [("SPENT", "dict"), ("make_nothing", "NoneType")])
def test_what_is_no_graph_is_told_with_what_it_is(graph: str, kind: str) -> None:
    message = fault(graph)
    assert message.startswith(f"agents.a.options.graph: `{GRAPHS}:{graph}` is or makes a {kind}; name a compiled graph")


@pytest.mark.parametrize("graph", ["os:system", "builtins:eval"])
def test_a_function_of_python_itself_is_no_factory(graph: str, tmp_path: Path) -> None:
    adapter = LangGraphAdapter(GraphOptions(graph=graph), Site(agent="a", folder=tmp_path, state="memory://"))

    async def main() -> None:
        try:
            await adapter.open()
        finally:
            await adapter.close()

    with pytest.raises(ConfigError, match="is or makes a builtin_function"):
        asyncio.run(main())


def test_a_factory_that_fails_is_told_with_its_reason() -> None:
    assert "failed: RuntimeError: no database" in fault("broken_factory")


def test_a_misspelt_node_is_told_with_the_nearest_one() -> None:
    message = fault("two", include_nodes=["secnd"])
    assert message == "agents.a.options.include_nodes: the graph has no node `secnd`; did you mean `second`?"


@pytest.mark.parametrize(
    "options",
    [
        {"configurable": {"thread_id": "x"}},
        {"request_keys": ["__pregel_checkpointer"]},
        {"request_keys": ["checkpoint_id"]},
        {"params": {"user": "checkpoint_ns"}},
        {"context": {"__x": 1}},
    ],
)
def test_keys_that_steer_langgraph_are_refused(options: dict[str, Any]) -> None:
    assert "is set by the server alone" in fault("chat", **options)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="include_node"):
        asyncio.run(played("chat", include_node=["call"]))


def test_only_listed_keys_of_the_request_reach_the_graph() -> None:
    run = run_of(context={"city": "Bonn", "level": 3, "evil": 1, "thread_id": "other"}, user="ann")
    events = asyncio.run(played("telling", run, request_keys=["city", "level", "user"], configurable={"team": "x"}))
    told = "[('city', 'Bonn'), ('level', 3), ('team', 'x'), ('thread_id', 'default:t1'), ('user', 'ann')]"
    assert text(events) == f"Bonn {told}"


def test_context_from_the_config_holds_where_the_request_says_nothing() -> None:
    events = asyncio.run(played("telling", context={"city": "Rome"}, request_keys=["city"]))
    assert text(events) == "Rome [('thread_id', 'default:t1')]"


def test_a_requests_field_becomes_a_key_as_the_config_maps_it() -> None:
    run = run_of(params={"temperature": msgspec.Raw(b"0.5"), "seed": msgspec.Raw(b"1")})
    events = asyncio.run(played("telling", run, context={"city": "Rome"}, params={"temperature": "heat"}))
    assert text(events) == "Rome [('heat', 0.5), ('thread_id', 'default:t1')]"


def test_offered_tools_reach_the_context_where_its_schema_has_a_field() -> None:
    offered = (Tool(type="function", function=ToolFunction(name="weather", parameters=msgspec.Raw(b"{}"))),)
    said = text(asyncio.run(played("telling", run_of(tools=offered))))
    assert "('client_tools', [{'type': 'function', 'function': {'name': 'weather', 'parameters': {}}}])" in said


def test_forgetting_a_thread_makes_no_graph() -> None:
    async def main() -> None:
        async with agent("make_for") as adapter:
            await adapter.forget("default:t1")

    asyncio.run(main())

"""Graphs have the long-term store as their `store`: that of the server, as the run's tenant sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from adapters.langgraph.inproc import LangGraphAdapter
from adapters.langgraph.memories import LangGraphMemories
from adapters.langgraph.options import GraphOptions
from proxy.adapter import Native, RunInput, Site
from proxy.events import Frame
from tests.adapters.conftest import Place

GRAPHS = ["asynchronous", "synchronous", "runtime", "getting", "own_loop", "subgraph", "called"]


@asynccontextmanager
async def agents(place: Place, *graphs: str) -> AsyncIterator[Sequence[LangGraphAdapter]]:
    """Agents of one server."""
    shared: dict[str, Any] = {}
    made = []
    for graph in graphs:
        options = GraphOptions(graph=f"tests.adapters.store_graphs:{graph}")
        made.append(LangGraphAdapter(options, Site(agent="a", folder=place.folder, state=place.state, shared=shared)))
    for adapter in made:
        await adapter.open()
    try:
        yield made
    finally:
        for adapter in made:
            await adapter.close()


async def told(adapter: LangGraphAdapter, tenant: str = "t", **input: Any) -> dict[str, Any]:
    """What the graph's last state says; each run is of a thread of its own."""
    run = RunInput(
        run_id="r",
        thread_id=str(id(input)),
        agent="a",
        tenant=tenant,
        input=Raw(msgspec.json.encode(input)),
        modes=frozenset({"values"}),
        native=Native(),
        temporary=True,
    )
    frames = [event async for event in adapter.stream(run) if isinstance(event, Frame)]
    values: dict[str, Any] = msgspec.json.decode(frames[-1].data)
    return values


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_writes_in_one_run_what_another_agent_reads_in_the_next(place: Place, graph: str) -> None:
    async def main() -> None:
        async with agents(place, graph, "asynchronous", "synchronous") as (writer, *readers):
            written = {"note": {"text": graph}, "at": [["notes", "x"]], "all": [["notes", "x"]]}
            assert await told(writer, write=graph) == written
            for reader in readers:
                assert await told(reader) == written
                assert await told(reader, "other") == {"note": None, "at": [], "all": []}
        async with agents(place, graph) as (again,):
            assert await told(again) == written

    asyncio.run(asyncio.wait_for(main(), 60))


def test_requests_and_graphs_share_the_store(place: Place) -> None:
    async def main() -> None:
        async with agents(place, "asynchronous") as (agent,):
            memories = LangGraphMemories.of(agent.site)
            await memories.put("t", ("notes", "x"), "note", {"text": "given"})
            assert (await told(agent))["note"] == {"text": "given"}
            await told(agent, write="answered")
            memory = await memories.get("t", ("notes", "x"), "note")
            assert memory is not None
            assert memory.value == {"text": "answered"}

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_graph_keeps_the_store_that_it_was_compiled_with(place: Place) -> None:
    async def main() -> None:
        async with agents(place, "own", "asynchronous") as (keeper, other):
            assert (await told(keeper, write="mine"))["note"] == {"text": "mine"}
            assert (await told(keeper))["note"] == {"text": "mine"}
            assert (await told(other))["note"] is None

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_synchronous_call_in_the_servers_loop_is_refused_and_does_not_hang(place: Place) -> None:
    async def main() -> None:
        async with agents(place, "blocking") as (agent,):
            with pytest.raises(asyncio.InvalidStateError, match=r"await store\.aget"):
                await told(agent)

    asyncio.run(asyncio.wait_for(main(), 60))

"""What a graph is made of: its drawing, its schemas, its sub-graphs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from langgraph.graph import START
from langgraph.pregel import Pregel
from msgspec import Raw
from pydantic import BaseModel, ConfigDict, PydanticUserError, create_model

from adapters.langgraph.encode import raw
from adapters.langgraph.load import Graph, Source
from adapters.langgraph.options import GraphOptions
from proxy.adapter import Blueprint, Site

Schema = dict[str, Any] | None


class Drawing(Blueprint):
    """Of one agent's graph."""

    def __init__(self, options: GraphOptions, site: Site, source: Source) -> None:
        self._options = options
        self._agent = site.agent
        self._source = source

    @property
    def nodes(self) -> frozenset[str] | None:
        fixed = self._source.fixed
        return None if fixed is None else frozenset(fixed.graph.nodes) - {START}

    async def drawing(self, *, xray: int | bool = False) -> Raw:
        async with self._opened() as graph:
            drawn = await graph.aget_graph(xray=xray)
        shown = drawn.to_json()
        return raw({**shown, "nodes": [_node(node) for node in shown["nodes"]]})

    async def schemas(self) -> Raw:
        async with self._opened() as graph:
            return raw({"graph_id": self._agent, **_schemas(graph)})

    async def subgraphs(self, namespace: str | None = None, *, recurse: bool = False) -> Raw:
        async with self._opened() as graph:
            found = graph.aget_subgraphs(namespace=namespace, recurse=recurse)
            return raw({name: _schemas(inner) async for name, inner in found if isinstance(inner, Pregel)})

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Graph]:
        async with AsyncExitStack() as stack:
            loaded = await self._source.loaded({"configurable": dict(self._options.configurable)}, stack)
            yield loaded.graph.copy({"name": self._agent})


def _node(node: dict[str, Any]) -> dict[str, Any]:
    """Without the name of the class that runs it."""
    return {**node, "data": {"name": node["id"]}} if node.get("type") == "runnable" else node


def _schemas(graph: Graph) -> dict[str, Schema]:
    return {
        "input_schema": _schema(graph.get_input_jsonschema),
        "output_schema": _schema(graph.get_output_jsonschema),
        "state_schema": _schema(lambda: _state_schema(graph)),
        "config_schema": {},
        "context_schema": _schema(graph.get_context_jsonschema),
    }


def _schema(make: Callable[[], Schema]) -> Schema:
    """None for types that have no schema, as those that another framework defines."""
    try:
        return make()
    except (PydanticUserError, NameError, TypeError):
        return None


def _state_schema(graph: Graph) -> Schema:
    fields: dict[str, Any] = {
        name: (getattr(graph.channels[name], "UpdateType", Any), None)
        for name in graph.stream_channels_list
        if not name.startswith("_")
    }
    model: type[BaseModel] = create_model(
        graph.get_name("State"), __config__=ConfigDict(arbitrary_types_allowed=True), **fields
    )
    return model.model_json_schema()

"""Finds the graph that the config names, and makes it ready to run."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin

import msgspec
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from adapters.langgraph.checkpoints import TypeName, types_in
from adapters.langgraph.options import GraphOptions
from proxy.adapter import Site
from proxy.errors import ConfigError
from proxy.loading import load

Graph = Pregel[Any, Any, Any, Any]
Factory = Callable[..., Any]


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A graph, and what the adapter must know of it."""

    graph: Graph
    takes_text: bool
    context_fields: frozenset[str]
    state_types: frozenset[TypeName]

    @property
    def own_saver(self) -> BaseCheckpointSaver[Any] | None:
        """The checkpointer that the graph was compiled with."""
        saver = self.graph.checkpointer
        return saver if isinstance(saver, BaseCheckpointSaver) else None


class Source:
    """The graph's name in the config and what it stands for."""

    def __init__(self, options: GraphOptions, site: Site) -> None:
        self._options = options
        self._folder = site.folder
        self._place = f"agents.{site.agent}.options"
        self.fixed: Loaded | None = None
        """The graph of all runs, where it is not made for each."""
        self._factory: Factory | None = None

    async def open(self, stack: AsyncExitStack) -> None:
        """Import. Contexts of a factory without an argument are entered on `stack`. Raises `ConfigError`."""
        self._options.check(self._place)
        found = load(self._options.graph, folder=self._folder, place=f"{self._place}.graph")
        if inspect.isbuiltin(found):
            raise self._no_graph(found)
        if _takes_config(found):
            self._factory = cast(Factory, found)
            return
        self.fixed = self._ready(await self._made_once(found, stack))

    async def loaded(self, config: RunnableConfig, stack: AsyncExitStack) -> Loaded:
        """The graph for one run; what a factory opened for it is closed with `stack`."""
        if self.fixed is not None:
            return self.fixed
        made = cast(Factory, self._factory)(config)
        return self._ready(await self._compiled(made, stack))

    async def _made_once(self, found: Any, stack: AsyncExitStack) -> Graph:
        is_graph = isinstance(found, Pregel | StateGraph)
        try:
            return await self._compiled(found() if callable(found) and not is_graph else found, stack)
        except ConfigError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise ConfigError(f"{self._place}.graph: making `{self._options.graph}` failed: {said}") from error

    async def _compiled(self, made: Any, stack: AsyncExitStack) -> Graph:
        if isinstance(made, Pregel):
            return made
        if isinstance(made, StateGraph):
            return made.compile()
        if inspect.isawaitable(made):
            return await self._compiled(await made, stack)
        if hasattr(made, "__aenter__"):
            return await self._compiled(await stack.enter_async_context(made), stack)
        if hasattr(made, "__enter__"):
            return await self._compiled(stack.enter_context(made), stack)
        raise self._no_graph(made)

    def _no_graph(self, made: object) -> ConfigError:
        return ConfigError(
            f"{self._place}.graph: `{self._options.graph}` is or makes a {type(made).__name__}; "
            "name a compiled graph, a StateGraph, or a function that returns one"
        )

    def _ready(self, graph: Graph) -> Loaded:
        self._check_nodes(graph)
        types: set[type] = set()
        for each in (graph, *(sub for _, sub in graph.get_subgraphs(recurse=True))):
            for channel in cast(Graph, each).channels.values():
                types_in(getattr(channel, "ValueType", None), types)
                types_in(getattr(channel, "UpdateType", None), types)
        named = {cast(TypeName, tuple(name.split(":", 1))) for name in self._options.state_types}
        return Loaded(
            graph=graph,
            takes_text=self._takes_text(graph),
            context_fields=frozenset(_fields(graph.context_schema)),
            state_types=frozenset(named | {(found.__module__, found.__name__) for found in types}),
        )

    def _check_nodes(self, graph: Graph) -> None:
        if self._options.subgraphs:
            return
        for option, nodes in (
            ("include_nodes", self._options.include_nodes),
            ("exclude_nodes", self._options.exclude_nodes),
        ):
            for node in nodes:
                if node not in graph.nodes:
                    close = difflib.get_close_matches(node, graph.nodes, n=1)
                    cure = f"; did you mean `{close[0]}`?" if close else f"; it has {', '.join(sorted(graph.nodes))}"
                    raise ConfigError(f"{self._place}.{option}: the graph has no node `{node}`{cure}")

    def _takes_text(self, graph: Graph) -> bool:
        key, kind = self._options.input_key, self._options.input
        if kind != "auto":
            return kind == "text"
        channel = graph.channels.get(key)
        value = getattr(channel, "ValueType", None)
        if value in (None, Any):
            return key != "messages"
        return value is str or (get_origin(value) in (Union, UnionType) and str in get_args(value))


def _takes_config(found: object) -> bool:
    if isinstance(found, Pregel | StateGraph) or not callable(found):
        return False
    return any(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in inspect.signature(found).parameters.values()
    )


def _fields(schema: Any) -> set[str]:
    """The names of a context schema's fields."""
    bases = () if schema is None else schema.__mro__
    return {name for base in bases for name in inspect.get_annotations(base)}

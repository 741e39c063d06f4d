"""What stands under `options:` of an agent with `adapter: langgraph`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from proxy.errors import ConfigError

RESERVED = ("__", "checkpoint")
"""Keys that begin so steer LangGraph itself; nobody but this adapter sets them, nor `thread_id`."""


class GraphOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which graph, what goes in, and what of its output is the answer."""

    graph: str
    """`package.module:attribute` or `path/to/file.py:attribute`, relative to the config file: a compiled graph, a
    `StateGraph`, or a factory of one (sync, async, or a context manager). A factory without an argument is called
    once when the server starts, one that takes the config is called for every run, on the event loop."""
    input_key: str = "messages"
    input: Literal["auto", "messages", "text"] = "auto"
    """What `input_key` gets: the messages or the last user text. `auto` gives text to a key of type `str`."""
    output_key: str = "messages"
    """The state's key that holds the answer, for a graph that does not stream it."""
    include_nodes: tuple[str, ...] = ()
    """Only text of these nodes is the answer; empty for all."""
    exclude_nodes: tuple[str, ...] = ()
    include_tags: tuple[str, ...] = ()
    """Only text of model calls with one of these tags is the answer; empty for all."""
    exclude_tags: tuple[str, ...] = ()
    subgraphs: bool = False
    """True: sub-graphs stream too. False: their messages count once they reach the root graph's state."""
    context: dict[str, Any] = {}
    configurable: dict[str, Any] = {}
    request_keys: tuple[str, ...] = ()
    """Keys of the request's `context` that the graph gets, besides `user`, `metadata` and `headers`: in its context
    where its context schema has such a field, else in `configurable`."""
    params: dict[str, str] = {}
    """Fields of the request that become `configurable` keys: `{temperature: temperature}`."""
    recursion_limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    state_types: tuple[str, ...] = ()
    """`package.module:Class` of types that checkpoints may hold besides those in the state's schema."""

    def shows(self, about: Mapping[str, Any]) -> bool:
        """Whether text with this metadata is part of the answer."""
        if not self.shows_node(about.get("langgraph_node", "")):
            return False
        tags: Iterable[str] = about.get("tags") or ()
        if self.include_tags and not any(tag in self.include_tags for tag in tags):
            return False
        return not any(tag in self.exclude_tags for tag in tags)

    def shows_node(self, node: str) -> bool:
        if self.include_nodes and node not in self.include_nodes:
            return False
        return node not in self.exclude_nodes

    def check(self, place: str) -> None:
        """Raises `ConfigError` for keys that steer LangGraph itself."""
        named = {
            "context": self.context,
            "configurable": self.configurable,
            "request_keys": self.request_keys,
            "params": self.params.values(),
        }
        for option, keys in named.items():
            for key in keys:
                if key == "thread_id" or key.startswith(RESERVED):
                    raise ConfigError(f"{place}.{option}: `{key}` is set by the server alone; take it out")
        for name in self.state_types:
            if not all(name.partition(":")):
                raise ConfigError(f"{place}.state_types: `{name}` should be `package.module:Class`")

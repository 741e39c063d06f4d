"""What the native runs API asks of a graph, in LangGraph's words."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from typing import Any, cast
from uuid import UUID

import msgspec
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import Command, Send, StreamMode
from msgspec import UNSET

from adapters.langgraph.load import Graph
from adapters.langgraph.options import RESERVED
from proxy.adapter import Checkpoint, Goto, Native, RunInput
from proxy.adapter import Command as Asked
from proxy.errors import Conflict
from proxy.events import NULL

Part = tuple[Any, ...]
"""Namespace (where sub-graphs stream too), mode and payload."""
TO_NODE = "branch:to:"
"""How the channels begin that say which node is next."""
EVENTS = "events"
"""The mode that shows everything that happens within a graph."""
STREAMED = frozenset({"values", "updates", "custom", "debug", "tasks", "checkpoints"})
"""Modes that a graph streams under the name that they were asked for by."""


def configured(config: RunnableConfig, run: RunInput, native: Native) -> None:
    """Add what the run asked for; what the config holds already stays."""
    asked = {key: value for key, value in native.configurable.items() if allowed(key)}
    names = {"run_id": run.run_id, "thread_id": run.thread_id}
    config["configurable"] = {**names, **asked, **config["configurable"]}
    config["metadata"] = {**native.metadata, "thread_id": run.thread_id, "run_id": run.run_id}
    config["tags"] = list(native.tags)
    config["run_name"] = run.agent
    with suppress(ValueError):
        config["run_id"] = UUID(run.run_id)


def allowed(key: str) -> bool:
    """Whether a caller may set this key of `configurable`."""
    return not key.startswith(RESERVED) and key != "thread_id"


def located(config: RunnableConfig, checkpoint: Checkpoint | None) -> RunnableConfig:
    """The config for a place in the thread's history."""
    if checkpoint is None:
        return config
    place = {
        "checkpoint_id": checkpoint.checkpoint_id,
        "checkpoint_ns": checkpoint.checkpoint_ns,
        "checkpoint_map": checkpoint.checkpoint_map or UNSET,
    }
    known = {key: value for key, value in place.items() if value is not UNSET}
    return {**config, "configurable": {**config["configurable"], **known}}


async def given(run: RunInput, native: Native, graph: Graph, config: RunnableConfig) -> Any:
    """What goes in; None goes on from the state. Raises `Conflict` for an answer that no node is left to take."""
    if native.command is None:
        return msgspec.json.decode(run.input)
    if native.command.resume != NULL:
        await check_nodes(graph, located(config, native.checkpoint))
    return _command(native.command)


async def check_nodes(graph: Graph, config: RunnableConfig) -> None:
    """LangGraph passes over nodes that a changed graph no longer has, and with them the answer. Raises `Conflict`."""
    saver = graph.checkpointer
    saved = await saver.aget_tuple(config) if isinstance(saver, BaseCheckpointSaver) else None
    for channel in saved.checkpoint["channel_values"] if saved is not None else ():
        node = channel.removeprefix(TO_NODE)
        if node != channel and node not in graph.nodes:
            raise Conflict(f"This thread waits at the node `{node}`, which the agent's graph no longer has.")


def _command(asked: Asked) -> Command[Any]:
    return Command(
        resume=msgspec.json.decode(asked.resume),
        update=_update(msgspec.json.decode(asked.update)),
        goto=[_target(goto) for goto in asked.goto],
    )


def _update(update: Any) -> Any:
    """JSON has lists where a command has (key, value) pairs."""
    return [tuple(pair) for pair in update] if isinstance(update, list) else update


def _target(goto: Goto) -> Send | str:
    return goto.node if goto.input == NULL else Send(goto.node, msgspec.json.decode(goto.input))


def halts(native: Native) -> dict[str, Any]:
    """The breakpoints that the run was given, as arguments of a stream."""
    asked = {"interrupt_before": native.interrupt_before, "interrupt_after": native.interrupt_after}
    return {key: "*" if "*" in nodes else list(nodes) for key, nodes in asked.items() if nodes}


def streamed(modes: frozenset[str], always: Iterable[StreamMode]) -> list[StreamMode]:
    """What a graph must stream for frames of these modes."""
    return cast(list[StreamMode], [*always, *sorted(modes & STREAMED - set(always))])


async def with_events(graph: Graph, input: Any, config: RunnableConfig, **how: Any) -> AsyncGenerator[Part]:
    """The graph's stream, and everything that happens within it as parts of the mode `events`."""
    async with aclosing(cast(AsyncGenerator[Any], graph.astream_events(input, config, version="v2", **how))) as events:
        async for event in events:
            if event["event"] == "on_chain_stream" and not event["parent_ids"]:
                yield event["data"]["chunk"]
            else:
                yield (EVENTS, event)

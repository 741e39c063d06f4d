"""Graphs that use the long-term store, in each way that there is."""

from __future__ import annotations

import asyncio
from typing import Any

from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore


def _state(**nodes: Any) -> Any:
    graph = StateGraph[Any, Any, Any, Any](dict)
    graph.add_sequence(list(nodes.items()))
    graph.add_edge(START, next(iter(nodes)))
    return graph


async def _async_node(state: dict[str, Any], *, store: BaseStore) -> dict[str, Any]:
    if "write" in state:
        await store.aput(("notes", "x"), "note", {"text": state["write"]})
    note = await store.aget(("notes", "x"), "note")
    items = await store.asearch(("notes",))
    return {
        "note": note and note.value,
        "at": [item.namespace for item in items],
        "all": await store.alist_namespaces(),
    }


def _sync_node(state: dict[str, Any], *, store: BaseStore) -> dict[str, Any]:
    if "write" in state:
        store.put(("notes", "x"), "note", {"text": state["write"]})
    note = store.get(("notes", "x"), "note")
    items = store.search(("notes",))
    return {"note": note and note.value, "at": [item.namespace for item in items], "all": store.list_namespaces()}


def _runtime_node(state: dict[str, Any], runtime: Runtime[None]) -> dict[str, Any]:
    assert runtime.store is not None
    return _sync_node(state, store=runtime.store)


async def _getting_node(state: dict[str, Any]) -> dict[str, Any]:
    return await _async_node(state, store=get_store())


def _own_loop_node(state: dict[str, Any], *, store: BaseStore) -> dict[str, Any]:
    return asyncio.run(_async_node(state, store=store))


async def _blocking_node(state: dict[str, Any], *, store: BaseStore) -> dict[str, Any]:
    return _sync_node(state, store=store)


async def _inner_node(state: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = await _state(node=_async_node).compile().ainvoke(state)
    return result


asynchronous = _state(node=_async_node).compile()
synchronous = _state(node=_sync_node).compile()
runtime = _state(node=_runtime_node).compile()
getting = _state(node=_getting_node).compile()
own_loop = _state(node=_own_loop_node).compile()
blocking = _state(node=_blocking_node).compile()
subgraph = _state(node=_state(node=_async_node).compile()).compile()
called = _state(node=_inner_node).compile()
own = _state(node=_async_node).compile(store=InMemoryStore())

"""The states of threads in LangGraph's API: now, at a checkpoint, as they came about, and as callers change them."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from proxy.adapter import Checkpoint, State, Update
from proxy.api.native.bodies import body_of
from proxy.api.native.ids import held_id
from proxy.api.native.orders import checkpoint_of
from proxy.api.native.threads import given
from proxy.api.openapi import BODY
from proxy.api.params import query, tenant_of
from proxy.runs.threads import ThreadManager
from proxy.settings import RequestLimits
from proxy.wire.asked import CheckpointRef, Limit
from proxy.wire.thread import CheckpointPlace, UpdatedRecord, selected, updated_record
from proxy.wire.threads_body import History, StateAt, StatePatch, StateUpdate

_at = msgspec.json.Decoder(StateAt)
_update = msgspec.json.Decoder(StateUpdate)
_patch = msgspec.json.Decoder(StatePatch)
_history = msgspec.json.Decoder(History)

Shown = State | dict[str, Any]


class View(msgspec.Struct, frozen=True):
    """The query of a state."""

    subgraphs: bool = False


class Page(msgspec.Struct, frozen=True):
    """The query of a history; `before` is the id of a checkpoint."""

    limit: Limit = 1
    before: str | None = None


def routes(threads: ThreadManager, limits: RequestLimits) -> list[HTTPRouteHandler]:
    return [*current(threads, limits), *changes(threads, limits), *past(threads, limits)]


def current(threads: ThreadManager, limits: RequestLimits) -> list[HTTPRouteHandler]:
    """One state."""

    @get("/threads/{thread_id:str}/state")
    async def show_state(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> Shown:
        name, asked = await held_id(threads, request, thread_id), query(request, View)
        state = await threads.state(tenant_of(request), name, subgraphs=asked.subgraphs)
        return view(state, request.query_params.getall("select", None))

    @get("/threads/{thread_id:str}/state/{checkpoint_id:str}")
    async def show_state_at(
        request: Request[Any, Any, Any], thread_id: FromPath[str], checkpoint_id: FromPath[str]
    ) -> Shown:
        name, asked = await held_id(threads, request, thread_id), query(request, View)
        place = Checkpoint(checkpoint_id=checkpoint_id)
        state = await threads.state(tenant_of(request), name, place, subgraphs=asked.subgraphs)
        return view(state, request.query_params.getall("select", None))

    @post("/threads/{thread_id:str}/state/checkpoint", status_code=200, opt={BODY: StateAt})
    async def show_state_at_checkpoint(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> Shown:
        name = await held_id(threads, request, thread_id)
        asked = await body_of(request, _at, limits)
        place = checkpoint_of(asked.checkpoint)
        return view(await threads.state(tenant_of(request), name, place, subgraphs=asked.subgraphs), asked.select)

    return [show_state, show_state_at, show_state_at_checkpoint]


def changes(threads: ThreadManager, limits: RequestLimits) -> list[HTTPRouteHandler]:
    """What callers write."""

    @post("/threads/{thread_id:str}/state", status_code=200, opt={BODY: StateUpdate})
    async def update_state(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> UpdatedRecord:
        name = await held_id(threads, request, thread_id)
        asked = await body_of(request, _update, limits)
        named = asked.checkpoint
        if named is None and asked.checkpoint_id is not None:
            named = CheckpointRef(checkpoint_id=asked.checkpoint_id)
        update = Update(values=given(asked.values), as_node=asked.as_node)
        made = await threads.update(tenant_of(request), name, update, checkpoint_of(named))
        return updated_record(place_of(made))

    @patch("/threads/{thread_id:str}/state", status_code=204, opt={BODY: StatePatch})
    async def patch_state(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> None:
        name = await held_id(threads, request, thread_id)
        asked = await body_of(request, _patch, limits)
        await threads.patch(tenant_of(request), name, metadata=asked.metadata or {})

    return [update_state, patch_state]


def past(threads: ThreadManager, limits: RequestLimits) -> list[HTTPRouteHandler]:
    """States newest first."""

    @post("/threads/{thread_id:str}/history", status_code=200, opt={BODY: History})
    async def search_history(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> list[Shown]:
        name = await held_id(threads, request, thread_id)
        asked = await body_of(request, _history, limits)
        before = None if asked.before is None else asked.before.place
        states = await threads.history(
            tenant_of(request),
            name,
            limit=asked.limit,
            before=checkpoint_of(before),
            checkpoint=checkpoint_of(asked.checkpoint),
            metadata=asked.metadata,
        )
        return [view(state, asked.select) for state in states]

    @get("/threads/{thread_id:str}/history")
    async def show_history(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> list[State]:
        name, asked = await held_id(threads, request, thread_id), query(request, Page)
        before = None if asked.before is None else Checkpoint(checkpoint_id=asked.before)
        return await threads.history(tenant_of(request), name, limit=asked.limit, before=before)

    return [search_history, show_history]


def view(state: State, select: list[str] | tuple[str, ...] | None) -> Shown:
    return state if select is None else selected(state, select)


def place_of(made: Checkpoint) -> CheckpointPlace:
    """Where an update was put, which all agents say in full."""
    return msgspec.convert(msgspec.to_builtins(made), CheckpointPlace)

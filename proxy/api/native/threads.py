"""Threads in LangGraph's API: their records. Their states are in `proxy.api.native.states`."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from litestar import Request, Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import UNSET, Raw, UnsetType

from proxy.adapter import Update
from proxy.api.native.bodies import body_of
from proxy.api.native.ids import held_id
from proxy.api.native.paging import paging
from proxy.api.openapi import BODY
from proxy.api.params import tenant_of
from proxy.errors import Unprocessable
from proxy.events import NULL
from proxy.model import Thread, new_id
from proxy.runs.threads import ThreadManager, ThreadQuery
from proxy.settings import RequestLimits
from proxy.wire import threads_body
from proxy.wire.extracts import Path, extracted, path_of
from proxy.wire.thread import Pruned, ThreadRecord, selected, thread_record
from proxy.wire.threads_body import (
    ThreadCount,
    ThreadCreate,
    ThreadPatch,
    ThreadPrune,
    ThreadSearch,
    lifetime_of,
)

_create = msgspec.json.Decoder(ThreadCreate)
_patch = msgspec.json.Decoder(ThreadPatch)
_count = msgspec.json.Decoder(ThreadCount)
_search = msgspec.json.Decoder(ThreadSearch)
_prune = msgspec.json.Decoder(ThreadPrune)

Shown = ThreadRecord | dict[str, Any]


def routes(threads: ThreadManager, limits: RequestLimits) -> list[HTTPRouteHandler]:
    return [*lists(threads, limits), *records(threads, limits)]


def lists(threads: ThreadManager, limits: RequestLimits) -> list[HTTPRouteHandler]:
    """Those of all threads."""

    @post("/threads", status_code=200, opt={BODY: ThreadCreate})
    async def create_thread(request: Request[Any, Any, Any]) -> ThreadRecord:
        asked = await body_of(request, _create, limits)
        steps = [[update_of(update) for update in step.updates] for step in asked.supersteps or ()]
        thread = drafted(tenant_of(request), asked)
        return thread_record(await threads.create(thread, steps=steps, if_exists=asked.if_exists or "raise"))

    @post("/threads/search", status_code=200, opt={BODY: ThreadSearch})
    async def search_threads(request: Request[Any, Any, Any]) -> Response[list[Shown]]:
        asked = await body_of(request, _search, limits)
        paths = paths_of(asked.extract or {})
        wanted = searched(tenant_of(request), asked)
        found = await threads.find(msgspec.structs.replace(wanted, limit=asked.limit + 1))
        shown = [view(thread, asked, paths) for thread in found[: asked.limit]]
        return Response(shown, headers=paging(asked.offset, asked.limit, asked.offset + len(found)))

    @post("/threads/count", status_code=200, opt={BODY: ThreadCount})
    async def count_threads(request: Request[Any, Any, Any]) -> int:
        return await threads.count(counted(tenant_of(request), await body_of(request, _count, limits)))

    @post("/threads/prune", status_code=200, opt={BODY: ThreadPrune})
    async def prune_threads(request: Request[Any, Any, Any]) -> Pruned:
        asked = await body_of(request, _prune, limits)
        names = [str(thread_id) for thread_id in asked.thread_ids]
        return Pruned(await threads.prune(tenant_of(request), names, asked.strategy))

    return [create_thread, search_threads, count_threads, prune_threads]


def records(threads: ThreadManager, limits: RequestLimits) -> list[HTTPRouteHandler]:
    """Those of one thread."""

    @get("/threads/{thread_id:str}")
    async def show_thread(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> ThreadRecord:
        return thread_record(await threads.get(tenant_of(request), await held_id(threads, request, thread_id)))

    @patch("/threads/{thread_id:str}", opt={BODY: ThreadPatch})
    async def patch_thread(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> Response[ThreadRecord | None]:
        name = await held_id(threads, request, thread_id)
        asked = await body_of(request, _patch, limits)
        thread = await threads.patch(
            tenant_of(request), name, metadata=asked.metadata or {}, lifetime=lifetime_of(asked.ttl)
        )
        if "return=minimal" in request.headers.get("prefer", ""):
            return Response(None, status_code=204)
        return Response(thread_record(thread))

    @delete("/threads/{thread_id:str}")
    async def delete_thread(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> None:
        await threads.delete(tenant_of(request), await held_id(threads, request, thread_id))

    @post("/threads/{thread_id:str}/copy", status_code=200)
    async def copy_thread(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> ThreadRecord:
        return thread_record(await threads.copy(tenant_of(request), await held_id(threads, request, thread_id)))

    return [show_thread, patch_thread, delete_thread, copy_thread]


def drafted(tenant: str, asked: ThreadCreate) -> Thread:
    """The record of a thread that is to be made."""
    now = time.time()
    graph = {} if asked.graph_id is None else {"graph_id": asked.graph_id}
    return Thread(
        thread_id=new_id() if asked.thread_id is None else str(asked.thread_id),
        tenant=tenant,
        created_at=now,
        updated_at=now,
        metadata={**(asked.metadata or {}), **graph},
        lifetime=lifetime_of(asked.ttl),
    )


def update_of(asked: threads_body.Update) -> Update:
    """Raises `Unprocessable` for commands that do more than update."""
    if asked.command is None:
        return Update(values=given(asked.values), as_node=asked.as_node)
    if asked.command.goto or asked.command.resume is not UNSET or asked.command.update is UNSET:
        raise Unprocessable(
            "`supersteps`: of a command only `update` can be written to a state; leave out `goto` and `resume`.",
            param="supersteps",
        )
    return Update(values=asked.command.update, as_node=asked.as_node)


def given(values: Raw | UnsetType) -> Raw:
    """Null where nothing was given."""
    return NULL if values is UNSET else values


def counted(tenant: str, asked: ThreadCount) -> ThreadQuery:
    return ThreadQuery(tenant=tenant, status=asked.status, metadata=asked.metadata or {}, values=asked.values or {})


def searched(tenant: str, asked: ThreadSearch) -> ThreadQuery:
    return msgspec.structs.replace(
        counted(tenant, asked),
        ids=None if asked.ids is None else frozenset(map(str, asked.ids)),
        sort_by=asked.sort_by or "updated_at",
        descending=asked.sort_order != "asc",
        limit=asked.limit,
        offset=asked.offset,
    )


def paths_of(extract: dict[str, str]) -> dict[str, Path]:
    """Raises `Unprocessable`."""
    try:
        return {name: path_of(text) for name, text in extract.items()}
    except ValueError as error:
        raise Unprocessable(f"`extract`: {error}.", param="extract") from error


def view(thread: Thread, asked: ThreadSearch, paths: dict[str, Path]) -> Shown:
    """What a search shows of a thread."""
    record = thread_record(thread)
    if asked.select is None and asked.extract is None:
        return record
    fields = record.__struct_fields__ if asked.select is None else asked.select
    shown = selected(record, fields)
    return {**shown, "extracted": extracted(record, paths)} if asked.extract is not None else shown

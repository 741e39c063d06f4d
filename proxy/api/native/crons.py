"""Crons in LangGraph's API: runs on a schedule, on a thread or each on one of its own.

Source: LangGraph's official server and its clients. Unlike there, a cron that is disabled or over has no next date.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import UNSET, Struct

from proxy.api.auth import Caller
from proxy.api.native.bodies import body_of
from proxy.api.native.honoured import check_honoured
from proxy.api.native.ids import checked_id
from proxy.api.native.paging import paging
from proxy.api.openapi import BODY
from proxy.api.params import tenant_of
from proxy.errors import NotFound
from proxy.model import Assistant, Cron, new_id
from proxy.runs.assistants import Assistants
from proxy.runs.crons import CronQuery, Crons
from proxy.runs.webhooks import Webhooks
from proxy.settings import RequestLimits
from proxy.wire.crons import (
    CronCount,
    CronCreate,
    CronPatch,
    CronRecord,
    CronSearch,
    cron_record,
    moment,
    patched,
    payload_of,
)
from proxy.wire.runs_body import RunCreate
from proxy.wire.thread import selected

_create = msgspec.json.Decoder(CronCreate)
_patch = msgspec.json.Decoder(CronPatch)
_count = msgspec.json.Decoder(CronCount)
_search = msgspec.json.Decoder(CronSearch)
_run = msgspec.json.Decoder(RunCreate)


class CronRooms(Struct, frozen=True, kw_only=True):
    """What these routes work with."""

    crons: Crons
    assistants: Assistants
    webhooks: Webhooks
    limits: RequestLimits


def routes(rooms: CronRooms) -> list[HTTPRouteHandler]:
    return [*creations(rooms), *searches(rooms), *records(rooms)]


def creations(rooms: CronRooms) -> list[HTTPRouteHandler]:
    @post("/runs/crons", status_code=200, opt={BODY: CronCreate})
    async def create_cron(request: Request[Any, Any, Any]) -> CronRecord:
        return cron_record(await created(rooms, request, None))

    @post("/threads/{thread_id:str}/runs/crons", status_code=200, opt={BODY: CronCreate})
    async def create_thread_cron(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> CronRecord:
        return cron_record(await created(rooms, request, checked_id(thread_id, "thread")))

    return [create_cron, create_thread_cron]


def searches(rooms: CronRooms) -> list[HTTPRouteHandler]:
    @post("/runs/crons/search", status_code=200, opt={BODY: CronSearch})
    async def search_crons(request: Request[Any, Any, Any]) -> Response[list[CronRecord] | list[dict[str, Any]]]:
        asked = await body_of(request, _search, rooms.limits)
        wanted = msgspec.structs.replace(
            await counted(rooms, tenant_of(request), asked),
            enabled=asked.enabled,
            sort_by=asked.sort_by or "created_at",
            descending=asked.sort_order != "asc",
            limit=asked.limit,
            offset=asked.offset,
        )
        found = [cron_record(cron) for cron in await rooms.crons.search(wanted)]
        headers = paging(asked.offset, asked.limit, await rooms.crons.count(wanted))
        if asked.select is None:
            return Response(found, headers=headers)
        return Response([selected(record, asked.select) for record in found], headers=headers)

    @post("/runs/crons/count", status_code=200, opt={BODY: CronCount})
    async def count_crons(request: Request[Any, Any, Any]) -> int:
        asked = await body_of(request, _count, rooms.limits)
        return await rooms.crons.count(await counted(rooms, tenant_of(request), asked))

    return [search_crons, count_crons]


def records(rooms: CronRooms) -> list[HTTPRouteHandler]:
    crons = rooms.crons

    @get("/runs/crons/{cron_id:str}")
    async def show_cron(request: Request[Any, Any, Any], cron_id: FromPath[str]) -> CronRecord:
        return cron_record(await crons.get(tenant_of(request), checked_id(cron_id, "cron")))

    @patch("/runs/crons/{cron_id:str}", opt={BODY: CronPatch})
    async def patch_cron(request: Request[Any, Any, Any], cron_id: FromPath[str]) -> CronRecord:
        asked, name, tenant = (
            await body_of(request, _patch, rooms.limits),
            checked_id(cron_id, "cron"),
            tenant_of(request),
        )
        known = await crons.get(tenant, name)
        if (payload := patched(known.payload, asked)) != known.payload:
            check_runs(rooms, await rooms.assistants.find(tenant, known.assistant_id), payload)
        return cron_record(await crons.change(tenant, name, lambda known: revised(known, asked)))

    @delete("/runs/crons/{cron_id:str}")
    async def delete_cron(request: Request[Any, Any, Any], cron_id: FromPath[str]) -> None:
        await crons.delete(tenant_of(request), checked_id(cron_id, "cron"))

    return [show_cron, patch_cron, delete_cron]


async def created(rooms: CronRooms, request: Request[Any, Any, Any], thread_id: str | None) -> Cron:
    """Raises `NotFound`, and `Unprocessable` naming the field."""
    asked = await body_of(request, _create, rooms.limits)
    caller: Caller = request.scope["state"]["caller"]
    assistant = await rooms.assistants.find(caller.tenant, asked.assistant_id)
    payload = payload_of(asked, assistant.assistant_id)
    check_runs(rooms, assistant, payload)
    cron = Cron(
        cron_id=new_id(),
        assistant_id=assistant.assistant_id,
        schedule=asked.schedule,
        tenant=caller.tenant,
        thread_id=thread_id,
        timezone=asked.timezone,
        end_time=None if asked.end_time is None else moment(asked.end_time),
        payload=payload,
        metadata=asked.metadata or {},
        keep=asked.on_run_completed == "keep",
        enabled=asked.enabled,
        user=caller.user,
    )
    return await rooms.crons.create(cron)


def check_runs(rooms: CronRooms, assistant: Assistant, payload: msgspec.Raw) -> None:
    """Refuse now what would be refused when the runs are made. Raises `Unprocessable` naming the field."""
    run = _run.decode(payload)
    check_honoured(run, rooms.assistants.agent_of(assistant))
    if run.webhook is not None:
        rooms.webhooks.check(run.webhook)


async def counted(rooms: CronRooms, tenant: str, asked: CronCount) -> CronQuery:
    """An assistant that was deleted may still have crons, by its id."""
    ids = None
    if asked.assistant_id is not None:
        try:
            ids = frozenset({(await rooms.assistants.find(tenant, asked.assistant_id)).assistant_id})
        except NotFound:
            ids = frozenset({asked.assistant_id.lower()})
    thread_id = None if asked.thread_id is None else str(asked.thread_id)
    return CronQuery(tenant=tenant, assistant_ids=ids, thread_id=thread_id, metadata=asked.metadata or {})


def revised(known: Cron, asked: CronPatch) -> Cron:
    """The record with what a patch says."""
    plain = {name: getattr(asked, name) for name in ("schedule", "timezone", "enabled")}
    changes = {name: value for name, value in plain.items() if value is not UNSET}
    if asked.end_time is not UNSET:
        changes["end_time"] = None if asked.end_time is None else moment(asked.end_time)
    if asked.on_run_completed is not UNSET:
        changes["keep"] = asked.on_run_completed == "keep"
    if asked.metadata is not UNSET:
        changes["metadata"] = {**known.metadata, **asked.metadata}
    return msgspec.structs.replace(known, payload=patched(known.payload, asked), **changes)

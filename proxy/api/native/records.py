"""The records of a thread's runs: list, read and delete them, and cancel what is under way."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from litestar import MediaType, Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta

from proxy.api.native.bodies import body_of
from proxy.api.native.located import every, headers_of, run_at, thread_at
from proxy.api.native.mounts import Mount
from proxy.api.native.queries import many
from proxy.api.native.rooms import Rooms
from proxy.api.openapi import BODY
from proxy.api.params import query, tenant_of
from proxy.api.runs import Cancel, log_of, window_of
from proxy.errors import NotCancellable, NotFound, Unprocessable
from proxy.model import ACTIVE, Action, Run, RunStatus
from proxy.runs.manager import RunManager, RunQuery
from proxy.wire.asked import Limit, Offset
from proxy.wire.record import Record, record, status
from proxy.wire.runs_body import RunsCancel
from proxy.wire.thread import selected

Field = Literal[
    "run_id",
    "thread_id",
    "assistant_id",
    "created_at",
    "updated_at",
    "status",
    "metadata",
    "kwargs",
    "multitask_strategy",
]
STATUSES = {
    "pending": RunStatus.PENDING,
    "running": RunStatus.RUNNING,
    "success": RunStatus.SUCCESS,
    "error": RunStatus.ERROR,
    "timeout": RunStatus.ERROR,
    "interrupted": RunStatus.CANCELLED,
}
"""What LangGraph's words for how far a run is may stand for."""
BULK = {
    "pending": frozenset({RunStatus.PENDING}),
    "running": frozenset({RunStatus.RUNNING}),
    "all": ACTIVE,
}
_cancel = msgspec.json.Decoder(RunsCancel)


class Page(msgspec.Struct, frozen=True):
    """The query of a list."""

    limit: Limit = 10
    offset: Offset = 0
    status: Annotated[str, Meta(pattern=f"^({'|'.join(STATUSES)})$")] | None = None


def routes(mount: Mount, rooms: Rooms) -> list[HTTPRouteHandler]:
    return [*records(mount, rooms), *cancels(mount, rooms)]


def records(mount: Mount, rooms: Rooms) -> list[HTTPRouteHandler]:
    manager = rooms.manager

    @get("/threads/{thread_id:str}/runs")
    async def list_runs(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> Response[Any]:
        """The runs of a thread, newest first."""
        page, fields = query(request, Page), many(request, "select", Field)
        thread = await thread_at(rooms, request, thread_id)
        told = [record(run) for run in await matching(manager, tenant_of(request), thread, page)]
        return Response([selected(one, fields) for one in told] if fields else told)

    @get("/threads/{thread_id:str}/runs/{run_id:str}")
    async def show_run(
        request: Request[Any, Any, Any], thread_id: FromPath[str], run_id: FromPath[str]
    ) -> Response[Record]:
        """The record of a run."""
        run = await run_at(manager, request, thread_id, run_id, gone=mount.shows_gone)
        return Response(record(run), headers={"x-run-id": run.run_id})

    @delete("/threads/{thread_id:str}/runs/{run_id:str}")
    async def delete_run(request: Request[Any, Any, Any], thread_id: FromPath[str], run_id: FromPath[str]) -> None:
        """Stop a run if need be, and delete it."""
        run = await run_at(manager, request, thread_id, run_id, gone=mount.shows_gone)
        await manager.delete(run.tenant, run.run_id)

    @get("/threads/{thread_id:str}/runs/{run_id:str}/events")
    async def read_log(request: Request[Any, Any, Any], thread_id: FromPath[str], run_id: FromPath[str]) -> ASGIApp:
        """The log of a run as NDJSON."""
        window = window_of(request)
        return log_of(manager, request, await run_at(manager, request, thread_id, run_id), window)

    return [list_runs, show_run, delete_run, read_log]


def cancels(mount: Mount, rooms: Rooms) -> list[HTTPRouteHandler]:
    manager = rooms.manager

    @post("/threads/{thread_id:str}/runs/{run_id:str}/cancel")
    async def cancel_run(
        request: Request[Any, Any, Any], thread_id: FromPath[str], run_id: FromPath[str]
    ) -> Response[bytes]:
        """Cancel a run."""
        asked = query(request, Cancel)
        run = await run_at(manager, request, thread_id, run_id)
        await cancelled(mount, manager, run, asked)
        if not asked.wait:
            return said(202)
        body = b"{}" if mount.waited_cancel == 200 else b""
        return said(mount.waited_cancel, body, mount, run)

    @post("/runs/cancel", opt={BODY: RunsCancel})
    async def cancel_runs(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Cancel several runs at once, or the one that came or will come with an idempotency key."""
        asked, tenant = await body_of(request, _cancel, rooms.limits), tenant_of(request)
        action = query(request, Cancel).action
        ways = (asked.thread_id or asked.run_ids, asked.status, asked.idempotency_key)
        if sum(way is not None for way in ways) != 1 or (asked.thread_id is None) != (asked.run_ids is None):
            raise Unprocessable("Name runs by `thread_id` and `run_ids`, or by `status`, or by `idempotency_key`.")
        if asked.idempotency_key is not None:
            await manager.cancel_key(tenant, asked.idempotency_key, action)
            return said(202)
        await cancel_all(manager, await meant(manager, tenant, asked), action)
        return said(204)

    return [cancel_run, cancel_runs]


def said(status: int, body: bytes = b"", mount: Mount | None = None, run: Run | None = None) -> Response[bytes]:
    """An answer whose status says all; one that clients wait for also says where to wait again."""
    headers = headers_of(mount, run, "join") if mount is not None and run is not None else ()
    texts = {name.decode(): value.decode() for name, value in headers}
    return Response(body, status_code=status, media_type=MediaType.JSON, headers=texts)


async def matching(manager: RunManager, tenant: str, thread_id: str, page: Page) -> list[Run]:
    """A page of the runs of a thread, newest first."""
    wanted = RunQuery(tenant=tenant, thread_id=thread_id, limit=page.limit, offset=page.offset)
    if page.status is None:
        return await manager.find(wanted)
    wanted = msgspec.structs.replace(wanted, statuses=frozenset({STATUSES[page.status]}))
    if page.status not in ("error", "timeout"):
        return await manager.find(wanted)
    # These two are one status of ours, so that what stands on a page shows only by looking.
    found = [run for run in await every(manager, wanted) if status(run) == page.status]
    return found[page.offset : page.offset + page.limit]


async def cancelled(mount: Mount, manager: RunManager, run: Run, asked: Cancel) -> list[Run]:
    """Cancel a run, or the run of its turn that is under way. Raises `NotCancellable` if it has ended otherwise."""
    runs = await manager.cancel(run.tenant, run.run_id, asked.action)
    if asked.wait:
        runs = await asyncio.gather(*(manager.wait(one) for one in runs))
    if all(one.ended and one.status is not RunStatus.CANCELLED for one in runs):
        message = f"The run {run.run_id} has ended already: {status(runs[0])}."
        raise NotFound(message) if mount.late_cancel == 404 else NotCancellable(message)
    return runs


async def meant(manager: RunManager, tenant: str, asked: RunsCancel) -> list[Run]:
    """The runs that a bulk cancel is about."""
    if asked.status is not None:
        return await every(manager, RunQuery(tenant=tenant, statuses=BULK[asked.status]))
    found: list[Run] = []
    for run_id in dict.fromkeys(asked.run_ids or ()):
        try:
            run = await manager.get(tenant, str(run_id))
        except NotFound:
            continue
        if run.thread_id == str(asked.thread_id):
            found.append(run)
    return found


async def cancel_all(manager: RunManager, runs: list[Run], action: Action) -> None:
    """Raises `NotFound` if none of them can be cancelled, or was before."""
    done: list[Run] = []
    for run in runs:
        try:
            done += await manager.cancel(run.tenant, run.run_id, action)
        except NotFound:  # it was deleted meanwhile
            continue
    if all(run.ended and run.status is not RunStatus.CANCELLED for run in done):
        raise NotFound("There is no such run to cancel.")

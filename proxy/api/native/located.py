"""The runs that a request names."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Request

from proxy.api.client import Header
from proxy.api.native.ids import checked_id
from proxy.api.native.mounts import Mount
from proxy.api.native.rooms import Rooms
from proxy.api.params import tenant_of
from proxy.errors import NotFound
from proxy.model import Run
from proxy.runs.manager import RunManager, RunQuery

PAGE = 1000
"""Records that are read at a time."""
Asking = Request[Any, Any, Any]


async def run_at(manager: RunManager, request: Asking, thread_id: str | None, run_id: str, *, gone: bool = True) -> Run:
    """The caller's run of that id, on that thread; None is any thread. `gone`: also one that was rolled back.

    Chat clients may have given a thread any name. Raises `NotFound`, and `Unprocessable` for what cannot be an id.
    """
    run = await manager.get(tenant_of(request), checked_id(run_id, "run"))
    if thread_id is not None and run.thread_id != thread_id and run.thread_id != checked_id(thread_id, "thread"):
        raise NotFound(f"There is no run {run.run_id} on this thread.", param="run_id")
    if run.gone_at is not None and not gone:
        raise NotFound(f"The run {run.run_id} was rolled back.", param="run_id")
    return run


async def thread_at(rooms: Rooms, request: Asking, thread_id: str) -> str:
    """The id of the caller's thread, as it is kept: one that has a record, or runs. Raises as `run_at` does."""
    tenant = tenant_of(request)
    if await rooms.manager.find(RunQuery(tenant=tenant, thread_id=thread_id, gone=True, limit=1)):
        return thread_id
    thread_id = checked_id(thread_id, "thread")
    if await rooms.threads.known(tenant, thread_id) is None:
        raise NotFound(f"There is no thread {thread_id}.", param="thread_id")
    return thread_id


async def every(manager: RunManager, wanted: RunQuery) -> list[Run]:
    """All runs that match, newest first, whatever page is asked for."""
    found: list[Run] = []
    while runs := await manager.find(msgspec.structs.replace(wanted, limit=PAGE, offset=len(found))):
        found += runs
    return found


def headers_of(mount: Mount, run: Run, to: str | None = None, *, threaded: bool = True) -> tuple[Header, ...]:
    """What names the run, and where to go on: `to` is the last part of that path.

    Clients put the mount before `Location` themselves, so it does not stand there.
    """
    thread = f"/threads/{quote(run.thread_id, safe='')}" if threaded else ""
    path = f"{thread}/runs/{run.run_id}"
    headers = [(b"x-run-id", run.run_id.encode()), (b"content-location", f"{mount.prefix}{path}".encode())]
    if to is not None:
        headers.append((b"location", f"{path}/{to}".encode()))
    return tuple(headers)

"""The records and logs of runs, whatever started them: read, follow, cancel, delete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, cast

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta

from proxy.api.client import Delivery
from proxy.api.errors import Dialect, clean, refusing
from proxy.api.params import ID, converted, query, tenant_of
from proxy.api.streaming import EventStream
from proxy.errors import NotFound, Unprocessable
from proxy.events import Entry, Event
from proxy.model import Action, Run
from proxy.runs.manager import RunManager
from proxy.wire.record import Brief, Group, LogEncoder, Record, brief, group, record

Answer = Response[Record | Brief | Group]

PAGE = 1000
"""Entries that are read from the store at a time."""
KEEPALIVE = 15.0
"""Seconds of silence after which a follower gets a blank line."""


def word_of(event: Event | type[Event]) -> str:
    """What an event is called in the log."""
    return str(event.__struct_config__.tag)


TYPES = frozenset(map(word_of, Event.__args__))


class Cancel(msgspec.Struct, frozen=True):
    """The query of a cancel."""

    wait: bool = False
    action: Action = "interrupt"


class Window(msgspec.Struct, frozen=True):
    """The query of a log: what stands after `after_seq`, at most `limit` entries, to the run's end with `wait`."""

    after_seq: Annotated[int, Meta(ge=0, lt=1 << 53)] = 0
    limit: Annotated[int, Meta(ge=1, lt=1 << 53)] | None = None
    wait: bool = False
    types: frozenset[str] = frozenset()
    """Only events of these; none is all."""


def routes(manager: RunManager, *, keepalive: float = KEEPALIVE, shows_gone: bool = False) -> list[HTTPRouteHandler]:
    """`shows_gone`: a run that was rolled back has a record; of all, the log can be read for a while."""

    async def named(request: Request[Any, Any, Any], name: str) -> list[Run]:
        runs = await manager.named(tenant_of(request), name)
        there = [run for run in runs if shows_gone or run.gone_at is None]
        if not there:
            raise NotFound(f"The run {name} was rolled back.", param="run_id")
        return there

    @get("/runs/{run_id:str}")
    async def show_run(request: Request[Any, Any, Any], run_id: FromPath[str]) -> Answer:
        name = checked(run_id)
        runs = await named(request, name)
        return answer(name, record(runs[0]) if runs[0].run_id == name else group(name, runs, whole=True))

    @delete("/runs/{run_id:str}")
    async def delete_run(request: Request[Any, Any, Any], run_id: FromPath[str]) -> None:
        for run in await named(request, checked(run_id)):
            await manager.delete(run.tenant, run.run_id)

    @post("/runs/{run_id:str}/cancel")
    async def cancel_run(request: Request[Any, Any, Any], run_id: FromPath[str]) -> Answer:
        return await cancelled(manager, tenant_of(request), checked(run_id), query(request, Cancel))

    @get("/runs/{run_id:str}/events")
    async def read_log(request: Request[Any, Any, Any], run_id: FromPath[str]) -> ASGIApp:
        window = window_of(request)
        run = await manager.get(tenant_of(request), checked(run_id))
        return log_of(manager, request, run, window, keepalive=keepalive)

    return [show_run, delete_run, cancel_run, read_log]


def checked(name: str) -> str:
    """The id of a run or a group, with or without the prefix it has on the chat wire. Raises `Unprocessable`."""
    bare = name.removeprefix("chatcmpl-").lower()
    if not ID.fullmatch(bare):
        raise Unprocessable("The id of a run is a UUID.", param="run_id")
    return bare


async def cancelled(manager: RunManager, tenant: str, name: str, asked: Cancel) -> Answer:
    """Cancel a run or a group; 202 while something of it is still under way. Raises `NotFound`."""
    wait = asked.wait
    runs = await manager.cancel(tenant, name, asked.action)
    if wait:
        runs = await asyncio.gather(*(manager.wait(run) for run in runs))
    status = 200 if all(run.ended for run in runs) else 202
    if runs[0].group == name:
        return answer(name, group(name, await manager.named(tenant, name), whole=wait), status)
    return answer(runs[0].run_id, record(runs[0]) if wait else brief(runs[0]), status)


def answer(name: str, content: Record | Brief | Group, status: int = 200) -> Answer:
    return Response(content, status_code=status, headers={"x-run-id": name})


def log_of(
    manager: RunManager, request: Request[Any, Any, Any], run: Run, window: Window, *, keepalive: float = KEEPALIVE
) -> ASGIApp:
    """The part of a run's log that the query asks for, as it comes.

    Its reader may leave at any time; the run does not care.
    """
    wire = LogEncoder()
    if window.wait:
        entries = manager.follow(run, after=window.after_seq, idle=keepalive)
    else:
        entries = pages(manager, run, window.after_seq)
    if window.types:
        entries = picked(entries, window.types)
    entries = limited(entries, wire, window.limit)
    name = (b"x-run-id", run.run_id.encode())
    delivery = Delivery(
        headers=(name,), keepalive=keepalive, first_byte=0, steady=bool(window.types), on_leave=lambda: None
    )
    refuse = refusing(Dialect.LANGGRAPH, request.scope["state"]["request_id"])
    return cast(ASGIApp, EventStream(lambda **_: entries, wire, delivery, refuse))


async def pages(manager: RunManager, run: Run, after: int) -> AsyncGenerator[list[Entry]]:
    """The log as far as it has come."""
    while page := await manager.read(run, after=after, limit=PAGE):
        yield page
        after = page[-1].seq


def window_of(request: Request[Any, Any, Any]) -> Window:
    """Types stand in one parameter or in several. Raises `Unprocessable`, also for what is no type of an event."""
    given = dict(request.query_params.multi_items())
    given["types"] = [kind for text in request.query_params.getall("types", []) for kind in text.split(",") if kind]
    if unknown := set(given["types"]) - TYPES:
        raise Unprocessable(f"The query is wrong: no event is a `{clean(min(unknown))}` - at `$.types`")
    return converted(given, Window)


async def picked(batches: AsyncGenerator[list[Entry]], kinds: frozenset[str]) -> AsyncGenerator[list[Entry]]:
    """Only entries of these types, and the silences."""
    async with aclosing(batches):
        async for batch in batches:
            found = [entry for entry in batch if word_of(entry.event) in kinds]
            if found or not batch:
                yield found


async def limited(
    batches: AsyncGenerator[list[Entry]], wire: LogEncoder, limit: int | None
) -> AsyncGenerator[list[Entry]]:
    """The first `limit` entries; then the end of the wire, since not every reader gets to the final entry."""
    async with aclosing(batches):
        async for batch in batches:
            yield batch[:limit]
            if limit is not None:
                limit -= len(batch)
                if limit <= 0:
                    break
    wire.ended = True
    yield []

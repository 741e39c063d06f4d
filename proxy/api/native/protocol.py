"""The routes of the event protocol, which LangGraph's newer clients speak; its web socket is in `sockets.py`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp

from proxy.api.asgi import Receive
from proxy.api.client import Delivery
from proxy.api.errors import Dialect, refusing
from proxy.api.native.commands import Commands, Desk
from proxy.api.native.ids import kept_id
from proxy.api.native.located import every
from proxy.api.native.mounts import Mount
from proxy.api.native.rooms import Rooms
from proxy.api.native.thread_stream import follow_thread
from proxy.api.openapi import BODY
from proxy.api.parse import decode, read_body
from proxy.api.streaming import EventStream
from proxy.errors import BadRequest
from proxy.model import Run
from proxy.runs.manager import RunManager, RunQuery
from proxy.wire.commands import Answer, Command, Failure, Listening, RunResult, Success, decode_listening
from proxy.wire.conversation import listed
from proxy.wire.langgraph import Cursor
from proxy.wire.protocol import Chronicle, ProtocolStream
from proxy.wire.thread_stream import Place, Told

REPLAYED = 20
"""Runs that are replayed to a listener that names no number: a thread's state says what came of those before."""
SLACK = 60
"""Seconds by which the record of a run's end may be off the event of it."""
_SECOND = 1_000_000


def routes(mount: Mount, rooms: Rooms) -> list[HTTPRouteHandler]:
    commands = Commands(mount, rooms)

    @post("/threads/{thread_id:str}/commands", status_code=200, opt={BODY: Command})
    async def command_thread(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> Response[Answer]:
        sent = await read_body(cast(Receive, request.receive))
        command = commands.read(sent)
        if isinstance(command, Failure):
            return Response(command, status_code=400)
        desk = Desk(
            caller=request.scope["state"]["caller"],
            thread_id=kept_id(thread_id),
            headers=tuple(request.scope["headers"]),
        )
        answer = await commands.obey(desk, command, sent)
        run = answer.result if isinstance(answer, Success) and isinstance(answer.result, RunResult) else None
        return Response(answer, status_code=200, headers={} if run is None else {"x-run-id": run.run_id})

    @post("/threads/{thread_id:str}/stream/events", status_code=200, opt={BODY: Listening})
    async def listen_to_events(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> ASGIApp:
        asked = decode(await read_body(cast(Receive, request.receive)), decode_listening, rooms.limits)
        if asked.fault is not None:
            raise BadRequest(asked.fault, param="channels")
        wire = ProtocolStream(asked.view, mount.wire, since=asked.since or 0)
        tenant = request.scope["state"]["caller"].tenant

        def follow(*, idle: float, **_: Any) -> AsyncGenerator[list[Told]]:
            return followed(rooms, tenant, kept_id(thread_id), wire, idle=idle, since=asked.since or 0)

        delivery = Delivery(
            keepalive=mount.settings.keepalive,
            first_byte=0.0,
            send_timeout=mount.settings.send_timeout,
            steady=True,
            on_leave=lambda: None,
        )
        refuse = refusing(Dialect.LANGGRAPH, request.scope["state"]["request_id"])
        return cast(ASGIApp, EventStream(follow, wire, delivery, refuse))

    return [command_thread, listen_to_events]


async def followed(
    rooms: Rooms, tenant: str, thread_id: str, wire: ProtocolStream, *, idle: float, since: int
) -> AsyncGenerator[list[Told]]:
    """All runs of the thread; the last batch is followed by the end of the wire."""
    listener = Listener(rooms, wire.chronicle)
    place = await beginning(rooms.manager, tenant, thread_id, since)
    batches = follow_thread(rooms.manager, tenant, thread_id, place, idle=idle, listener=listener)
    async with aclosing(batches):
        async for batch in batches:
            yield batch
    wire.ended = True
    yield []


async def beginning(manager: RunManager, tenant: str, thread_id: str, since: int) -> Place:
    """Where a listener begins that has heard all up to this number; 0 is nothing."""
    wanted = RunQuery(tenant=tenant, thread_id=thread_id, limit=REPLAYED)
    if since:
        runs = await every(manager, wanted)
        left = [run for run in runs if not run.ended or (run.updated_at + SLACK) * _SECOND > since]
        runs = left or runs[:1]
    else:
        runs = await manager.find(wanted)
    return Place(runs[-1].run_id) if runs else Place()


class Listener:
    """Opens the chapter of each run that begins on a thread.

    Of a run whose content is not kept the end is there, and is told of: somebody may be waiting for it.
    """

    def __init__(self, rooms: Rooms, chronicle: Chronicle) -> None:
        self._rooms = rooms
        self._chronicle = chronicle
        self._run: Run | None = None

    async def begin(self, run: Run, cursor: Cursor) -> int:
        if self._run is not None:
            self._chronicle.end(self._run)
        self._run = run
        agent = self._rooms.agents.named(run.agent)
        frames = agent is None or agent.adapter.native
        before = listed(await self._rooms.states.before(run))
        self._chronicle.begin(run, frames=frames, before=before)
        return 0

    async def skip(self, run: Run, after: int) -> int | None:
        kept = await self._rooms.manager.read(run, after=after, limit=1)
        return kept[0].seq - 1 if kept else None

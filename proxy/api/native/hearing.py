"""The route that hears a whole thread: all its runs as they come, and where it is asked for, those that were."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal, cast
from urllib.parse import quote

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp

from proxy.api.client import Delivery
from proxy.api.errors import Dialect, refusing
from proxy.api.native.located import run_at, thread_at
from proxy.api.native.mounts import Mount
from proxy.api.native.queries import many
from proxy.api.native.reading import Reading, View
from proxy.api.native.rooms import Rooms
from proxy.api.native.thread_stream import follow_thread
from proxy.api.params import tenant_of
from proxy.api.streaming import EventStream
from proxy.errors import NotFound, Unprocessable
from proxy.model import Run
from proxy.wire.langgraph import Cursor
from proxy.wire.thread_stream import Place, ThreadEncoder, Told, place_of

Scope = Literal["run_modes", "lifecycle"]
"""What is heard of a run: what it says in its modes, or only that it begins, fails and ends."""


def routes(mount: Mount, rooms: Rooms) -> list[HTTPRouteHandler]:
    @get("/threads/{thread_id:str}/stream")
    async def hear_thread(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> ASGIApp:
        """All runs of a thread as they come."""
        scopes = many(request, "stream_mode", Scope)
        thread = await thread_at(rooms, request, thread_id)
        place = await placed(rooms, request, thread)
        hearing = Hearing(mount, rooms, frozenset() if set(scopes) == {"lifecycle"} else None)
        delivery = Delivery(
            headers=((b"content-location", f"{mount.prefix}/threads/{quote(thread, safe='')}/stream".encode()),),
            keepalive=mount.settings.keepalive,
            first_byte=0.0,
            send_timeout=mount.settings.send_timeout,
            steady=True,
            on_leave=lambda: None,
        )
        refuse = refusing(Dialect.LANGGRAPH, request.scope["state"]["request_id"])

        def follow(*, idle: float, **_: Any) -> AsyncGenerator[list[Told]]:
            return hearing.follow(tenant_of(request), thread, place, idle=idle)

        return cast(ASGIApp, EventStream(follow, hearing.wire, delivery, refuse))

    return [hear_thread]


async def placed(rooms: Rooms, request: Request[Any, Any, Any], thread_id: str) -> Place | None:
    """The place that the request names; None for now. Raises `Unprocessable` for a place that is not there."""
    given = request.headers.get("last-event-id", "").strip()
    if not given:
        return None
    place = place_of(given)
    if place is not None and await _there(rooms, request, thread_id, place):
        return place
    raise Unprocessable("`Last-Event-ID` is no id of this thread's events.", param="Last-Event-ID")


async def _there(rooms: Rooms, request: Request[Any, Any, Any], thread_id: str, place: Place) -> bool:
    if place.run_id is None:
        return True
    try:
        run = await run_at(rooms.manager, request, thread_id, place.run_id)
    except (NotFound, Unprocessable):
        return False
    reach = await rooms.manager.reach(run)
    return run.run_id == place.run_id and (reach is None or place.cursor.after <= reach)


class Hearing:
    """Who hears a thread; the stream does not end with a run, in either dialect."""

    def __init__(self, mount: Mount, rooms: Rooms, modes: frozenset[str] | None) -> None:
        self._rooms = rooms
        self._modes = modes
        self._mount = msgspec.structs.replace(mount, wire=msgspec.structs.replace(mount.wire, says_end=False))
        self._reading: Reading
        """Of the run that is being heard: there is one at a time."""
        self.wire = ThreadEncoder(lambda run, prefix: self._reading, self._mount.wire)

    async def follow(
        self, tenant: str, thread_id: str, place: Place | None, *, idle: float
    ) -> AsyncGenerator[list[Told]]:
        batches = follow_thread(self._rooms.manager, tenant, thread_id, place, idle=idle, listener=self)
        async with aclosing(batches):
            async for batch in batches:
                yield batch
        self.wire.ended = True
        yield []

    async def begin(self, run: Run, cursor: Cursor) -> int:
        view = View(modes=self._modes, cursor=cursor, prefix=f"{run.run_id}:")
        self._reading = Reading(self._mount, self._rooms, run, view)
        await self._reading.begin()
        return max(self._reading.start - 1, 0)  # what the reader has may be all but the word that the run is over

    async def skip(self, run: Run, after: int) -> int | None:
        return await self._reading.skip()

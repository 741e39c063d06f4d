"""The routes that join a run: for its end, or for what it says from anywhere on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Literal, cast

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp

from proxy.api.asgi import Receive, Scope, Send
from proxy.api.client import JSON, Delivery, Header, Reply
from proxy.api.errors import Dialect, refusing
from proxy.api.native.located import headers_of, run_at
from proxy.api.native.mounts import Mount
from proxy.api.native.queries import many, said_yes
from proxy.api.native.reading import END, Reading, View
from proxy.api.native.rooms import Rooms
from proxy.api.native.values import values_of
from proxy.api.params import query
from proxy.api.streaming import EventStream, WholeAnswer
from proxy.errors import NotFound, Unprocessable
from proxy.events import Entry, Failed
from proxy.model import Run
from proxy.wire.joined import present
from proxy.wire.langgraph import BEGINNING, Cursor, cursor_of
from proxy.wire.runs_body import Mode
from proxy.wire.waited import ValuesFold

Ask = Request[Any, Any, Any]


class Joining(msgspec.Struct, frozen=True):
    """The query of a join; a single word says yes or no."""

    cancel_on_disconnect: str = ""


class Then(msgspec.Struct, frozen=True):
    """The query of a cancel whose rest is streamed."""

    wait: bool = False
    action: Literal["interrupt", "rollback", ""] = ""


def routes(mount: Mount, rooms: Rooms) -> list[HTTPRouteHandler]:
    joins = Joins(mount, rooms)

    @get("/threads/{thread_id:str}/runs/{run_id:str}/join")
    async def join_run(request: Ask, thread_id: FromPath[str], run_id: FromPath[str]) -> ASGIApp:
        """Wait for the values at the end of a run."""
        run = await run_at(rooms.manager, request, thread_id, run_id, gone=mount.shows_gone)
        return await (joins.streamed(request, run) if mount.streams_joins else joins.waited(request, run))

    @get("/threads/{thread_id:str}/runs/{run_id:str}/stream")
    async def join_stream(request: Ask, thread_id: FromPath[str], run_id: FromPath[str]) -> ASGIApp:
        """What a run says, from `Last-Event-ID` on."""
        return await joins.streamed(request, await run_at(rooms.manager, request, thread_id, run_id))

    @get("/runs/{run_id:str}/stream")
    async def join_stateless(request: Ask, run_id: FromPath[str]) -> ASGIApp:
        """What a run says, from `Last-Event-ID` on."""
        return await joins.streamed(request, await run_at(rooms.manager, request, None, run_id), threaded=False)

    @post("/threads/{thread_id:str}/runs/{run_id:str}/stream", status_code=200)
    async def cancel_stream(request: Ask, thread_id: FromPath[str], run_id: FromPath[str]) -> ASGIApp:
        """Cancel a run, then stream what is left of it."""
        run = await run_at(rooms.manager, request, thread_id, run_id)
        return await joins.streamed(request, run, query(request, Then))

    return [join_run, join_stream, join_stateless, cancel_stream]


class Joins:
    """Answers who joins a run, in one mount's dialect."""

    def __init__(self, mount: Mount, rooms: Rooms) -> None:
        self._mount = mount
        self._rooms = rooms

    async def streamed(self, request: Ask, run: Run, then: Then | None = None, *, threaded: bool = True) -> ASGIApp:
        """What the run says from the place on that the request names; `then` may cancel it first."""
        modes = frozenset(many(request, "stream_mode", Mode)) or None
        cursor = await self._cursor(request, run)
        if then is not None and then.action:
            await self._stop(run, then)
        reading = Reading(self._mount, self._rooms, run, View(modes=modes, cursor=cursor))
        headers = headers_of(self._mount, run, "stream", threaded=threaded)
        delivery = self._delivery(request, run, headers)
        return cast(ASGIApp, EventStream(reading.follow, reading, delivery, _refuse(request)))

    async def _cursor(self, request: Ask, run: Run) -> Cursor:
        """Raises `Unprocessable` for a place that the run has not come to, and for what is no place."""
        given, manager = request.headers.get("last-event-id", "").strip(), self._rooms.manager
        if given:
            cursor, reach = cursor_of(given), await manager.reach(run)
            if cursor is None or (reach is not None and cursor.after > reach):
                raise Unprocessable("`Last-Event-ID` is no id of this run's events.", param="Last-Event-ID")
            return cursor
        if self._mount.replays:
            return BEGINNING
        last = await manager.last(run)
        return Cursor(END if last is None else last)

    async def _stop(self, run: Run, then: Then) -> None:
        manager = self._rooms.manager
        try:
            runs = await manager.cancel(
                run.tenant, run.run_id, "rollback" if then.action == "rollback" else "interrupt"
            )
        except NotFound:  # it was deleted meanwhile
            return
        for one in runs if then.wait else ():
            await manager.wait(one)

    async def waited(self, request: Ask, run: Run) -> ASGIApp:
        """The values at the end of the run; of one that has ended, those that its thread has now."""
        headers = headers_of(self._mount, run, "join")
        if run.ended and not run.temporary:
            return whole(Reply(status=200, headers=(JSON, *headers), body=await self._present(run)))
        agent = self._rooms.agents.named(run.agent)
        native = "values" in run.choices.modes and (agent is None or agent.adapter.native)
        source, fold = values_of(self._rooms, self._mount, run, native=native)
        left = Left(fold)

        async def follow(
            *, idle: float, first: float | None = None, sink: Callable[[Entry], bool] | None = None
        ) -> AsyncGenerator[list[Entry]]:
            async with aclosing(source(idle=idle, first=first, sink=sink)) as batches:
                async for batch in batches:
                    yield batch
            if not (native or run.temporary):
                left.values = await self._present(run)

        delivery = self._delivery(request, run, headers)
        return cast(ASGIApp, WholeAnswer(follow, left, delivery, _refuse(request)))

    async def _present(self, run: Run) -> bytes:
        thread = await self._rooms.threads.known(run.tenant, run.thread_id)
        if thread is None:
            raise NotFound(f"The thread {run.thread_id} is gone.", param="thread_id")
        return present(thread)

    def _delivery(self, request: Ask, run: Run, headers: tuple[Header, ...]) -> Delivery:
        leaving = said_yes(query(request, Joining).cancel_on_disconnect)
        settings = self._mount.settings
        return Delivery(
            headers=headers,
            keepalive=settings.keepalive,
            first_byte=0.0,
            send_timeout=settings.send_timeout,
            steady=True,
            blank=b"\n",
            on_leave=(lambda: self._rooms.manager.stop(run)) if leaving else (lambda: None),
            comes_back=True,
        )


class Left:
    """What a run leaves: what its log says, unless its thread knows better."""

    failed: Failed | None = None

    def __init__(self, fold: ValuesFold) -> None:
        self._fold = fold
        self.values: bytes | None = None

    def feed(self, entry: Entry) -> None:
        self._fold.feed(entry)

    def answer(self) -> bytes:
        return self._fold.answer() if self.values is None else self.values


def whole(reply: Reply) -> ASGIApp:
    """An answer that is there already."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await reply.send(send)

    return cast(ASGIApp, app)


def _refuse(request: Ask) -> Any:
    return refusing(Dialect.LANGGRAPH, request.scope["state"]["request_id"])

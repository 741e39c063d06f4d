"""The log of a workflow run, as it stands in the store and as it grows: lines, or server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Protocol, cast

import structlog
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from proxy.api.asgi import Receive, Scope, Send
from proxy.api.client import UNBUFFERED, Client, Delivery
from proxy.api.params import tenant_of
from proxy.api.streaming import PORTION
from proxy.api.workflows.asked import id_of, query_of
from proxy.errors import BadRequest, ProxyError
from proxy.settings import WorkflowDialect
from proxy.wire.lines import Lines, ServerSent
from proxy.workflow_model import WorkflowEvent
from proxy.workflows.journal import EventQuery, Journal

logger = structlog.get_logger(__name__)

MOST = 1 << 53
"""Above all numbers that JSON's readers agree on."""


class Window(Struct, frozen=True, kw_only=True):
    """The query of a log; `wait` follows it to the run's end, `include_output` puts payloads into the events."""

    after_seq: Annotated[int, Meta(ge=0, lt=MOST)] = 0
    limit: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    wait: bool = True
    include_output: bool = False


class Wire(Protocol):
    """How events look."""

    media_type: str
    blank: bytes
    """A sign of life."""

    def encode(self, event: WorkflowEvent) -> bytes: ...


def routes(journal: Journal, settings: WorkflowDialect) -> list[HTTPRouteHandler]:
    delivery = Delivery(keepalive=settings.keepalive, send_timeout=settings.send_timeout, on_leave=lambda: None)

    @get("/runs/{run_id:str}/events")
    async def read_events(request: Request[Any, Any, Any], run_id: FromPath[str]) -> ASGIApp:
        name, window = id_of(run_id, "run"), query_of(request, Window)
        wire = wire_of(request)
        query = EventQuery(
            tenant=tenant_of(request),
            run_id=name,
            after=seen(request, window.after_seq) if isinstance(wire, ServerSent) else window.after_seq,
            limit=window.limit,
            wait=window.wait,
            contents=window.include_output,
        )
        await journal.run(query.tenant, name)
        batches = journal.follow(query, idle=settings.keepalive)
        return cast(ASGIApp, EventLines(name, batches, wire, delivery))

    return [read_events]


def wire_of(request: Request[Any, Any, Any]) -> Wire:
    """Lines, unless it is server-sent events that are asked for."""
    wanted = request.accept.best_match([Lines.media_type, "text/event-stream"])
    return ServerSent() if wanted == "text/event-stream" else Lines()


def seen(request: Request[Any, Any, Any], after: int) -> int:
    """The number that a reader goes on after which comes back: its last event's. Raises `BadRequest`."""
    last = request.headers.get("last-event-id", "")
    if not last:
        return after
    if not (last.isascii() and last.isdigit() and len(last) < 16):
        raise BadRequest("`Last-Event-ID` is the number of an event.", param="Last-Event-ID")
    return int(last)


class EventLines:
    """Sends a log as it grows. The headers go out at once, for clients wait for them but a short time.

    A log that can no longer be read breaks the connection off: on this wire there is no word for it, and an orderly
    end would pass for the whole.
    """

    def __init__(
        self, run_id: str, batches: AsyncGenerator[list[WorkflowEvent]], wire: Wire, delivery: Delivery
    ) -> None:
        self._run_id = run_id
        self._batches = batches
        self._wire = wire
        self._delivery = delivery

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        media_type = (b"content-type", self._wire.media_type.encode())
        name = (b"x-run-id", self._run_id.encode())
        with Client(scope, receive, send, self._delivery) as client:
            async with aclosing(self._batches):
                await client.start(200, (media_type, *UNBUFFERED, name))
                try:
                    await self._pass(client)
                except ProxyError as error:
                    logger.warning("a log could not be read to its end", run_id=self._run_id, error=error.code)
                    raise

    async def _pass(self, client: Client) -> None:
        async for batch in self._batches:
            pieces: list[bytes] = [] if batch else [self._wire.blank]
            size = 0
            for event in batch:
                pieces.append(piece := self._wire.encode(event))
                size += len(piece)
                if size > PORTION:
                    await client.write(b"".join(pieces))
                    pieces, size = [], 0
            if pieces:
                await client.write(b"".join(pieces))
        await client.finish(b"")

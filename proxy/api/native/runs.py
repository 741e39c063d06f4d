"""The routes that make runs: on a thread or on none, in the background, as a stream, or waited for."""

from __future__ import annotations

import hashlib
from typing import Any, cast

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp

from proxy.api.asgi import Receive
from proxy.api.client import Delivery, Header
from proxy.api.errors import Dialect, refusing
from proxy.api.native.bodies import fitting
from proxy.api.native.located import headers_of
from proxy.api.native.mounts import Mount
from proxy.api.native.orders import Asked, Orders
from proxy.api.native.reading import Reading, View
from proxy.api.native.rooms import Rooms
from proxy.api.native.values import values_of
from proxy.api.openapi import BODY
from proxy.api.parse import read_body
from proxy.api.started import Started
from proxy.api.streaming import EventStream, Refuse, WholeAnswer
from proxy.errors import Unprocessable
from proxy.events import NULL
from proxy.model import Run
from proxy.runs.order import Order
from proxy.wire.record import Record, record
from proxy.wire.runs_body import RunCreate

encode = msgspec.json.Encoder().encode
WAITED = 5.0
"""Seconds of silence after which a client that waits for a run gets a newline."""


class StrictRun(RunCreate, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run in a dialect that refuses what it does not know."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A run that a request made, or joined by its idempotency key; `started` can stop it."""

    run: Run
    order: Order
    started: Started

    @property
    def known(self) -> Run:
        """Its record with its input, though content may not be kept: what is told of it begins with that."""
        if self.run.input != NULL:
            return self.run
        return msgspec.structs.replace(self.run, input=msgspec.Raw(encode(self.order.input)))


def routes(mount: Mount, rooms: Rooms) -> list[HTTPRouteHandler]:
    creation = Creation(mount, rooms)
    return [*threaded(creation), *stateless(creation)]


def threaded(creation: Creation) -> list[HTTPRouteHandler]:
    """On a thread."""

    @post("/threads/{thread_id:str}/runs", status_code=200, opt={BODY: RunCreate})
    async def create_run(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> Response[Record]:
        return creation.shown(await creation.make(request, thread_id, background=True))

    @post("/threads/{thread_id:str}/runs/stream", status_code=200, opt={BODY: RunCreate})
    async def stream_run(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> ASGIApp:
        return creation.streamed(request, await creation.make(request, thread_id))

    @post("/threads/{thread_id:str}/runs/wait", status_code=200, opt={BODY: RunCreate})
    async def wait_run(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> ASGIApp:
        return creation.waited(request, await creation.make(request, thread_id, values=True))

    return [create_run, stream_run, wait_run]


def stateless(creation: Creation) -> list[HTTPRouteHandler]:
    """On no thread that the caller names in the path."""

    @post("/runs", status_code=200, opt={BODY: RunCreate})
    async def create_stateless(request: Request[Any, Any, Any]) -> Response[Record]:
        return creation.shown(await creation.make(request, background=True), threaded=False)

    @post("/runs/stream", status_code=200, opt={BODY: RunCreate})
    async def stream_stateless(request: Request[Any, Any, Any]) -> ASGIApp:
        return creation.streamed(request, await creation.make(request), threaded=False)

    @post("/runs/wait", status_code=200, opt={BODY: RunCreate})
    async def wait_stateless(request: Request[Any, Any, Any]) -> ASGIApp:
        return creation.waited(request, await creation.make(request, values=True))

    @post("/runs/batch", status_code=200, opt={BODY: tuple[RunCreate, ...]})
    async def create_batch(request: Request[Any, Any, Any]) -> list[Record]:
        return [record(run) for run in await creation.batch(request)]

    return [create_stateless, stream_stateless, wait_stateless, create_batch]


class Creation:
    """Makes runs as one mount's callers ask, and answers in its dialect."""

    def __init__(self, mount: Mount, rooms: Rooms) -> None:
        self._mount = mount
        self._rooms = rooms
        self._orders = Orders(mount, rooms)
        shape: type[RunCreate] = StrictRun if mount.strict else RunCreate
        self._one = msgspec.json.Decoder(shape)
        self._many = msgspec.json.Decoder(tuple[shape, ...])  # type: ignore[valid-type]

    async def make(
        self,
        request: Request[Any, Any, Any],
        thread_id: str | None = None,
        *,
        values: bool = False,
        background: bool = False,
    ) -> Made:
        """The run that a request asks for. Raises as `Orders.order` does, which says what is to be told of the run,
        and as `RunManager.create`."""
        sent = await read_body(cast(Receive, request.receive))
        asked = asked_of(request, fitting(sent, self._one, self._rooms.limits), sent, thread_id=thread_id)
        order = await self._orders.order(asked, values=values, background=background)
        started = Started(self._rooms.manager)
        await started.add(order)
        return Made(run=started.runs[0], order=order, started=started)

    async def batch(self, request: Request[Any, Any, Any]) -> list[Run]:
        """All runs that a request asks for; if one cannot be made, none is left behind."""
        sent = await read_body(cast(Receive, request.receive))
        bodies = fitting(sent, self._many, self._rooms.limits)
        if not bodies:
            raise Unprocessable("The body names no run; send a list of at least one.")
        asked = [asked_of(request, body, sent, number=number) for number, body in enumerate(bodies)]
        orders = [await self._orders.order(one, background=True) for one in asked]
        started = Started(self._rooms.manager)
        try:
            for order in orders:
                await started.add(order)
        except BaseException:
            await started.undo()
            raise
        return started.runs

    def shown(self, made: Made, *, threaded: bool = True) -> Response[Record]:
        headers = headers_of(self._mount, made.run, threaded=threaded)
        texts = {name.decode(): value.decode() for name, value in headers}
        return Response(record(made.run), status_code=200, headers=texts)

    def streamed(self, request: Request[Any, Any, Any], made: Made, *, threaded: bool = True) -> ASGIApp:
        reading = Reading(self._mount, self._rooms, made.known, View())
        headers = headers_of(self._mount, made.run, "stream", threaded=threaded)
        delivery = self._delivery(made, headers, self._mount.settings.keepalive)
        return cast(ASGIApp, EventStream(reading.follow, reading, delivery, _refuse(request)))

    def waited(self, request: Request[Any, Any, Any], made: Made) -> ASGIApp:
        agent = self._rooms.agents.named(made.run.agent)
        native = agent is not None and agent.adapter.native
        source, fold = values_of(self._rooms, self._mount, made.known, native=native)
        delivery = self._delivery(made, headers_of(self._mount, made.run, "join"), WAITED)
        return cast(ASGIApp, WholeAnswer(source, fold, delivery, _refuse(request)))

    def _delivery(self, made: Made, headers: tuple[Header, ...], keepalive: float) -> Delivery:
        leaving = made.run.choices.on_disconnect == "cancel"
        return Delivery(
            headers=headers,
            keepalive=keepalive,
            first_byte=0.0,
            send_timeout=self._mount.settings.send_timeout,
            steady=True,
            blank=b"\n",
            on_leave=made.started.stop if leaving else lambda: None,
            comes_back=True,
        )


def asked_of(
    request: Request[Any, Any, Any], body: RunCreate, sent: bytes, *, thread_id: str | None = None, number: int = 0
) -> Asked:
    headers = dict(request.scope["headers"])
    fingerprint = ""
    if headers.get(b"idempotency-key"):
        fingerprint = hashlib.sha256(b"\n".join((request.scope["path"].encode(), sent))).hexdigest()
    return Asked(
        body=body,
        caller=request.scope["state"]["caller"],
        headers=headers,
        fingerprint=fingerprint,
        thread_id=thread_id,
        number=number,
    )


def _refuse(request: Request[Any, Any, Any]) -> Refuse:
    return refusing(Dialect.LANGGRAPH, request.scope["state"]["request_id"])

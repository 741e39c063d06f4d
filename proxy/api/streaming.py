"""How a run reaches a client: the response that streams a log, and the one that waits for its end.

Both watch the client from the first moment. A response owns its generator and closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Generic, Protocol, TypeVar

import structlog

from proxy.api.asgi import Receive, Scope, Send
from proxy.api.client import JSON, UNBUFFERED, Client, Delivery, Reply
from proxy.errors import ProxyError, StreamIncomplete
from proxy.events import Event, Failed, RunStarted
from proxy.runs.worker import failed

logger = structlog.get_logger(__name__)


class Item(Protocol):
    """One thing that a follower yields: an entry, or an entry of one of several runs."""

    @property
    def event(self) -> Event: ...


T = TypeVar("T", bound=Item)
T_contra = TypeVar("T_contra", bound=Item, contravariant=True)


class Wire(Protocol[T_contra]):
    """What a stream needs of its format."""

    media_type: str
    ended: bool
    """The last thing encoded ends the stream."""

    def encode(self, item: T_contra) -> bytes: ...

    def heartbeat(self) -> bytes: ...

    def failure(self, failed: Failed) -> bytes:
        """An error that is no entry of the log."""
        ...

    def end(self) -> bytes: ...


class Fold(Protocol[T_contra]):
    """What an answer in one piece needs of its format."""

    failed: Failed | None

    def feed(self, item: T_contra) -> None: ...

    def answer(self) -> bytes: ...


Follow = Callable[[Callable[[T], bool] | None], AsyncGenerator[list[T]]]
"""Begins to follow; given a sink, see `EventLog.follow`."""
Refuse = Callable[[Failed], Reply]
"""Renders a failure that came before anything was sent."""


class EventStream(Generic[T]):
    """Sends a log as it grows.

    The response starts with the first event that says something, so that an early failure has its real status,
    or after `first_byte` seconds. It ends with the final entry and what the wire puts behind it, in one write.
    """

    def __init__(self, follow: Follow[T], wire: Wire[T], delivery: Delivery, refuse: Refuse) -> None:
        self._batches = follow(self._take)
        self._wire = wire
        self._delivery = delivery
        self._refuse = refuse
        self._client: Client | None = None
        """Set while entries may be written as they are appended."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with Client(scope, receive, send, self._delivery) as client, aclosing(self._batches):
            try:
                await self._run(client)
            except ProxyError as error:
                await self._break(client, failed(error))
            except Exception:
                logger.exception("a stream broke")
                await self._break(client, Failed(code="internal_error", message="The stream broke."))

    async def _run(self, client: Client) -> None:
        held = await self._held(client)
        if held and isinstance(held[-1].event, Failed) and not client.started:
            await client.reply(self._refuse(held[-1].event), self._delivery.headers)
            return
        if not client.started:
            await self._open(client)
        if held and await self._pass(client, held):
            return
        self._client = client
        async for batch in self._batches:
            if await self._pass(client, batch):
                return
        raise StreamIncomplete

    async def _pass(self, client: Client, batch: list[T]) -> bool:
        """Send a batch in one write; True if it was the last."""
        wire = self._wire
        encode = wire.encode
        body = b"".join([encode(item) for item in batch]) if batch else wire.heartbeat()
        if wire.ended:
            await client.finish(body + wire.end())
            return True
        if body:
            await client.write(body)
        return False

    def _take(self, item: T) -> bool:
        """Send one entry in the writer's own turn, if the socket takes it at once."""
        client = self._client
        if client is None or not client.writable:
            return False
        try:
            if body := self._wire.encode(item):
                client.write_now(body)
        except Exception:
            logger.exception("an entry could not be sent")
            self._client = None
            return False
        return True

    async def _held(self, client: Client) -> list[T]:
        """Everything up to the first entry that says something."""
        held: list[T] = []
        if not self._delivery.first_byte:
            return held
        opening = Opening(self, client)
        try:
            async for batch in self._batches:
                held += batch
                if batch and not isinstance(batch[-1].event, RunStarted):
                    break
                if not batch and client.started:
                    await client.write(self._wire.heartbeat())
        finally:
            await opening.close()
        return held

    async def _open(self, client: Client) -> None:
        content_type = (b"content-type", self._wire.media_type.encode())
        await client.start(200, (content_type, *UNBUFFERED, *self._delivery.headers))

    async def _break(self, client: Client, problem: Failed) -> None:
        if client.started:
            await client.finish(self._wire.failure(problem) + self._wire.end())
        else:
            await client.reply(self._refuse(problem), self._delivery.headers)

    async def open_early(self, client: Client) -> None:
        """Start the response before there is anything to say."""
        await self._open(client)
        await client.write(self._wire.heartbeat())


class Opening(Generic[T]):
    """Starts a response when nothing has come by `first_byte`, while its stream goes on waiting."""

    def __init__(self, stream: EventStream[T], client: Client) -> None:
        self._stream = stream
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(stream._delivery.first_byte, self._start)

    def _start(self) -> None:
        self._client.started = True
        self._task = self._loop.create_task(self._stream.open_early(self._client))

    async def close(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            await self._task


class WholeAnswer(Generic[T]):
    """Waits for a run's end and answers in one piece; a failed run has its real status.

    With `delivery.keepalive` set, white space goes out in each silence of that length. The status is 200 from then on.
    """

    def __init__(self, batches: AsyncGenerator[list[T]], fold: Fold[T], delivery: Delivery, refuse: Refuse) -> None:
        self._batches = batches
        self._fold = fold
        self._delivery = delivery
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with Client(scope, receive, send, self._delivery) as client, aclosing(self._batches):
            try:
                reply = await self._fold_all(client)
            except ProxyError as error:
                reply = self._refuse(failed(error))
            except Exception:
                logger.exception("an answer broke")
                reply = self._refuse(Failed(code="internal_error", message="The answer broke."))
            if client.started:
                await client.finish(reply.body)
            else:
                await client.reply(reply, self._delivery.headers)

    async def _fold_all(self, client: Client) -> Reply:
        fold = self._fold
        async for batch in self._batches:
            for item in batch:
                fold.feed(item)
            if fold.failed is not None:
                return self._refuse(fold.failed)
            if not batch:
                if not client.started:
                    await client.start(200, (JSON, *UNBUFFERED, *self._delivery.headers))
                await client.write(b" ")
        return Reply(status=200, headers=(JSON,), body=fold.answer())

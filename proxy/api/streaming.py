"""How a run reaches a client: the response that streams a log, and the one that waits for its end.

Both watch the client from the first moment. A response owns its generator and closes it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar

import structlog

from proxy.api.asgi import Receive, Scope, Send
from proxy.api.client import JSON, UNBUFFERED, Client, Delivery, Header, Reply
from proxy.api.pulse import Pulse
from proxy.errors import Draining, ProxyError, StreamIncomplete
from proxy.events import Event, Failed, RunStarted
from proxy.runs.ends import failed

logger = structlog.get_logger(__name__)


class Item(Protocol):
    """One thing that a follower yields: an entry, or an entry of one of several runs."""

    @property
    def event(self) -> Event: ...


PORTION = 64 * 1024
"""Bytes in one write: for a client that lags, more is ready than should be in memory twice."""

T = TypeVar("T", bound=Item)
T_contra = TypeVar("T_contra", bound=Item, contravariant=True)


class Wire(Protocol[T_contra]):
    """What a stream needs of its format. Knows that and nothing else, and is fed the items in order."""

    media_type: str

    @property
    def ended(self) -> bool:
        """The last thing encoded ends the stream."""
        ...

    def encode(self, item: T_contra) -> bytes:
        """The item's bytes; b"" where this format has no word for it."""
        ...

    def heartbeat(self) -> bytes:
        """Bytes that keep the connection alive and that no client takes for content."""
        ...

    def failure(self, failed: Failed) -> bytes:
        """An error that is no entry of the log."""
        ...

    def end(self) -> bytes:
        """What follows the bytes of the last item."""
        ...


class Fold(Protocol[T_contra]):
    """What an answer in one piece needs of its format."""

    failed: Failed | None

    def feed(self, item: T_contra) -> None: ...

    def answer(self) -> bytes: ...


class Follow(Protocol[T]):
    """`RunManager.follow` of one run, or something like it."""

    def __call__(
        self, *, idle: float, first: float | None = None, sink: Callable[[Any], bool] | None = None
    ) -> AsyncGenerator[list[T]]: ...


Refuse = Callable[[Failed], Reply]
"""Renders a failure that came before anything was sent."""


class EventStream(Generic[T]):
    """Sends a log as it grows.

    The response starts with the first event that says something, so that an early failure has its real status,
    or after `first_byte` seconds. It ends with the final entry and what the wire puts behind it, in one write.
    """

    def __init__(self, follow: Follow[T], wire: Wire[T], delivery: Delivery, refuse: Refuse) -> None:
        self._batches = follow(idle=delivery.keepalive, first=delivery.first_byte or None, sink=self._take)
        self._wire = wire
        self._delivery = delivery
        self._refuse = refuse
        self._client: Client | None = None
        """Set while entries may be written as they are appended."""
        self._pulse: Pulse | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with Client(scope, receive, send, self._delivery) as client:
            async with aclosing(self._batches):
                try:
                    await self._run(client)
                except ProxyError as error:
                    await self._break(client, failed(error))
                except Exception:
                    logger.exception("a stream broke")
                    await self._break(client, Failed(code="internal_error", message="The stream broke."))

    async def _run(self, client: Client) -> None:
        if await self._begin(client):
            return
        self._client = client
        with Pulse(self._delivery.keepalive if self._delivery.steady else 0.0, self._live) as self._pulse:
            async for batch in self._batches:
                if await self._pass(client, batch):
                    return
        raise StreamIncomplete

    def _live(self) -> bool:
        """Send a sign of life in the midst of entries, if the socket takes it at once."""
        client, sign = self._client, self._wire.heartbeat()
        if client is None or not client.writable or not sign:
            return False
        client.write_now(sign)
        return True

    async def _begin(self, client: Client) -> bool:
        """Start the response, with the first entry that says something or when the client must not wait any longer.

        True if that was all.
        """
        held: list[T] = []
        if self._delivery.first_byte:
            async for batch in self._batches:
                held += batch
                if not (batch and isinstance(batch[-1].event, RunStarted)):
                    break
        if held and isinstance(held[-1].event, Failed):
            await client.reply(self._refuse(held[-1].event), self._delivery.headers)
            return True
        content_type = (b"content-type", self._wire.media_type.encode())
        await client.start(200, (content_type, *UNBUFFERED, *self._delivery.headers))
        if held and await self._pass(client, held):
            return True
        silent = not held or isinstance(held[-1].event, RunStarted)
        if silent and self._delivery.first_byte and self._delivery.keepalive:
            await client.write(self._wire.heartbeat())
        return False

    async def _pass(self, client: Client, batch: list[T]) -> bool:
        """Send a batch, in one write if it is not large; True if it was the last."""
        wire = self._wire
        encode = wire.encode
        pieces: list[bytes] = []
        size = 0
        if not batch and (self._pulse is None or self._pulse.due()):
            pieces.append(wire.heartbeat())
        for item in batch:
            pieces.append(piece := encode(item))
            size += len(piece)
            if size > PORTION and not wire.ended:
                await client.write(b"".join(pieces))
                pieces, size = [], 0
        body = b"".join(pieces)
        if wire.ended:
            await client.finish(body + wire.end())
            return True
        if body:
            await client.write(body)
        return False

    def _take(self, item: T) -> bool:
        """Send one entry in the writer's own turn, if the socket takes it at once. What begins may end a stream."""
        client = self._client
        if client is None or not client.writable or type(item.event) is RunStarted:
            return False
        try:
            if body := self._wire.encode(item):
                client.write_now(body)
        except Exception:
            logger.exception("an entry could not be sent")
            self._client = None
            return False
        return True

    async def _break(self, client: Client, problem: Failed) -> None:
        client.give_up()
        if client.started:
            await client.finish(self._wire.failure(problem) + self._wire.end())
        else:
            await client.reply(self._refuse(problem), self._delivery.headers)


class WholeAnswer(Generic[T]):
    """Waits for a run's end and answers in one piece; a failed run has its real status.

    With `delivery.keepalive` set, white space goes out in each silence of that length, or with `steady` that often
    whatever comes. The status is 200 from then on. `headers` are those that only the whole answer tells.
    """

    def __init__(
        self,
        follow: Follow[T],
        fold: Fold[T],
        delivery: Delivery,
        refuse: Refuse,
        headers: Callable[[], tuple[Header, ...]] = tuple,
    ) -> None:
        self._headers = headers
        self._batches = follow(idle=delivery.keepalive, sink=self._take)
        self._fold = fold
        self._delivery = delivery
        self._refuse = refuse
        self._due = math.inf
        """When white space is due though entries come, on the loop's clock."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with Client(scope, receive, send, self._delivery) as client:
            async with aclosing(self._batches):
                reply = await self._reply(client)
            if reply is None:
                return
            if client.started:
                await client.finish(reply.body)
            else:
                await client.reply(reply, self._delivery.headers)

    async def _reply(self, client: Client) -> Reply | None:
        """None if the answer was broken off."""
        try:
            return await self._fold_all(client)
        except ProxyError as error:
            client.give_up()
            # The run goes on elsewhere: an answer that breaks off is asked for again, an error would be taken for it.
            if client.started and isinstance(error, Draining) and client.cut():
                return None
            return self._refuse(failed(error))
        except Exception:
            logger.exception("an answer broke")
            client.give_up()
            return self._refuse(Failed(code="internal_error", message="The answer broke."))

    def _take(self, item: T) -> bool:
        """Fold an entry in the writer's own turn, so that nobody is woken for it, unless there is more to do."""
        if self._is_due() or type(item.event) is RunStarted:  # which may end an answer that had begun
            return False
        try:
            self._fold.feed(item)
        except Exception:
            logger.exception("an entry could not be folded")  # it fails again with the follower, and ends the answer
            return False
        return True

    async def _fold_all(self, client: Client) -> Reply:
        fold = self._fold
        self._put_off()
        async for batch in self._batches:
            for item in batch:
                fold.feed(item)
            if fold.failed is not None:
                return self._refuse(fold.failed)
            if not batch or self._is_due():
                self._put_off()
                if not client.started:
                    await client.start(200, (JSON, *UNBUFFERED, *self._delivery.headers))
                await client.write(self._delivery.blank)
        return Reply(status=200, headers=(JSON, *self._headers()), body=fold.answer())

    def _is_due(self) -> bool:
        return asyncio.get_running_loop().time() >= self._due

    def _put_off(self) -> None:
        if self._delivery.steady and self._delivery.keepalive:
            self._due = asyncio.get_running_loop().time() + self._delivery.keepalive

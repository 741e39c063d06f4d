"""The client of one request: notices at once that it leaves, and drops it if it reads nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

import msgspec
import structlog

from proxy.api.asgi import Receive, Scope, Send

logger = structlog.get_logger(__name__)

Header = tuple[bytes, bytes]
JSON: Header = (b"content-type", b"application/json")
UNBUFFERED: tuple[Header, ...] = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))

RUSH = 0.004
"""Seconds between two writes: tokens that come faster than that, 250 a second, share one."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole response."""

    status: int
    headers: tuple[Header, ...]
    body: bytes

    async def send(self, send: Send) -> None:
        length = (b"content-length", b"%d" % len(self.body))
        await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers, length]})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


class Link(Protocol):
    """The connection under a request, where the server shows it (`scope["state"]["link"]`)."""

    paused: bool
    """The write buffer is above its mark."""

    @property
    def waiting(self) -> int:
        """Bytes in the write buffer."""
        ...

    lost: bool
    """The client has left, or closed its side."""
    on_lost: Callable[[], None] | None
    """Called once when that happens."""

    def write(self, body: bytes) -> None:
        """As `send` of a part of a streamed body, without waiting. Only between its start and its end."""
        ...

    def abort(self) -> None:
        """Cut the connection without writing what is left."""
        ...


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """How a response is sent. Times in seconds; 0 is never."""

    headers: tuple[Header, ...] = ()
    keepalive: float = 15.0
    first_byte: float = 1.0
    """How long the head of a stream waits for the first event that says something; 0: not at all."""
    send_timeout: float = 60.0
    steady: bool = False
    """A stream's signs of life come all the time, and not only in silence: some clients learn their rhythm."""
    blank: bytes = b" "
    """What an answer in one piece gives as a sign of life."""
    on_leave: Callable[[], None]
    """Called if the client goes before the end, or is to be told no more and does not come back."""
    comes_back: bool = False
    """Who is told no more asks again for the rest, here or at another server: that is no leaving."""


class Client:
    """The client of one request; a context manager that cancels the task inside of it when the client leaves."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, delivery: Delivery) -> None:
        self._link: Link | None = scope["state"].get("link")
        self._receive = receive
        self._send = send
        self._delivery = delivery
        self._gone = False
        self._watcher: asyncio.Task[None] | None = None
        self._sending = False
        self._sent = 0
        self._seen = (-1, -1)
        self._done = False
        self._gathered: list[bytes] = []
        self._wrote = 0.0
        """When `write_now` last wrote, on the loop's clock."""
        self.started = False
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = task.get_loop()
        if self._link is None:
            self._watcher = self._loop.create_task(self._watch())
        else:
            self._link.on_lost = self._leave
            if self._link.lost:
                self._leave()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._gathered.clear()
        if self._link is not None:
            self._link.on_lost = None
        if self._watcher is not None:
            self._watcher.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._gone and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            return True
        if not self._done and not self._gone:
            self._delivery.on_leave()
        return False

    async def _watch(self) -> None:
        """For a server that does not show its connections: a task that waits for the client to go."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        if self._gone or self._done:
            return
        self._gone = True
        self._delivery.on_leave()
        if self._link is not None:
            # A client that only closed its own side would else be kept, and be told that the response broke.
            self._link.abort()
        self._task.cancel()

    def _check(self) -> None:
        """Twice in a send timeout: if since the last time no send has ended and no byte has left, none is taken."""
        self._timer = None
        if not self._sending:
            return
        progress = self._progress()
        if self._seen == progress:
            logger.info("a client that reads nothing was dropped")
            self._leave()
            return
        self._seen = progress
        self._timer = self._loop.call_later(self._delivery.send_timeout / 2, self._check)

    def _progress(self) -> tuple[int, int]:
        """Sends that have ended, and bytes that the present one still has to get rid of."""
        return self._sent, 0 if self._link is None else self._link.waiting

    def _time_send(self) -> None:
        """See to it that the send that begins now does not take for ever; one that will not wait needs no timer."""
        self._sending = True
        if self._timer is None and self._delivery.send_timeout and (self._link is None or self._link.paused):
            self._seen = (-1, -1)
            self._timer = self._loop.call_later(self._delivery.send_timeout / 2, self._check)

    async def start(self, status: int, headers: Sequence[Header]) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers]})

    async def reply(self, reply: Reply, headers: Sequence[Header] = ()) -> None:
        """Send a whole response."""
        length = (b"content-length", b"%d" % len(reply.body))
        await self.start(reply.status, (*reply.headers, length, *headers))
        await self.finish(reply.body)

    async def write(self, body: bytes) -> None:
        self._time_send()
        await self._send({"type": "http.response.body", "body": self._all(body), "more_body": True})
        self._sending = False
        self._sent += 1

    @property
    def writable(self) -> bool:
        """It takes more without waiting."""
        link = self._link
        return link is not None and not link.paused and not self._gone

    def write_now(self, body: bytes) -> None:
        """As `write`, for a `writable` client, without a task.

        What comes within `RUSH` of the bytes before it is gathered and goes out when that time is over: a write to
        a socket costs more than all else that is done for a token. A stream that people can follow is never held up.
        """
        now = self._loop.time()
        if now - self._wrote >= RUSH:
            self._wrote = now
            self._put(self._all(body))
            return
        if not self._gathered:
            self._loop.call_later(RUSH, self._flush)
        self._gathered.append(body)

    def _flush(self) -> None:
        if self._gathered and self.writable and not self._done:
            self._wrote = self._loop.time()
            self._put(self._all(b""))

    def _all(self, body: bytes) -> bytes:
        """The bytes with what was gathered before them."""
        if not self._gathered:
            return body
        gathered, self._gathered = self._gathered, []
        return b"".join((*gathered, body))

    def _put(self, body: bytes) -> None:
        if self._link is not None:
            self._link.write(body)

    def give_up(self) -> None:
        """The rest cannot be told: nobody waits for it any more, unless the client comes back."""
        if not self._delivery.comes_back:
            self._delivery.on_leave()

    def cut(self) -> bool:
        """Break the response off, so that nobody takes it for whole. False if the server does not let us."""
        if self._link is None:
            return False
        self._done = True
        self._link.abort()
        return True

    async def finish(self, body: bytes) -> None:
        """Send the last bytes. From here on a leaving client has had everything."""
        self._time_send()
        self._done = True
        await self._send({"type": "http.response.body", "body": self._all(body), "more_body": False})
        self._sending = False
        self._sent += 1

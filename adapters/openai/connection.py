"""One HTTP/1.1 connection as the client has it: one exchange at a time, and no task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import cast

import httptools

from adapters.openai.failures import ConnectionFailed, Silent, Unheard
from proxy.errors import ProxyError, StreamIncomplete, UpstreamError

HEAD_LIMIT = 64 * 1024
HIGH_WATER = 256 * 1024
"""Bytes waiting for a reader; above it the socket is not read."""
LINGER = 1.0
"""Seconds that the rest of a body may take after all that mattered was read, for the connection to be used again."""


class Connection(asyncio.Protocol):
    """`begin` a request, wait for its `head`, `read` its body; leaving the `with` block lets go of the connection.

    It goes back to its pool through `parked` if the body has ended, else it is aborted: at once when the block is
    left by an exception, after `LINGER` when not.
    """

    def __init__(self, parked: Callable[[Connection], None], gone: Callable[[Connection], None]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.lost = False
        self._loop = asyncio.get_running_loop()
        self._parked = parked
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._paused = False
        self._clear()

    def _clear(self) -> None:
        self.status, self.headers = 0, {}
        self._parser = httptools.HttpResponseParser(self)
        self._headed = self._complete = self._heard = self._keep = False
        self._leaving = self._surplus = False
        self._received = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._error: ProxyError | None = None
        self._idle = self._since = 0.0

    # What the client does.

    def begin(self, request: bytes, idle: float) -> None:
        """Send a request. From now on, `idle` seconds without a byte while someone waits are a failure."""
        self._clear()
        self._busy = True
        self.hurry(idle)
        if self._transport is None or self.lost:
            self._error = Unheard()
        else:
            self._transport.write(request)

    async def head(self) -> None:
        """Wait for status and headers. Raises `Unheard` if the connection dies before the first byte."""
        try:
            while not self._headed:
                await self._wait()
        except asyncio.CancelledError:
            self.abort()
            raise

    async def read(self) -> bytes:
        """All bytes of the body that are there, waiting for some if need be; empty at its end, which may be the end
        of the connection: whether anything is missing shows in what was read. Raises `StreamIncomplete` at a reset."""
        while not self._pieces:
            if self._complete:
                return b""
            await self._wait()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._size = [], 0
        if self._paused:
            self._resume()
        return data

    def hurry(self, idle: float) -> None:
        """Change how long a silence may last."""
        if idle != self._idle:
            self._idle = idle
            self._since = self._loop.time()
            self._set_timer(idle, self._tick)

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._busy = self._keep = False
        self._set_timer(0, None)
        if self._transport is not None:
            self._transport.abort()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._complete and self._keep and not self.lost:
            self._park()
        elif kind is not None or self._complete or self._error is not None or not self._keep:
            self.abort()
        else:
            self._leaving = True
            self._pieces, self._size = [], 0
            self._set_timer(LINGER, self.abort)
            self._resume()

    def _park(self) -> None:
        self._busy = False
        self._pieces, self._size = [], 0
        self._set_timer(0, None)
        self._resume()
        self._parked(self)

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._since = self._loop.time()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: ProxyError) -> None:
        self._error = self._error or error
        self._wake()
        if self._transport is not None:
            self._transport.abort()

    def _set_timer(self, seconds: float, then: Callable[[], None] | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, then) if then is not None else None

    def _tick(self) -> None:
        """One timer an exchange, not one a read: it looks when the present silence began."""
        left = self._since + self._idle - self._loop.time() if self._waiter is not None else self._idle
        if left > 0.001:
            self._set_timer(left, self._tick)
        else:
            self._fail(Silent())

    def _resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            self.abort()
            return
        self._heard = True
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._keep = False
            self._fail(UpstreamError("The upstream answered with something that is not HTTP."))
            return
        if not self._headed and self._received > HEAD_LIMIT:
            self._fail(UpstreamError("The upstream sent headers that are larger than this server takes."))
        elif self._leaving:
            self._drain()
        elif self._size > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def _drain(self) -> None:
        size, self._pieces, self._size = self._size, [], 0
        if self._complete and self._keep:
            self._park()
        elif self._complete or size > HEAD_LIMIT:
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._set_timer(0, None)
        if self._headed and error is None and self._error is None:
            self._complete = True
        elif self._busy and not self._complete and self._error is None:
            self._error = StreamIncomplete() if self._headed else ConnectionFailed() if self._heard else Unheard()
        self._wake()
        self._gone(self)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._complete:
            self._surplus, self._keep = True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headed:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._surplus:
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers = {}
            return
        self._headed = True
        self._keep = self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        if self._surplus:
            return
        self._pieces.append(piece)
        self._size += len(piece)

    def on_message_complete(self) -> None:
        self._complete = self.status >= 200

"""One connection of a client: uvicorn's protocol on httptools, with the bounds it lacks.

uvicorn waits for a request for ever and keeps as many bytes of headers as come. Here a request has
`read_timeout` seconds to arrive, in total, and its headers a largest size; what cannot be parsed is refused in
the form of the other errors. httptools, since h11 answers requests that were smuggled behind another's body.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from proxy.api.errors import dialect_of, reply_to
from proxy.errors import BadRequest, HeadersTooLarge, ProxyError, TooSlow
from proxy.settings import RequestLimits

MAX_HEADERS = 64 * 1024
"""Bytes of a request's head that arrive after its first packet; the gate counts exactly."""
SOCKET_HEADERS = 128
SOCKET_LINE = 8000
"""Headers, and bytes of each, that the web socket protocol takes; it says nothing to who sends more."""


def connection(limits: RequestLimits) -> type[asyncio.Protocol]:
    """What `uvicorn.Config(http=...)` wants, under these limits; survives pickling for worker processes."""
    return cast("type[asyncio.Protocol]", partial(Connection, limits=limits))


class Wire:
    """The connection as a request sees it: `link` in its state."""

    __slots__ = ("_transport", "abort", "lost", "on_lost", "paused")

    def __init__(self, transport: asyncio.Transport, abort: Callable[[], None]) -> None:
        self._transport = transport
        self.abort = abort
        self.paused = False
        self.lost = False
        self.on_lost: Callable[[], None] | None = None

    def lose(self) -> None:
        """The client has left, or will say no more, which counts as leaving."""
        self.lost = True
        if self.on_lost is not None:
            on_lost, self.on_lost = self.on_lost, None
            on_lost()

    def write(self, body: bytes) -> None:
        """One chunk, framed as uvicorn's `send` does, for a fraction of what that costs."""
        self._transport.write(b"%x\r\n%b\r\n" % (len(body), body))

    @property
    def waiting(self) -> int:
        return self._transport.get_write_buffer_size()


class Unframed:
    """`send` for a client of HTTP/1.0, which knows no chunks: a body without a length ends with its connection."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._endless = False

    async def __call__(self, message: Any) -> None:
        if self._endless:
            await self._write(message.get("body", b""), more=message.get("more_body", False))
            return
        if message["type"] == "http.response.start" and self._cycle.scope["method"] != "HEAD":
            self._endless = not any(name.lower() == b"content-length" for name, _ in message["headers"])
            if self._endless:
                self._cycle.chunked_encoding = False
        await self._send(message)

    async def _write(self, body: bytes, *, more: bool) -> None:
        cycle = self._cycle
        if not cycle.disconnected:
            await cycle.flow.drain()
        if not cycle.disconnected:
            cycle.transport.write(body)
            if not more:
                cycle.response_complete = True
                cycle.message_event.set()
                cycle.transport.close()
                cycle.on_response()


class Connection(HttpToolsProtocol):
    """Adds deadlines to a connection, and puts itself as a `link` into each request's state."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: RequestLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._read_timeout = limits.read_timeout
        self._deadline: asyncio.TimerHandle | None = None
        self._head = 0
        self._is_socket = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._link = Wire(transport, self._abort)
        self.app_state = {**self.app_state, "link": self._link}
        self._arm()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._link.paused = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self._link.paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._link.lose()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that says no more has left its run, but gets the answer to anything else it asked."""
        self._link.lose()
        if not self._is_answering() or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        return True

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0" and self.cycle is not None:
            del self.scope["state"]["link"]
            self.cycle.send = Unframed(self.cycle)  # type: ignore[method-assign]

    def data_received(self, data: bytes) -> None:
        in_head = self._in_head()
        super().data_received(data)
        if self._is_socket or self.transport.is_closing():
            return
        if not self._in_head():
            self._head = 0
        elif in_head:
            self._head += len(data)
            if self._head > MAX_HEADERS:
                self._refuse(HeadersTooLarge(f"The headers are larger than {MAX_HEADERS} bytes."))
                return
        if self._is_owed():
            self._arm()
        else:
            self._disarm()

    def handle_websocket_upgrade(self) -> None:
        """The connection is a web socket's from here on, and no longer ours: that protocol has bounds of its own."""
        longest = max((len(name) + len(value) for name, value in self.headers), default=0)
        if len(self.headers) > SOCKET_HEADERS or max(longest, len(self.url)) > SOCKET_LINE:
            self._refuse(HeadersTooLarge(f"A header of a web socket's request is larger than {SOCKET_LINE} bytes."))
            return
        self._disarm()
        self._is_socket = True
        self.app_state = {name: value for name, value in self.app_state.items() if name != "link"}
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest(msg))

    def _in_head(self) -> bool:
        """No request has begun, or the head of the latest is not complete."""
        return self.scope is None or "method" not in self.scope

    def _is_owed(self) -> bool:
        """The client owes us the rest of a request; a body goes on arriving behind an early answer, too."""
        return self._in_head() or self.cycle.more_body or self.cycle.response_complete

    def _arm(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._read_timeout, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        in_head = self._in_head()
        if in_head and self._is_answering():
            # The next request, sent ahead, is slow: no reason to cut the answer to this one.
            self._arm()
        elif self._is_answering() or (in_head and self.scope is not None):
            self._refuse(TooSlow(f"The request did not arrive within {self._read_timeout:g} seconds."))
        else:
            self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, error: ProxyError) -> None:
        """Answer in place of the application, if nothing was sent yet, and close."""
        if not self.transport.is_closing() and not (self._is_answering() and self.cycle.response_started):
            self.transport.write(self._rendered(error))
        self._disarm()
        self._leave_off()
        self.transport.close()

    def _abort(self) -> None:
        """Cut the connection; nobody is to be told that the answer is not complete."""
        self._leave_off()
        self.transport.abort()

    def _leave_off(self) -> None:
        """Let the answer under way go nowhere."""
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _rendered(self, error: ProxyError) -> bytes:
        path, request_id = "", f"req-{os.urandom(9).hex()}"
        if self._is_answering():
            path = self.cycle.scope["path"]
            request_id = self.cycle.scope["state"].get("request_id", request_id)
        reply = reply_to(error, dialect_of(path), request_id)
        head = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}".encode()]
        head += [name + b": " + value for name, value in reply.headers]
        head += [b"x-request-id: " + request_id.encode(), b"content-length: %d" % len(reply.body), b"connection: close"]
        return b"\r\n".join([*head, b"", reply.body])

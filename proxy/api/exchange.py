"""A request at the gate: what matters of its headers, and the way out for its answer."""

from __future__ import annotations

import time
from collections.abc import Coroutine, MutableMapping
from typing import Any

from proxy.api.asgi import Message, Scope, Send
from proxy.api.auth import Caller
from proxy.api.client import Header, Reply
from proxy.api.errors import dialect_of, reply_to
from proxy.errors import NotFound, ProxyError

WORKFLOWS = "/api/v1/"
"""Where the workflow dialect stands, whose clients have a header of their own for the id of a request."""
_NOBODY = Caller()
"""The caller of a public path."""
_WATCHED = frozenset(
    {
        b"x-request-id",
        b"x-modelrelay-request-id",
        b"content-length",
        b"transfer-encoding",
        b"content-encoding",
        b"origin",
        b"host",
        b"access-control-request-method",
        b"access-control-request-headers",
    }
)


class WatchedHeaders:
    """The headers of a request that matter at the gate."""

    __slots__ = (
        "chunked",
        "encoding",
        "headers",
        "host",
        "length",
        "origin",
        "preflight",
        "request_id",
        "size",
        "wanted",
    )

    def __init__(self, headers: list[Header]) -> None:
        size = 0
        known: dict[bytes, bytes] = {}
        for name, value in headers:
            size += len(name) + len(value)
            if name in _WATCHED:
                known[name] = value
        get = known.get
        self.headers = headers
        self.size = size
        self.request_id = get(b"x-modelrelay-request-id") or get(b"x-request-id")
        self.length = get(b"content-length")
        self.chunked = b"transfer-encoding" in known
        self.encoding = get(b"content-encoding", b"").strip().lower()
        self.origin = get(b"origin")
        self.host = get(b"host", b"")
        self.preflight = b"access-control-request-method" in known
        self.wanted = get(b"access-control-request-headers", b"")


class Exchange:
    """One request and its answer: what the log line tells of it, and the way out."""

    __slots__ = (
        "_send",
        "began",
        "counted",
        "extra",
        "method",
        "path",
        "request_id",
        "run_id",
        "state",
        "status",
        "tenant",
    )

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self.began = time.perf_counter()
        self.method: str = scope.get("method", "WEBSOCKET")
        path: str = scope["path"]
        if root := scope.get("root_path"):
            path = path.removeprefix(root) or "/"
        self.path = path
        self.state: MutableMapping[str, Any] = scope.setdefault("state", {})
        self.state["caller"] = _NOBODY
        self.status = 0
        self.counted = False
        self.tenant: str | None = None
        self.run_id: str | None = None

    def identify(self, request_id: bytes) -> None:
        self.request_id = self.state["request_id"] = request_id.decode()
        self.extra: tuple[Header, ...] = ((b"x-request-id", request_id),)
        if self.path.startswith(WORKFLOWS):
            self.extra += ((b"x-modelrelay-request-id", request_id),)

    def name(self, caller: Caller) -> None:
        self.state["caller"] = caller
        self.tenant = caller.tenant

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        """The application's way out; no coroutine of its own, for a stream goes through here chunk by chunk."""
        if message["type"] == "http.response.start":
            message = self._dressed(message)
        return self._send(message)

    def _dressed(self, message: Message) -> Message:
        self.status = message["status"]
        headers = [*message.get("headers", ()), *self.extra]
        for name, value in headers:
            if name == b"x-run-id":
                self.run_id = value.decode("latin-1")
        return {**message, "headers": headers}

    async def reply(self, reply: Reply) -> None:
        await reply.send(self.send)

    async def fail(self, error: ProxyError) -> None:
        """Answer with an error; once the response has started, whoever runs us cuts the connection instead."""
        if not self.status:
            await self.reply(reply_to(error, dialect_of(self.path), self.request_id))


class Handshake(Exchange):
    """A request for a web socket: refused as any other; once it is accepted, all else is said on the socket."""

    __slots__ = ()

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        kind = message["type"]
        if kind == "websocket.accept":
            message = self._dressed({**message, "status": 101})
        elif kind == "http.response.start":
            message = {**self._dressed(message), "type": "websocket.http.response.start"}
        elif kind == "http.response.body":
            message = {**message, "type": "websocket.http.response.body"}
        elif kind == "websocket.close" and not self.status:
            return self.fail(NotFound("There is no web socket at this path."))
        return self._send(message)

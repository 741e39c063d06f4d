"""A pooled HTTP/1.1 client for one upstream. It follows no redirects and retries nothing but a stale connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import SplitResult

from adapters.openai.connection import Connection
from adapters.openai.failures import Unheard
from adapters.openai.routes import Route, route_to

POOL = 200
"""Connections kept open while nobody uses them."""
STALE = 60.0
"""Seconds after which an unused connection is no longer trusted."""


class Client:
    """Requests to one base URL. Build it in the loop that uses it."""

    def __init__(self, url: SplitResult, headers: Mapping[str, str], *, connect: float, idle: float) -> None:
        self._url = url
        self._route: Route = route_to(url)
        self._connect = connect
        self._idle = idle
        self._pool: dict[Connection, float] = {}
        self._open: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in self._fixed(headers).items())

    def _fixed(self, headers: Mapping[str, str]) -> dict[str, str]:
        fixed = {"host": self._route.authority, "accept-encoding": "identity", **headers}
        proxy = self._route.proxy
        if proxy is not None and proxy.authorization and self._route.relayed:
            fixed["proxy-authorization"] = proxy.authorization
        return fixed

    async def ask(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Connection:
        """POST the body, or GET without one, and wait for status and headers; use the answer in a `with` block."""
        request = self._request(path, body, headers or {})
        while True:
            connection = self._pooled()
            fresh = connection is None
            connection = connection or await self._connected()
            connection.begin(request, self._idle)
            try:
                await connection.head()
            except Unheard:
                if fresh:
                    raise
            else:
                return connection

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._open):
            connection.abort()

    def _request(self, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        origin = f"http://{self._route.authority}" if self._route.relayed else ""
        query = f"?{self._url.query}" if self._url.query else ""
        lines = [f"{'GET' if body is None else 'POST'} {origin}{self._url.path.rstrip('/')}{path}{query} HTTP/1.1\r\n"]
        lines.append(self._headers)
        lines.extend(f"{name}: {value}\r\n" for name, value in headers.items())
        if body is not None:
            lines.append(f"content-type: application/json\r\ncontent-length: {len(body)}\r\n")
        return "".join((*lines, "\r\n")).encode("latin-1") + (body or b"")

    async def _connected(self) -> Connection:
        connection = Connection(self._park, self._forget)
        await self._route.connect(connection, self._connect)
        self._open.add(connection)
        return connection

    def _pooled(self) -> Connection | None:
        """The connection that was used last, if it was not too long ago."""
        while self._pool:
            connection, since = self._pool.popitem()
            if not connection.lost and self._loop.time() - since < STALE:
                return connection
            connection.abort()
        return None

    def _park(self, connection: Connection) -> None:
        if len(self._pool) >= POOL:
            connection.abort()
        else:
            self._pool[connection] = self._loop.time()

    def _forget(self, connection: Connection) -> None:
        self._pool.pop(connection, None)
        self._open.discard(connection)

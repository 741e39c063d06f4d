"""How to reach the upstream: the parts of its URL, TLS, and the proxy that the environment names."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from typing import cast
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec

from adapters.openai.connection import HEAD_LIMIT, Connection
from adapters.openai.failures import ConnectionFailed, ConnectTimeout, Rejected
from proxy.errors import ConfigError, UpstreamError


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy; `authorization` is the value of its header, or empty."""

    host: str
    port: int
    authorization: str = ""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The way to one origin."""

    host: str
    port: int
    authority: str
    """What stands in the `Host` header."""
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None

    @property
    def relayed(self) -> bool:
        """True where the proxy itself reads our requests, so that they carry the whole URL."""
        return self.proxy is not None and self.tls is None

    async def connect(self, connection: Connection, limit: float) -> None:
        """Connect within `limit` seconds, TLS included. Raises `UpstreamError`s that say what went wrong."""
        try:
            async with asyncio.timeout(limit):
                await self._connect(connection)
        except TimeoutError as error:
            raise ConnectTimeout() from error
        except socket.gaierror as error:
            raise ConnectionFailed("The upstream's host name could not be resolved.") from error
        except ssl.SSLError as error:
            raise Rejected("The upstream's TLS certificate or protocol was not accepted.") from error
        except ConnectionRefusedError as error:
            raise ConnectionFailed("The upstream refused the connection.") from error
        except OSError as error:
            raise ConnectionFailed() from error

    async def _connect(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        if self.proxy is None:
            await loop.create_connection(lambda: connection, self.host, self.port, ssl=self.tls)
        elif self.tls is None:
            await loop.create_connection(lambda: connection, self.proxy.host, self.proxy.port)
        else:
            await self._tunnel(connection, self.proxy, self.tls)

    async def _tunnel(self, connection: Connection, proxy: Proxy, tls: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        _, tunnel = await loop.create_connection(Tunnel, proxy.host, proxy.port)
        try:
            transport = await tunnel.ask(_connect_request(f"{_bracketed(self.host)}:{self.port}", proxy))
            secured = await loop.start_tls(transport, connection, tls, server_hostname=self.host)
        except BaseException:
            tunnel.transport.abort()
            raise
        if secured is None:
            raise ConnectionResetError
        connection.connection_made(secured)


class Tunnel(asyncio.Protocol):
    """A connection to a proxy until it says that the way is open."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._answer = b""
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ask(self, request: bytes) -> asyncio.Transport:
        """Send a CONNECT and wait for its answer."""
        self.transport.write(request)
        await self._open
        return self.transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._open.done():
            self.transport.abort()
        elif b"\r\n\r\n" in self._answer:
            self._judge()
        elif len(self._answer) > HEAD_LIMIT:
            self._open.set_exception(UpstreamError("The proxy sent headers that are larger than this server takes."))

    def _judge(self) -> None:
        status = self._answer.split(b"\r\n", 1)[0].split(b" ")[1:2]
        if status == [b"200"]:
            self._open.set_result(None)
        elif status == [b"407"]:
            self._open.set_exception(Rejected("The proxy between this server and the model asks for credentials."))
        else:
            self._open.set_exception(ConnectionFailed("The proxy could not reach the upstream."))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._open.done():
            self._open.set_exception(ConnectionFailed("The proxy closed the connection."))


def route_to(url: SplitResult) -> Route:
    """The route to a URL as the environment has it now. Raises `ConfigError` for a proxy we cannot speak to."""
    host, secure = url.hostname or "", url.scheme == "https"
    return Route(
        host=host,
        port=url.port or (443 if secure else 80),
        authority=_bracketed(host) + (f":{url.port}" if url.port else ""),
        tls=_context() if secure else None,
        proxy=_proxy_for(url.scheme, f"{host}:{url.port}" if url.port else host),
    )


def _context() -> ssl.SSLContext:
    """Verifies against the system's store, or what SSL_CERT_FILE and SSL_CERT_DIR name."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy_for(scheme: str, host: str) -> Proxy | None:
    proxies = getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    if not found or proxy_bypass(host):
        return None
    try:
        parts = urlsplit(found if "://" in found else f"http://{found}")
        port = parts.port or 80
    except ValueError as error:
        raise ConfigError(
            f"environment: the proxy for {scheme} is not a URL; write it like http://proxy:3128"
        ) from error
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(f"environment: the proxy for {scheme} must be an http:// URL, like http://proxy:3128")
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    basic = "Basic " + base64.b64encode(user.encode()).decode() if parts.username is not None else ""
    return Proxy(parts.hostname, port, basic)


def _connect_request(target: str, proxy: Proxy) -> bytes:
    lines = [f"CONNECT {target} HTTP/1.1", f"host: {target}"]
    if proxy.authorization:
        lines.append(f"proxy-authorization: {proxy.authorization}")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

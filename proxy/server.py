"""Runs an app on a socket: uvicorn, bounded where a client may dawdle, and with an end that waits for the runs.

For the command line and for tests; the app itself does not know what serves it.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

import uvicorn

from proxy.api.connection import connection
from proxy.errors import ConfigError, ProxyError
from proxy.settings import Settings

BACKLOG = 4096
KEEP_ALIVE = 75
FLUSH = 3
"""Seconds for the last bytes of streams whose runs have ended."""
LEFTOVERS = 2.0
"""Seconds for tasks and threads that an agent left behind."""

VANISHED = 60.0
"""Seconds after which a client that does not confirm anything any more is taken for gone."""
CONNECTIONS = {
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_NOTSENT_LOWAT": 128 * 1024,
}
"""In a silence, clients are asked for a sign of life. And the kernel buffers no more for a slow reader than these
bytes: its own choice is megabytes, which hide for long that nobody reads."""

GARBAGE = (10_000, 20, 50)
"""Collector thresholds: a run makes some hundred objects, which go by themselves."""


class App(Protocol):
    """An ASGI app with lifespan, and with an end to its runs."""

    def __call__(self, scope: Any, receive: Any, send: Any, /) -> Awaitable[None]: ...

    async def drain(self) -> None:
        """Refuse new work; return when running streams have ended or their time is over."""


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket on that address, not listening yet; port 0 takes any free one. Several that are `shared` may be bound to
    one port: the system spreads the connections over those that listen. Raises `ConfigError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        cure = "choose another port with --port" if taken else "choose another address with --host"
        raise ConfigError(f"cannot listen on {host}, port {port}: {error.strerror}; {cure}") from error
    return bound


def watch(bound: socket.socket, patience: float) -> None:
    """Set what every connection taken on this socket inherits, as far as the system knows it.

    One that does not take what was sent for `patience` seconds is closed, though its host be gone without a word.
    """
    options = {**CONNECTIONS, "TCP_USER_TIMEOUT": int(patience * 1000)}
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:
            bound.setsockopt(socket.IPPROTO_TCP, option, value)


def url(bound: socket.socket) -> str:
    """Where a client on this machine finds the socket, without a path."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: App, settings: Settings, bound: socket.socket | None, started: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, drain, return. `started` is called once, when requests are being served.
    Without a socket, the app lives its life and nobody reaches it.

    A second signal ends the process at once, and so does, in the end, an agent that does not let go. Raises the
    `ProxyError` that kept the app from starting.
    """
    _Owner(app, settings, started).until_told(bound)


@contextmanager
def running(app: App, settings: Settings, bound: socket.socket) -> Iterator[str]:
    """Serve from a thread of its own; yields the URL, without a path. Raises as `run` does."""
    up = threading.Event()
    server = Server(app, settings, up.set)
    failures: list[ProxyError] = []

    def serve() -> None:
        try:
            server.until_told(bound)
        except ProxyError as error:
            failures.append(error)
        finally:
            up.set()

    thread = threading.Thread(target=serve, name="server", daemon=True)
    thread.start()
    up.wait()
    if failures:
        raise failures[0]
    try:
        yield url(bound)
    finally:
        server.should_exit = True
        thread.join(settings.server.drain + FLUSH + LEFTOVERS)


def longest_end(settings: Settings) -> float:
    """Seconds after the first signal by which a process has ended, whatever its agents do."""
    return settings.server.drain + settings.runs.cancel_grace + FLUSH + LEFTOVERS


class Server(uvicorn.Server):
    """uvicorn's server, which drains the app before it lets the connections go."""

    def __init__(self, app: App, settings: Settings, started: Callable[[], None]) -> None:
        self._app = app
        self._lifespan = _Lifespan(app)
        self._tell = started
        self._patience = max(VANISHED, settings.dialects.chat.send_timeout)
        super().__init__(_uvicorn(self._lifespan, settings))

    def until_told(self, bound: socket.socket | None) -> None:
        """Serve until `should_exit` is set."""
        sockets = [] if bound is None else [bound]
        for each in sockets:
            watch(each, self._patience)
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            try:
                runner.run(self.serve(sockets=sockets))
            except SystemExit:
                raise self._lifespan.fault or ConfigError("the server did not start; the log says why") from None
            self.served()

    def served(self) -> None:
        """Called when all is served and only leftovers of agents may be alive."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for bound in sockets or ():
            bound.close()
        await self._app.drain()
        await super().shutdown(sockets)


class _Owner(Server):
    """A server that owns its process: it hears signals, and no agent keeps it from ending."""

    def __init__(self, app: App, settings: Settings, started: Callable[[], None]) -> None:
        super().__init__(app, settings, started)
        self._longest = longest_end(settings)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is here now stays: looking through it again and again would cost a tenth of the time of each request.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            _leave()
        self.should_exit = True
        _end_after(self._longest)

    def served(self) -> None:
        _end_after(LEFTOVERS)


def _end_after(seconds: float) -> None:
    """End the process by then, whatever tasks and threads still run; what they were doing is settled at next start."""
    timer = threading.Timer(seconds, _leave)
    timer.daemon = True
    timer.start()


def _leave() -> None:
    """End the process at once, but for the last lines of its log."""
    logging.shutdown()
    os._exit(0)


class _Lifespan:
    """The app, with a memory for what kept it from starting, which uvicorn would only log."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.fault: ProxyError | None = None

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self._lived(scope, receive, send)
        return self.app(scope, receive, send)

    async def _lived(self, scope: Any, receive: Any, send: Any) -> None:
        failed: list[Any] = []

        async def hold(message: Any) -> None:
            if message["type"] == "lifespan.startup.failed":
                failed.append(message)
            else:
                await send(message)

        try:
            await self.app(scope, receive, hold)
        except ProxyError as error:
            self.fault = error
            await send({"type": "lifespan.startup.failed", "message": ""})
        finally:
            if self.fault is None and failed:
                await send(failed[0])


def _uvicorn(app: _Lifespan, settings: Settings) -> uvicorn.Config:
    server = settings.server
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=connection(settings.server.limits),
        loop="uvloop" if os.name == "posix" else "asyncio",
        ws="websockets-sansio",
        ws_max_size=server.limits.body,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(server.trusted_proxies),
        forwarded_allow_ips=list(server.trusted_proxies),
        root_path=server.root_path,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=FLUSH,
    )

"""A real server in a thread, with a small application behind the gate, and raw sockets to talk to it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import uvicorn
from litestar.types import ASGIApp

from proxy.api.auth import Auth
from proxy.api.connection import connection
from proxy.api.gate import Gate
from proxy.api.parse import decode, read_body
from proxy.settings import RequestLimits, Server, Settings

QUICK = RequestLimits(body=100_000, read_timeout=0.4)
KEY = "sk-right"


class Answer(msgspec.Struct):
    """A response as it stood on the wire; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def settings(**server: Any) -> Settings:
    return Settings(server=Server(**{"limits": QUICK, "api_keys": (KEY,), **server}), agents={})


class Probe:
    """The application behind the gate: does what the path says, and counts what reaches it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.states: list[dict[str, Any]] = []
        self._decoder = msgspec.json.Decoder(dict[str, Any])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.seen.append((scope["method"], scope["path"]))
        self.states.append(scope["state"])
        body = b"ok"
        if scope["path"].endswith("/crash"):
            raise RuntimeError("the secret inside")
        if scope["method"] == "POST":
            fields = decode(await read_body(receive), self._decoder, QUICK)
            body = msgspec.json.encode(sorted(fields))
        headers = [(b"content-length", b"%d" % len(body)), (b"x-run-id", b"run-1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"].endswith("/break"):
            raise RuntimeError("too late")
        await send({"type": "http.response.body", "body": body, "more_body": False})


def gated(app: ASGIApp, config: Settings, draining: Callable[[], bool] = lambda: False) -> Gate:
    return Gate(app, config, Auth(config.server), draining=draining)


@contextmanager
def served(app: Any, limits: RequestLimits = QUICK) -> Iterator[int]:
    """Serve `app` as the product does; gives the port."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=connection(limits),
        loop="uvloop",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    started = threading.Event()
    ports: list[int] = []

    async def run() -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        ports.append(listener.getsockname()[1])
        started.set()
        await server.serve([listener])

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert started.wait(10)
        yield ports[0]
    finally:
        server.should_exit = True
        thread.join(10)


def opened(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def head(method: str, path: str, headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def rest(sock: socket.socket) -> bytes:
    """Everything until the server closes; empty after a reset."""
    pieces: list[bytes] = []
    with suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def answers(wire: bytes, method: str = "GET") -> list[Answer]:
    """The responses in these bytes; fails if they are not well formed."""
    found = []
    while wire:
        top, _, wire = wire.partition(b"\r\n\r\n")
        status, *lines = top.decode("latin-1").split("\r\n")
        if status.split()[1] == "100":
            continue
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = 0 if method == "HEAD" else int(headers["content-length"])
        found.append(Answer(int(status.split()[1]), headers, wire[:length]))
        wire = wire[length:]
    return found


def ask(
    port: int, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"", key: str = KEY
) -> Answer:
    """One request on a connection of its own."""
    given = {"connection": "close", **({"authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
    if body and "transfer-encoding" not in given:
        given.setdefault("content-length", str(len(body)))
    with opened(port) as sock:
        with suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(head(method, path, given) + body)
        (answer,) = answers(rest(sock), method)
    return answer

"""A receiver of webhooks on a real socket, in the test's own loop, that behaves as badly as it is told to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import msgspec

Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What becomes of one call, once it was read."""


def says(status: int, *headers: str) -> Act:
    """Answers at once."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (f"HTTP/1.1 {status} X", *headers, "Content-Length: 0", "", "")
        writer.write("\r\n".join(lines).encode())

    return act


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the call and never answers."""
    await reader.read()


async def drops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the call and hangs up."""


async def trickles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends a header a byte at a time, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.005)


async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the call, and answers with a body that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


async def swells(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends headers without end."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 60_000 + b"\r\n")
        await writer.drain()


class Call(msgspec.Struct, frozen=True):
    """One call as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Does `acts` in turn, a call each, and says 200 when there are none left."""

    def __init__(self, *acts: Act) -> None:
        self.acts = list(acts)
        self.calls: list[Call] = []
        self.connections = 0
        self.port = 0
        self.left = asyncio.Event()
        """Set once a caller has hung up, or was hung up on."""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                self.calls.append(await self._read(reader))
                act = self.acts.pop(0) if self.acts else says(200)
                await act(reader, writer)
        finally:
            self.left.set()
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Call:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in rest)}
        return Call(line, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@asynccontextmanager
async def receiving(
    *acts: Act, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    receiver = Receiver(*acts)
    server = await asyncio.start_server(receiver.take, host, port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()

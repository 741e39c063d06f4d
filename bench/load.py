"""The load: raw connections that count tokens as they arrive, and the scenarios made of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec

from bench.process import Process
from bench.spec import Report, Spec

reports = msgspec.json.Decoder(Report).decode
numbers = itertools.count(1)


class Wrong(Exception):
    """An answer was not what was asked for: the figures would mean nothing."""


class Connection(asyncio.Protocol):
    """One client; `ask` sends a request and returns when the whole answer is there."""

    def __init__(self) -> None:
        self.tokens = 0
        self.begun = asyncio.Event()
        """A token has arrived."""
        self._answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, model: str, spec: Spec, stream: bool) -> asyncio.Future[None]:
        self.tokens, self._head, self._tail = 0, b"", b""
        self._left: int | None = None
        self._answered = asyncio.get_running_loop().create_future()
        asked = {"model": model, "messages": [{"role": "user", "content": spec.text}], "stream": stream}
        body = json.dumps(asked).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        self.transport.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        return self._answered

    async def ask(self, model: str, spec: Spec, stream: bool = True) -> None:
        await self.send(model, spec, stream)
        if not self._head.startswith(b"HTTP/1.1 200") or self.tokens != spec.tokens:
            raise Wrong(f"{self.tokens} of {spec.tokens} tokens: {(self._head + self._tail)[:400]!r}")

    def data_received(self, data: bytes) -> None:
        if self._answered is None or self._answered.done():
            return
        if b"\r\n\r\n" not in self._head:
            self._head += data
            self._head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head += end
            length = self._head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            self._left = int(length) if length else None
        self.tokens += data.count(b"~")
        self._tail = (self._tail + data)[-400:]
        if self.tokens:
            self.begun.set()
        if self._left is not None:
            self._left -= len(data)
        if self._left == 0 or (self._left is None and self._tail.endswith(b"\r\n0\r\n\r\n")):
            self._answered.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.begun.set()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(Wrong(f"the connection was lost: {self._head[:200]!r}"))
            self._answered.exception()  # whoever left on purpose does not ask for it


class Reports(asyncio.DatagramProtocol):
    """When which source ended."""

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}

    def datagram_received(self, data: bytes, address: object) -> None:
        report = reports(data)
        self.ends[report.number] = report.at


class Load:
    """Scenarios against one server and one of its models. Each returns the figure that its name says."""

    def __init__(self, server: Process, model: str, seen: Reports, seconds: float) -> None:
        self._server = server
        self._model = model
        self._seen = seen
        self._seconds = seconds

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self._server.port)
        return connection

    async def _clients(self, count: int, spec: Callable[[], Spec], stream: bool, stagger: float = 0.0) -> int:
        """So many clients, each asking again and again until the time is over; returns the number of answers."""
        end = time.monotonic() + self._seconds
        answers = 0

        async def client() -> None:
            nonlocal answers
            await asyncio.sleep(random.random() * stagger)
            connection = await self._open()
            while time.monotonic() < end:
                await connection.ask(self._model, spec(), stream)
                answers += 1
            connection.transport.close()

        await asyncio.gather(*(client() for _ in range(count)))
        return answers

    async def _cost(self, work: Awaitable[int]) -> float:
        """Microseconds of CPU for each answer."""
        before = self._server.cpu
        answers = await work
        return (self._server.cpu - before) * 1e6 / answers

    async def saturated(self) -> float:
        """Microseconds a token: 16 streams of 200 tokens, as fast as they are taken."""
        return await self._cost(self._clients(16, lambda: Spec(tokens=200), True)) / 200

    async def short(self) -> float:
        """Microseconds a stream of one token."""
        return await self._cost(self._clients(16, lambda: Spec(tokens=1), True))

    async def whole(self) -> float:
        """Microseconds an answer of 16 tokens that is not streamed."""
        return await self._cost(self._clients(16, lambda: Spec(tokens=16), False))

    async def paced(self) -> float:
        """Microseconds a token: 300 streams of 60 tokens, 20 a second each."""
        spec = Spec(tokens=60, rate=20, stamped=True)
        return await self._cost(self._clients(300, lambda: spec, True, stagger=3.0)) / 60

    async def idle(self, count: int = 4000) -> float:
        """KiB of memory for each stream that is silent after its first token."""
        before = self._server.memory
        connections = []
        for _ in range(count // 50):
            some = await asyncio.gather(*(self._open() for _ in range(50)))
            for connection in some:
                connection.send(self._model, Spec(tokens=2, silence=600), True)
            await asyncio.wait_for(asyncio.gather(*(each.begun.wait() for each in some)), 30)
            connections += some
        await asyncio.sleep(2)
        grown = self._server.memory - before
        for connection in connections:
            connection.transport.abort()
        await asyncio.sleep(2)
        return grown / 1024 / count

    async def leave(self, count: int = 100) -> float:
        """Milliseconds from a client's leaving to the end of its source, the median."""
        left: dict[int, int] = {}

        async def client() -> None:
            await asyncio.sleep(random.random() * 1.5)
            connection, number = await self._open(), next(numbers)
            connection.send(self._model, Spec(tokens=400, rate=20, number=number), True)
            await connection.begun.wait()
            await asyncio.sleep(0.2 + random.random() / 2)
            connection.transport.abort()
            left[number] = time.monotonic_ns()

        await asyncio.gather(*(client() for _ in range(count)))
        await asyncio.sleep(0.5)
        missing = left.keys() - self._seen.ends.keys()
        if missing:
            raise Wrong(f"{len(missing)} sources run on although their clients left")
        return statistics.median(self._seen.ends[number] - at for number, at in left.items()) / 1e6

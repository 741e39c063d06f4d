"""A connection to Redis that listens, and comes back by itself when it is lost."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import structlog
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError

logger = structlog.get_logger(__name__)

ALIVE = 5.0
"""Seconds after which the connection has to show that it is there; after twice that it counts as lost."""
SHORTEST = 0.1
LONGEST = 3.0
"""Seconds from a connection that was lost, or could not be had, to the next try."""
TOGETHER = 500
"""Channels that one command names."""
FAULTS = (RedisError, OSError, TimeoutError, RuntimeError)
"""`RuntimeError` is what uvloop has for a connection that breaks just as it is written to."""


class Ear(Protocol):
    """Who hears. None of this may raise or wait, but for `prove`."""

    async def prove(self) -> None:
        """Raises one of `FAULTS` unless what else is needed of Redis works too."""
        ...

    def turn(self, up: bool) -> None:
        """The line is up from now on, or lost: what is published until it is up again is missed."""
        ...

    def joined(self, channel: str) -> None:
        """What is published on this channel from now on is heard."""
        ...

    def hear(self, channel: str, message: bytes) -> None: ...


class Line:
    """Hears what is published on the channels that are wanted. All of it is for the loop's thread."""

    def __init__(self, url: str, ear: Ear) -> None:
        """Raises `ValueError` or `TypeError` for what is no URL of a Redis."""
        self.up = False
        self._pool = ConnectionPool.from_url(url, protocol=2, socket_timeout=None, socket_keepalive=True)
        self._connection()
        self._ear = ear
        self._wanted: set[str] = set()
        self._changed = asyncio.Event()
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._talk: asyncio.Task[None] | None = None
        self._fault: BaseException | None = None
        self._heard = 0.0
        """When something was heard last, on the monotonic clock."""

    def want(self, channel: str) -> None:
        self._wanted.add(channel)
        self._changed.set()

    def drop(self, channel: str) -> None:
        self._wanted.discard(channel)
        self._changed.set()

    async def open(self) -> None:
        """Returns once it hears, or cannot for now."""
        self._task = asyncio.create_task(self._stay(), name="redis-line")
        await self._tried.wait()

    def reset(self, fault: BaseException) -> None:
        """Take the connection for lost."""
        self._fault = fault
        if self._talk is not None:
            self._talk.cancel()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self.up = False

    def _connection(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.connection_class(**self._pool.connection_kwargs)
        return connection

    async def _stay(self) -> None:
        pause = SHORTEST
        while True:
            begun = time.monotonic()
            self._talk = asyncio.create_task(self._listen(), name="redis-talk")
            try:
                await asyncio.wait({self._talk})
            finally:
                self._talk.cancel()
                await asyncio.wait({self._talk})
            self._fail(self._fault if self._talk.cancelled() else self._talk.exception())
            pause = SHORTEST if time.monotonic() - begun > LONGEST else min(pause * 2, LONGEST)
            await asyncio.sleep(pause)

    def _fail(self, fault: BaseException | None) -> None:
        while isinstance(fault, BaseExceptionGroup):
            fault = fault.exceptions[0]
        if not isinstance(fault, FAULTS):
            logger.error("the line to Redis failed", exc_info=fault)
        elif self.up or not self._tried.is_set():
            logger.warning("Redis is away; the store stands in for it", error=f"{type(fault).__name__}: {fault}"[:200])
        if self.up:
            self.up = False
            self._ear.turn(False)
        self._tried.set()

    async def _listen(self) -> None:
        """Listen on one connection, as long as it lasts."""
        connection = self._connection()
        try:
            async with asyncio.timeout(ALIVE):
                await self._ear.prove()
                await connection.connect()  # type: ignore[no-untyped-call]
            async with asyncio.TaskGroup() as group:
                for work in (self._subscribe, self._watch, self._read):
                    group.create_task(work(connection))
        finally:
            await connection.disconnect(nowait=True)

    async def _subscribe(self, connection: AbstractConnection) -> None:
        known: set[str] = set()
        while True:
            self._changed.clear()
            for command, names in (("SUBSCRIBE", self._wanted - known), ("UNSUBSCRIBE", known - self._wanted)):
                ordered = sorted(names)
                for start in range(0, len(ordered), TOGETHER):
                    await connection.send_command(command, *ordered[start : start + TOGETHER])
                known = known | names if command == "SUBSCRIBE" else known - names
            await self._changed.wait()

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            kind, name, *rest = await connection.read_response()
            self._heard = time.monotonic()
            if kind == b"message":
                self._ear.hear(name.decode(), rest[0])
            elif kind == b"subscribe":
                self._rise()
                self._ear.joined(name.decode())

    async def _watch(self, connection: AbstractConnection) -> None:
        self._heard = time.monotonic()
        while time.monotonic() - self._heard < 2 * ALIVE:
            await asyncio.sleep(ALIVE)
            await connection.send_command("PING")
        raise TimeoutError("no answer")

    def _rise(self) -> None:
        if not self.up:
            self.up = True
            logger.info("Redis is there")
            self._ear.turn(True)
            self._tried.set()

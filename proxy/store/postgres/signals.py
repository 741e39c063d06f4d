"""Signals between processes by LISTEN and NOTIFY: one connection listens, the writer's transactions notify."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import psycopg
import structlog
from psycopg import sql

from proxy.store.postgres.payloads import decode
from proxy.store.signals import ANY, Signals, Topic

logger = structlog.get_logger(__name__)

AGAIN = 1.0
"""Seconds from a connection that was lost, or could not be had, to the next try."""
ALIVE = 10.0
"""Seconds of silence after which the connection has to show that it is there."""
Connect = Callable[[], Awaitable[psycopg.AsyncConnection[Any]]]


class PostgresSignals(Signals):
    """Hears what the other processes of a schema tell. `origin` is this one, which has rung its own itself."""

    def __init__(self, origin: str) -> None:
        super().__init__()
        self._origin = origin
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    async def listen(self, connect: Connect, channel: str) -> None:
        """Begin, and go on until `close`; returns once it hears."""
        self._task = asyncio.create_task(self._stay(connect, channel), name="listen")
        listening = asyncio.create_task(self._listening.wait())
        await asyncio.wait({self._task, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()

    async def _stay(self, connect: Connect, channel: str) -> None:
        away = False
        while True:
            try:
                async with await connect() as connection:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    if away:
                        logger.info("signals of other processes are heard again")
                    away = False
                    self._listening.set()
                    self.ring((topic, ANY) for topic in Topic)  # what was told meanwhile is lost
                    await self._hear(connection)
            except (psycopg.Error, OSError, TimeoutError) as error:
                if not away:
                    logger.warning("signals of other processes are not heard", error=str(error)[:200])
                away = True
                await asyncio.sleep(AGAIN)

    async def _hear(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            async for notification in connection.notifies(timeout=ALIVE):
                with suppress(msgspec.MsgspecError):
                    payload = decode(notification.payload)
                    if payload.origin != self._origin:
                        self.ring(payload.signals())
            async with asyncio.timeout(ALIVE):
                await connection.execute("SELECT 1")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

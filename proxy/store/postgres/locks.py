"""What one connection holds for this process, until it lets go or its session ends, however that happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy import Connection, func, select

from proxy.errors import Unavailable
from proxy.store.sql.engine import Reader
from proxy.store.statements.locks import key_of, of_thread

logger = structlog.get_logger(__name__)

AGAIN = 0.01, 0.2
"""Seconds until a lock that somebody else has is tried again: at first, and at most."""
LEADER = "leader"


def try_lock(connection: Connection, name: str) -> bool:
    return bool(connection.execute(select(func.pg_try_advisory_lock(key_of(name)))).scalar())


def unlock(connection: Connection, name: str) -> bool:
    return bool(connection.execute(select(func.pg_advisory_unlock(key_of(name)))).scalar())


def unlock_all(connection: Connection) -> None:
    connection.execute(select(func.pg_advisory_unlock_all()))


class Locks:
    """Threads that this process keeps others off, and whether it is the one that looks after the whole store."""

    def __init__(self, holder: Reader) -> None:
        self._holder = holder

    @asynccontextmanager
    async def thread(self, tenant: str, thread_id: str) -> AsyncIterator[None]:
        """Have the thread: runs of it are neither made nor started elsewhere. Raises `Unavailable`."""
        name = of_thread(tenant, thread_id)
        pause, longest = AGAIN
        had = False
        try:
            while not (had := await self._holder.read(try_lock, name)):
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
            yield
        finally:
            # Also where it is not known to be had: a try whose outcome nobody waited for may have got it.
            await asyncio.shield(self._let_go(name, had=had))

    async def _let_go(self, name: str, *, had: bool) -> None:
        try:
            if not await self._holder.carry_out(unlock, name) and had:
                logger.warning("a thread was not held any more: the connection was lost meanwhile")
        except Unavailable:
            pass  # either it is done later, or the session is gone and its locks with it

    async def lead(self) -> bool:
        """Become, or stay, the one process that looks after what belongs to nobody. It is until its session ends."""
        return await self._holder.read(try_lock, LEADER)

    async def close(self) -> None:
        """Let go of all, so that nobody has to wait until the session has ended."""
        with suppress(Unavailable):
            await self._holder.read(unlock_all)

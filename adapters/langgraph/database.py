"""The connections of a server's graphs to PostgreSQL: one small pool, for checkpoints and memories alike.

What fails because the database is away is tried again, so that a restart of it goes by unseen; after that it is
`Unavailable`, until the database is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import ReadOnlySqlTransaction, UndefinedTable
from psycopg.rows import DictRow, tuple_row
from psycopg_pool import AsyncConnectionPool, PoolClosed
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_exponential

from adapters.langgraph.places import address
from proxy.adapter import Site
from proxy.errors import ConfigError, Unavailable

T = TypeVar("T")
Connection = AsyncConnection[DictRow]

CONNECTIONS = 5
"""At most, for each process: what one process encodes and decodes does not keep more of them busy."""
PATIENCE = 10.0
"""Seconds for which an operation is tried again while the database is away."""
TURN = 2.0
"""Seconds to wait for a free connection before the database counts as away; then a new one is tried."""
SETUP = 60.0
"""Seconds to wait for another process that makes the tables."""
LOCK = 0x72756E776972
"""The advisory lock under which tables are made."""
DEFAULTS = {"connect_timeout": "5", "tcp_user_timeout": "10000", "application_name": "runwire-graphs"}
"""What the URL may say otherwise; a host that is gone without a word is noticed in these times."""
PASSING = ("starting up", "shutting down", "recovery", "too many", "connection slots")
"""What a server says that refuses connections for now."""
AWAY = (psycopg.OperationalError, psycopg.InterfaceError, ReadOnlySqlTransaction)


class Database:
    """One for a server. Open between the first `join` and the last `leave`."""

    @classmethod
    def of(cls, site: Site) -> Database:
        """Raises `ConfigError` for an URL that is none."""
        found = site.shared.get(f"database {site.state}")
        if found is None:
            found = site.shared[f"database {site.state}"] = cls(conninfo(site.state), site.owner)
        assert isinstance(found, Database)
        return found

    def __init__(self, conninfo: str, owner: Callable[[], str | None]) -> None:
        self._conninfo = conninfo
        self.owner = owner
        self._users = 0
        self._lock = asyncio.Lock()
        self._pool: AsyncConnectionPool[Connection] | None = None

    @property
    def pool(self) -> AsyncConnectionPool[Connection]:
        if self._pool is None:
            raise Unavailable("The store is closed.")
        return self._pool

    async def reach(self) -> None:
        """Raises `ConfigError` if the server refuses the connection, and `Unavailable` if there is none."""
        try:
            connection = await AsyncConnection.connect(self._conninfo)
            await connection.close()
        except psycopg.OperationalError as error:
            said = _line(error)
            if ("FATAL" in said or "connection is bad" in said) and not any(each in said for each in PASSING):
                raise ConfigError(f"`store`: {said}; correct the URL, or the rights in PostgreSQL") from error
            raise Unavailable(f"`store`: {said}; start PostgreSQL, or correct the URL") from error

    async def join(self) -> None:
        self._users += 1
        async with self._lock:
            if self._pool is None:
                self._pool = AsyncConnectionPool(
                    self._conninfo,
                    kwargs={"autocommit": True},
                    min_size=0,
                    max_size=CONNECTIONS,
                    timeout=TURN,
                    reconnect_timeout=TURN / 2,
                    open=False,
                )
                await self._pool.open()

    async def leave(self) -> None:
        self._users -= 1
        if not self._users and self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        async with self.pool.connection() as connection:
            yield connection

    async def patiently(self, operation: Callable[[], Awaitable[T]]) -> T:
        """What the operation returns; it is called again while the database is away, and so must bear that.

        Raises `Unavailable`, or `ValueError` for data that the database does not take.
        """
        try:
            return await operation()
        except psycopg.DataError as error:
            raise ValueError(
                "The database takes no text with NUL or half characters, nor numbers that are none."
            ) from error
        except AWAY:
            return await self._again(operation)

    async def _again(self, operation: Callable[[], Awaitable[T]]) -> T:
        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_away),
            stop=stop_after_delay(PATIENCE),
            wait=wait_exponential(multiplier=0.05, max=1),
            reraise=True,
        )

        async def once_more() -> T:
            return await operation()

        try:
            return await retrying(once_more)
        except AWAY as error:
            raise Unavailable("The store cannot be reached now.", retry_after=1) from error

    async def prepare(self, is_made: Callable[[], Awaitable[bool]], make: Callable[[], Awaitable[None]]) -> None:
        """Have tables made by one process at a time; where they are, no more than reading is asked of the role.

        Raises `ConfigError` where they cannot be made, else `Unavailable`.
        """
        try:
            async with asyncio.timeout(SETUP):
                if not await self.patiently(partial(_exists, is_made)):
                    await self.patiently(partial(self._prepare, make))
        except TimeoutError as error:
            raise Unavailable(f"Another process has been making tables for {SETUP:.0f} seconds.") from error
        except psycopg.Error as error:
            raise ConfigError(
                f"`store`: tables for checkpoints and memories cannot be made in the database: {_line(error)}; "
                "let the role of the URL create tables, or `runwire migrate` with one that may"
            ) from error

    async def _prepare(self, make: Callable[[], Awaitable[None]]) -> None:
        """Asks for the lock again and again: a process that waited for it in one long statement would hold up the
        indexes that are made concurrently."""
        async with self.connection() as connection:
            await _lock(connection)
            try:
                await make()
            finally:
                await connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


async def _exists(is_made: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await is_made()
    except UndefinedTable:
        return False


async def _lock(connection: Connection) -> None:
    while True:
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,))
            if await cursor.fetchone() == (True,):
                return
        await asyncio.sleep(0.05)


def _line(error: psycopg.Error) -> str:
    """The first of what PostgreSQL said; further lines quote a statement, or guess."""
    return str(error).strip().partition("\n")[0]


def _is_away(error: BaseException) -> bool:
    return isinstance(error, AWAY) and not isinstance(error, PoolClosed)


def conninfo(url: str) -> str:
    """What libpq is given. Raises `ConfigError`."""
    base, parameters = address(url)
    try:
        return make_conninfo("", **{**DEFAULTS, **conninfo_to_dict(base), **parameters})
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"`store` is no URL of PostgreSQL: {_line(error)}") from error


async def whole(operation: Coroutine[Any, Any, T]) -> T:
    """Let the operation end before a cancel goes on: what comes after must not find it still under way."""
    task = asyncio.get_running_loop().create_task(operation)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise

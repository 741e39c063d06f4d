"""Connections: one that writes, and a few that read, each with threads of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from proxy.errors import Unavailable

T = TypeVar("T")

READERS = 3
BUSY = 2.0
"""Seconds that a lock of somebody else's is waited for."""
PATIENCE = 10.0
"""Seconds after which a read is given up."""
WRITING = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    # Content that was deleted is overwritten: a run that keeps nothing must leave nothing in the file.
    "PRAGMA secure_delete=ON",
    "PRAGMA wal_autocheckpoint=4000",
    "PRAGMA journal_size_limit=67108864",
)
READING = ("PRAGMA query_only=ON",)


def sqlite_engine(path: Path, *, writes: bool) -> Engine:
    """An engine for the one writing connection, or for the reading ones."""
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=1 if writes else READERS,
        max_overflow=0,
        connect_args={"timeout": BUSY, "check_same_thread": False},
        hide_parameters=True,  # errors are logged, content is not
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # or the driver would begin transactions at moments of its own
        for pragma in WRITING if writes else READING:
            connection.execute(pragma).close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def is_busy(error: BaseException) -> bool:
    """True where waiting for a lock was given up: trying again at once would wait as long again."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Reader:
    """Runs queries off the loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._executor = ThreadPoolExecutor(READERS, "store-reader")

    async def read(self, work: Callable[..., T], *arguments: Any) -> T:
        """`work(connection, *arguments)`. Raises `Unavailable`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                return await loop.run_in_executor(self._executor, self._run, work, arguments)
        except (SQLAlchemyError, TimeoutError) as error:
            raise Unavailable("The store cannot be read now.", retry_after=1) from error

    def _run(self, work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        with self._engine.begin() as connection:
            return work(connection, *arguments)

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
        self._engine.dispose()

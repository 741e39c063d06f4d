"""`sqlite://`: records and logs in one file, which one process has to itself."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from proxy.errors import ConfigError
from proxy.store import migrations
from proxy.store.sql.engine import READERS, Database, Reader
from proxy.store.sql.lock import FileLock
from proxy.store.sql.store import SqlStore
from proxy.store.sql.writer import Writer

BUSY = 2.0
"""Seconds that a lock of somebody else's is waited for."""
WRITING = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    # Content that was deleted is overwritten: a run that keeps nothing must leave nothing in the file.
    "PRAGMA secure_delete=ON",
    "PRAGMA wal_autocheckpoint=4000",
    "PRAGMA journal_size_limit=67108864",
)
READING = ("PRAGMA query_only=ON",)
ANOTHER = "set `store` to another file, such as `sqlite:///other.db`"


class SqliteDatabase(Database):
    """A file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def engine(self, *, writes: bool) -> Engine:
        engine = create_engine(
            f"sqlite:///{self._path}",
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

    def is_away(self, error: BaseException) -> bool:
        """Somebody else has the file locked: trying again at once would wait as long again."""
        code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
        return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class SqliteStore(SqlStore):
    """The store port over one file; see `proxy.store.base` for the contracts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._lock = FileLock(path.with_name(path.name + ".lock"))

    def version(self) -> str | None:
        try:
            return migrations.found(SqliteDatabase(self._path).engine(writes=False)) if self._path.exists() else None
        except SQLAlchemyError as error:
            raise self._unusable(error) from error

    async def open(self, *, migrate: bool = True) -> None:
        self._take()
        database = SqliteDatabase(self._path)
        writer = Writer(database, self.lease, self.signals.ring, self._expected)
        try:
            await writer.prepare(migrations.upgrade if migrate else migrations.check)
        except (SQLAlchemyError, ConfigError) as error:
            await writer.release()
            self._lock.release()
            raise error if isinstance(error, ConfigError) else self._unusable(error) from error
        self._read_and_write(writer, Reader(database))

    def _take(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            taken = self._lock.take()
        except OSError as error:
            raise self._unusable(error) from error
        if not taken:
            raise ConfigError(
                f"`store`: {self._path} is in use by another server, and one SQLite file serves one server process; "
                f"stop that one, or {ANOTHER}."
            )

    def _unusable(self, error: Exception) -> ConfigError:
        fault = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
        return ConfigError(f"`store`: {self._path} cannot be used ({fault}); make it writable, or {ANOTHER}.")

    async def close(self) -> None:
        was_open = self._opened
        await super().close()
        if was_open:
            self._lock.release()

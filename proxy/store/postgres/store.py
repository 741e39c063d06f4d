"""`postgresql://`: a store that any number of processes share; see `proxy.store.base` for the contracts."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import msgspec
import structlog
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from proxy.errors import ConfigError, LeaseLost, Unavailable
from proxy.model import Run, Thread, new_id
from proxy.store import migrations
from proxy.store.claims import Lost, Server
from proxy.store.holds import Key
from proxy.store.lease import Lease
from proxy.store.live import Live
from proxy.store.logs.tails import Sight
from proxy.store.postgres import failures, fleet
from proxy.store.postgres.database import PostgresDatabase
from proxy.store.postgres.locks import Locks
from proxy.store.postgres.payloads import channel_of
from proxy.store.postgres.signals import PostgresSignals
from proxy.store.signals import Signal, Topic
from proxy.store.sql.engine import Reader
from proxy.store.sql.store import SqlStore
from proxy.store.sql.writer import Writer
from proxy.store.statements import sights

logger = structlog.get_logger(__name__)

LEASE = 15.0
"""Seconds for which a process may be silent before others take its runs."""
OLDEST = 13
"""The oldest PostgreSQL that has what is needed."""
FITS = text("SELECT current_setting('server_version_num'), current_setting('server_encoding'), current_schema()")


class PostgresStore(SqlStore):
    """The store port over one schema of a database."""

    shared = True

    def __init__(self, url: URL, live: Live | None = None) -> None:
        origin = new_id()[-12:]
        self._heard = PostgresSignals(origin)
        super().__init__(Lease(LEASE), self._heard, live)
        self._url = url
        self._database = PostgresDatabase(url, origin, lambda: live is not None and live.up)
        self._holder: Reader
        self._locks: Locks

    def version(self) -> str | None:
        try:
            return migrations.found(self._database.engine(writes=False))
        except SQLAlchemyError as error:
            raise failures.unusable(self._url, error) from error

    async def open(self, *, migrate: bool = True) -> None:
        writer = Writer(self._database, self.lease, self._ring, self._expected)
        schema: list[str] = []

        def prepare(connection: Connection) -> None:
            schema.append(fitting(connection))
            (migrations.upgrade if migrate else migrations.check)(connection)

        try:
            await writer.prepare(prepare)
        except (SQLAlchemyError, ConfigError) as error:
            await writer.release()
            raise error if isinstance(error, ConfigError) else failures.unusable(self._url, error) from error
        self._holder = Reader(self._database, self._database.holder(), 1)
        self._locks = Locks(self._holder)
        self._read_and_write(writer, Reader(self._database))
        await self._heard.listen(self._database.listener, channel_of(schema[0]))
        if self._fast is not None:
            await self._fast.open(self._logs.tails, self.signals, self.lease)

    def _ring(self, signals: Sequence[Signal]) -> None:
        self.signals.ring(signals)
        if self._fast is not None:
            self._fast.tell(signals)

    async def close(self) -> None:
        if not self._opened:
            return
        if self._fast is not None:
            await self._fast.close()
        await self._heard.close()
        await super().close()
        await self._locks.close()
        self._holder.close()

    async def _look(self, asked: Sequence[tuple[str, int]]) -> dict[str, Sight]:
        return await self._reader.read(sights.look, asked)

    async def join(self, server: Server) -> None:
        named = msgspec.structs.replace(server, server_id=self.lease.owner)
        since = time.monotonic()
        await self._holder.read(fleet.join, named, self.lease.seconds)
        self.lease.renew(since)

    async def renew(self) -> bool:
        owner, since = self.lease.owner, time.monotonic()
        kept = await self._holder.read(fleet.renew, owner, self.lease.seconds)
        if owner != self.lease.owner:  # a write has found out meanwhile that it was lost
            return False
        if kept:
            self.lease.renew(since)
        else:
            self.lease.lose()
        return kept

    async def leave(self) -> None:
        """What is queued is written before, while it counts."""
        self._journal.flush()
        try:
            await self._writer.call(lambda connection: None)
            await self._holder.read(fleet.leave, self.lease.owner)
        except (Unavailable, LeaseLost) as error:
            logger.warning("this process could not say that it goes: its lease runs out", error=str(error))

    async def servers(self) -> list[Server]:
        return await self._reader.read(fleet.alive)

    async def take_lost(self, *, limit: int, strays: Collection[Run] = ()) -> list[Lost]:
        await self._writer.call(fleet.bury)
        return await super().take_lost(limit=limit, strays=strays)

    @asynccontextmanager
    async def _hold(self, key: Key) -> AsyncIterator[None]:
        try:
            async with self._locks.thread(*key):
                yield
        finally:
            await self._tell([(Topic.QUEUE, "")])

    async def _tell(self, signals: Sequence[Signal]) -> None:
        if self._fast is None or not self._fast.tell(signals):
            await self._holder.read(self._database.publish, signals)

    async def sweep(self, *, before: float, keep: int, gone: float = 0.0) -> list[Run]:
        """Only one process sweeps; the others find nothing."""
        return await super().sweep(before=before, keep=keep, gone=gone) if await self._locks.lead() else []

    async def sweep_workflows(self, *, before: float, keep: int) -> bool:
        return await self._locks.lead() and await super().sweep_workflows(before=before, keep=keep)

    async def expired_threads(self, now: float, *, limit: int) -> list[Thread]:
        return await super().expired_threads(now, limit=limit) if await self._locks.lead() else []


def fitting(connection: Connection) -> str:
    """The schema that is used. Raises `ConfigError` where the database is not one that can be."""
    version, encoding, schema = connection.execute(FITS).one()
    if int(version) // 10_000 < OLDEST:
        raise ConfigError(f"`store`: this server is PostgreSQL {int(version) // 10_000}; use {OLDEST} or newer.")
    if encoding != "UTF8":
        raise ConfigError(f"`store`: this database has the encoding {encoding}; create one with `ENCODING 'UTF8'`.")
    if schema is None:
        raise ConfigError("`store`: the schema that `search_path` names does not exist; create it, or correct it.")
    return str(schema)

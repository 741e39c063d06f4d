"""Connections to PostgreSQL, and what the writer does there besides writing."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from proxy.errors import ProxyError
from proxy.store.postgres import failures
from proxy.store.postgres.payloads import channel_of, payloads
from proxy.store.postgres.saves import PostgresSaver
from proxy.store.signals import Signal
from proxy.store.sql.engine import READERS, Begun, Database
from proxy.store.sql.saves import Saver

CONNECTING: dict[str, Any] = {
    "application_name": "runwire",
    "connect_timeout": 5,
    # A host that vanishes is noticed within ten seconds, whether or not something is under way.
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
LOCKED = "3s"
"""How long a row or a table that another process has locked is waited for."""
SETTINGS = (
    f"SET lock_timeout = '{LOCKED}'; SET statement_timeout = '15s';"
    # A process that is stopped in the middle does not keep its locks.
    "SET idle_in_transaction_session_timeout = '10s'; SET default_transaction_isolation = 'read committed'"
)
BEGIN = text(
    "SELECT CAST(pg_current_xact_id() AS text) AS name, ARRAY("
    "SELECT server_id FROM servers WHERE server_id = ANY(:owners) ORDER BY server_id FOR KEY SHARE) AS owners"
)
STATUS = text("SELECT pg_xact_status(CAST(:name AS xid8))")
DOUBT = 8.0
"""Seconds for which a transaction is asked after whose commit got no answer."""
NOTIFY = text("SELECT pg_notify(:channel, payload) FROM unnest(CAST(:payloads AS text[])) AS payload")


class PostgresDatabase(Database):
    """One database, in one schema of it. `origin` names this process to itself in the signals it sends.

    `carried` says whether signals reach the other processes by another way now."""

    def __init__(self, url: URL, origin: str, carried: Callable[[], bool] = lambda: False) -> None:
        self._url = url
        self._origin = origin
        self._carried = carried
        self._writing: psycopg.Connection[Any] | None = None

    def engine(self, *, writes: bool) -> Engine:
        return self._engine(1 if writes else READERS, self._note if writes else None)

    def holder(self) -> Engine:
        """For one connection that holds locks."""
        return self._engine(1, None)

    def _engine(self, size: int, note: Callable[[psycopg.Connection[Any]], None] | None) -> Engine:
        """With `note`, for transactions; otherwise each statement is one by itself."""
        engine = create_engine(
            self._url,
            poolclass=QueuePool,
            pool_size=size,
            max_overflow=0,
            connect_args={name: value for name, value in CONNECTING.items() if name not in self._url.query},
            hide_parameters=True,  # errors are logged, content is not
        )

        @event.listens_for(engine, "connect")
        def prepare(connection: psycopg.Connection[Any], _entry: ConnectionPoolEntry) -> None:
            connection.autocommit = True
            connection.execute(SETTINGS)
            connection.autocommit = note is None
            if note is not None:
                note(connection)

        @event.listens_for(engine, "handle_error")
        def lost(context: ExceptionContext) -> None:
            if failures.is_away(context.original_exception):
                context.is_disconnect = True  # also where the server has not hung up yet

        return engine

    async def listener(self) -> psycopg.AsyncConnection[Any]:
        """A connection of its own, for what others tell."""
        named, options = create_engine(self._url).dialect.create_connect_args(self._url)
        return await psycopg.AsyncConnection.connect(*named, **{**CONNECTING, **options, "autocommit": True})

    def _note(self, connection: psycopg.Connection[Any]) -> None:
        self._writing = connection

    def cut(self) -> None:
        with suppress(OSError, psycopg.Error):
            if self._writing is not None:
                with socket.socket(fileno=os.dup(self._writing.pgconn.socket)) as line:
                    line.shutdown(socket.SHUT_RDWR)

    def saver(self, engine: Engine) -> Saver:
        return PostgresSaver(engine)

    def is_away(self, error: BaseException) -> bool:
        return failures.is_away(error)

    def is_passing(self, error: BaseException) -> bool:
        return failures.is_collision(error) or (isinstance(error, DBAPIError) and error.connection_invalidated)

    def refusal(self, error: BaseException) -> ProxyError | None:
        return failures.refusal(error)

    def begin(self, connection: Connection, owners: Collection[str]) -> Begun:
        """Looks whether the owners have their leases, and sees to it that nobody takes them before the commit."""
        row = connection.execute(BEGIN, {"owners": sorted(owners)}).one()
        return Begun(row.name, row.owners)

    def publish(self, connection: Connection, signals: Sequence[Signal]) -> None:
        if not self._carried():
            channel = channel_of(connection.dialect.default_schema_name or "")
            connection.execute(NOTIFY, {"channel": channel, "payloads": payloads(self._origin, signals)})

    def was_committed(self, engine: Engine, begun: Begun) -> bool | None:
        """Asks the database, as soon as it is back."""
        until = time.monotonic() + DOUBT
        while True:
            try:
                with engine.connect() as connection:
                    status = connection.execute(STATUS, {"name": begun.name}).scalar()
            except DBAPIError:
                status = None
            if status in ("committed", "aborted"):
                return bool(status == "committed")
            if time.monotonic() > until:
                return None
            time.sleep(0.1)

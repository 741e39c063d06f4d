"""LangGraph's own long-term store in SQLite, made safe to share: one for all runs, agents and tenants of a server."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosqlite
from langgraph.store.base import Op, Result
from langgraph.store.sqlite import AsyncSqliteStore

from adapters.langgraph.sqlite import BUSY

TRIGGERS = """
CREATE TRIGGER IF NOT EXISTS item_again BEFORE INSERT ON store
WHEN EXISTS (SELECT 1 FROM store WHERE prefix = NEW.prefix AND key = NEW.key)
BEGIN
    UPDATE store SET value = CAST(NEW.value AS TEXT), updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now'),
        expires_at = NEW.expires_at, ttl_minutes = NEW.ttl_minutes
    WHERE prefix = NEW.prefix AND key = NEW.key;
    SELECT RAISE(IGNORE);
END;
CREATE TRIGGER IF NOT EXISTS item_new AFTER INSERT ON store
BEGIN
    UPDATE store SET value = CAST(NEW.value AS TEXT), created_at = strftime('%Y-%m-%d %H:%M:%f', 'now'),
        updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
    WHERE prefix = NEW.prefix AND key = NEW.key;
END;
"""
"""What LangGraph's insert leaves out: an item that changes keeps the time it was made, times are finer than a second,
so that the last change comes first, and values are text, since some blobs of JSON could be taken for binary JSON."""
EXPIRED = "DELETE FROM store WHERE expires_at < ?"


class SqliteStore(AsyncSqliteStore):
    """Every batch goes on to its end although the run that asked for it was cancelled, and fails alone.

    Cut off in the middle it would leave a transaction open on the one connection. To be used through `TenantStore`.
    """

    @classmethod
    async def at(cls, path: Path | None) -> SqliteStore:
        """Open the file, or None for memory. Raises `sqlite3.Error`."""
        connection = await aiosqlite.connect(path or ":memory:", timeout=BUSY, isolation_level=None)
        try:
            await connection.execute("PRAGMA journal_mode=WAL")
            await connection.execute("PRAGMA synchronous=NORMAL")
            store = cls(connection, ttl={"refresh_on_read": True})
            await store.setup()
            await connection.executescript(TRIGGERS)
        except BaseException:
            await connection.close()
            raise
        return store

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()

    async def abatch(self, ops: Iterable[Op], *, owner: str | None = None) -> list[Result]:
        """A file is one process's, and nobody takes that one's place."""
        task = asyncio.get_running_loop().create_task(self._alone(tuple(ops)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Let what is under way end, and close the connection."""
        while self._running:
            await asyncio.wait(self._running)
        await self.conn.close()

    async def _alone(self, ops: tuple[Op, ...]) -> list[Result]:
        async with self._turn:
            try:
                await self.conn.execute(EXPIRED, (str(datetime.now(UTC)),))
                return await super().abatch(ops)
            except sqlite3.Error:
                if self.conn.in_transaction:
                    await self.conn.rollback()
                raise

"""Checkpoints in SQLite that no cancelled run leaves half written."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from adapters.langgraph.clock import caught_up
from adapters.langgraph.durable import Before, DurableSaver, Written, packed, unpacked
from proxy.errors import ConfigError

T = TypeVar("T")

BUSY = 30.0
"""Seconds to wait for a lock that another program holds."""
MARKS = "CREATE TABLE IF NOT EXISTS marks (thread_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, before BLOB NOT NULL)"
COPY_CHECKPOINTS = """
INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
SELECT :target, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata
FROM checkpoints WHERE thread_id = :source
"""
COPY_WRITES = """
INSERT INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value)
SELECT :target, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value
FROM writes WHERE thread_id = :source
"""
NEWEST = "SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = ?"
MOVED = "SELECT DISTINCT checkpoint_ns FROM checkpoints WHERE thread_id = :thread AND checkpoint_id > :newest"
_OPEN = """
FROM writes WHERE thread_id = :thread AND (:anywhere OR (checkpoint_ns, checkpoint_id) IN (
    SELECT checkpoint_ns, max(checkpoint_id) FROM checkpoints
    WHERE thread_id = :thread AND checkpoint_id <= :newest GROUP BY checkpoint_ns
))
"""
OPEN_WRITES = "SELECT checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value" + _OPEN
"""Writes to the newest checkpoint of the graph and of each sub-graph, or to any."""
DELETE_OPEN_WRITES = "DELETE" + _OPEN
DELETE_OLD = """
DELETE FROM {table} WHERE thread_id = :thread AND (checkpoint_ns, checkpoint_id) NOT IN (
    SELECT checkpoint_ns, max(checkpoint_id) FROM checkpoints WHERE thread_id = :thread GROUP BY checkpoint_ns
)
"""
DELETE_WRITE = """
DELETE FROM writes WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ? AND task_id = ? AND idx = ?
"""
PUT_WRITE = """
INSERT INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
PUT_MARK = "INSERT OR REPLACE INTO marks (thread_id, run_id, before) VALUES (?, ?, ?)"
DELETE_THREAD = (
    "DELETE FROM checkpoints WHERE thread_id = ?",
    "DELETE FROM writes WHERE thread_id = ?",
    "DELETE FROM marks WHERE thread_id = ?",
)


def check(path: Path) -> None:
    """Make sure that the file can be written. Raises `ConfigError`."""
    try:
        with closing(sqlite3.connect(path, timeout=BUSY)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as error:
        raise ConfigError(f"`store`: checkpoints cannot be kept in {path}: {error}") from error


class SqliteSaver(AsyncSqliteSaver, DurableSaver):
    """Every operation goes on to its end although the run that asked for it was cancelled.

    Cut off in the middle it would leave a transaction open on the one connection, and everybody behind it waiting.
    """

    @classmethod
    async def at(cls, path: Path, serde: SerializerProtocol) -> SqliteSaver:
        connection = await aiosqlite.connect(path, timeout=BUSY)
        await connection.execute("PRAGMA synchronous=NORMAL")
        saver = cls(connection, serde)
        await saver.setup()
        await connection.execute(MARKS)
        await connection.commit()
        return saver

    def __init__(self, connection: aiosqlite.Connection, serde: SerializerProtocol) -> None:
        super().__init__(connection, serde=serde)
        self._running: set[asyncio.Task[Any]] = set()

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return caught_up(await self._whole(super().aget_tuple(config)))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await self._whole(super().aput(config, checkpoint, metadata, new_versions))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await self._whole(super().aput_writes(config, writes, task_id, task_path))

    async def adelete_thread(self, thread_id: str) -> None:
        await self._whole(self._transaction(*((statement, (thread_id,)) for statement in DELETE_THREAD)))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        names = {"source": source_thread_id, "target": target_thread_id}
        await self._whole(self._transaction((COPY_CHECKPOINTS, names), (COPY_WRITES, names)))

    async def abefore(self, thread_id: str, *, anywhere: bool, run_id: str | None = None) -> Before:
        return await self._whole(self._before(thread_id, anywhere, run_id))

    async def asince(self, thread_id: str, newest: str) -> tuple[list[Written], frozenset[str]]:
        return await self._whole(self._since(thread_id, newest))

    async def arewind(self, thread_id: str, before: Before) -> None:
        since = (thread_id, before.newest)
        names = {"thread": thread_id, "newest": before.newest, "anywhere": before.anywhere}
        await self._whole(
            self._transaction(
                ("DELETE FROM checkpoints WHERE thread_id = ? AND checkpoint_id > ?", since),
                ("DELETE FROM writes WHERE thread_id = ? AND checkpoint_id > ?", since),
                (DELETE_OPEN_WRITES, names),
                *((PUT_WRITE, (thread_id, *write)) for write in before.writes),
            )
        )

    async def adrop(self, thread_id: str, writes: Sequence[Written]) -> None:
        dropped = [(DELETE_WRITE, (thread_id, *write.place, write.idx)) for write in writes]
        await self._whole(self._transaction(*dropped))

    async def akeep_newest(self, thread_id: str) -> None:
        old = [(DELETE_OLD.format(table=table), {"thread": thread_id}) for table in ("writes", "checkpoints")]
        await self._whole(self._transaction(*old))

    async def close(self) -> None:
        """Let what is under way end, and close the connection."""
        while self._running:
            await asyncio.wait(self._running)
        await self.conn.close()

    async def _before(self, thread_id: str, anywhere: bool, run_id: str | None) -> Before:
        if run_id is not None:
            find = "SELECT before FROM marks WHERE thread_id = ? AND run_id = ?"
            for kept in await self._rows(find, (thread_id, run_id)):
                return unpacked(kept[0])
        newest = (await self._rows(NEWEST, (thread_id,)))[0][0] or ""
        rows = await self._rows(OPEN_WRITES, {"thread": thread_id, "newest": newest, "anywhere": anywhere})
        before = Before(newest, tuple(Written(*row) for row in rows), anywhere)
        if run_id is not None:
            await self._transaction((PUT_MARK, (thread_id, run_id, packed(before))))
        return before

    async def _since(self, thread_id: str, newest: str) -> tuple[list[Written], frozenset[str]]:
        names = {"thread": thread_id, "newest": newest, "anywhere": False}
        rows = await self._rows(OPEN_WRITES, names)
        moved = frozenset(row[0] for row in await self._rows(MOVED, {"thread": thread_id, "newest": newest}))
        return [Written(*row) for row in rows], moved

    async def _rows(self, statement: str, values: Any) -> list[Any]:
        async with self.lock:
            return list(await self.conn.execute_fetchall(statement, values))

    async def _transaction(self, *statements: tuple[str, Any]) -> None:
        async with self.lock:
            try:
                for statement, values in statements:
                    await self.conn.execute(statement, values)
                await self.conn.commit()
            except sqlite3.Error:
                await self.conn.rollback()
                raise

    async def _whole(self, operation: Coroutine[Any, Any, T]) -> T:
        task = asyncio.get_running_loop().create_task(operation)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

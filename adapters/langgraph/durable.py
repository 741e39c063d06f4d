"""Checkpoints in SQLite that no cancelled run leaves half written."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

T = TypeVar("T")
Row = tuple[Any, ...]

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
OPEN_WRITES = """
SELECT thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value
FROM writes WHERE thread_id = :thread AND (:anywhere OR (checkpoint_ns, checkpoint_id) IN (
    SELECT checkpoint_ns, max(checkpoint_id) FROM checkpoints WHERE thread_id = :thread GROUP BY checkpoint_ns
))
"""
"""Writes to the newest checkpoint of the graph and of each sub-graph, or to any."""
DELETE_OPEN_WRITES = """
DELETE FROM writes WHERE thread_id = :thread AND (:anywhere OR (checkpoint_ns, checkpoint_id) IN (
    SELECT checkpoint_ns, max(checkpoint_id) FROM checkpoints WHERE thread_id = :thread GROUP BY checkpoint_ns
))
"""
DELETE_OLD = """
DELETE FROM {table} WHERE thread_id = :thread AND (checkpoint_ns, checkpoint_id) NOT IN (
    SELECT checkpoint_ns, max(checkpoint_id) FROM checkpoints WHERE thread_id = :thread GROUP BY checkpoint_ns
)
"""
PUT_WRITE = """
INSERT INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class DurableSaver(AsyncSqliteSaver):
    """Every operation goes on to its end although the run that asked for it was cancelled.

    Cut off in the middle it would leave a transaction open on the one connection, and everybody behind it waiting.
    """

    def __init__(self, connection: aiosqlite.Connection, serde: SerializerProtocol) -> None:
        super().__init__(connection, serde=serde)
        self._running: set[asyncio.Task[Any]] = set()

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self._whole(super().aget_tuple(config))

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
        await self._whole(super().adelete_thread(thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        names = {"source": source_thread_id, "target": target_thread_id}
        await self._whole(self._transaction((COPY_CHECKPOINTS, names), (COPY_WRITES, names)))

    async def aopen_writes(self, thread_id: str, *, anywhere: bool) -> tuple[str, tuple[Row, ...]]:
        """The id of the thread's newest checkpoint, and the writes to the newest of each graph, or to any."""
        return await self._whole(self._open_writes(thread_id, anywhere=anywhere))

    async def arewind(self, thread_id: str, newest: str, writes: Sequence[Row], *, anywhere: bool) -> None:
        """Delete what came after the checkpoint with the id `newest`, and put back what `aopen_writes` gave."""
        since = (thread_id, newest)
        await self._whole(
            self._transaction(
                ("DELETE FROM checkpoints WHERE thread_id = ? AND checkpoint_id > ?", since),
                ("DELETE FROM writes WHERE thread_id = ? AND checkpoint_id > ?", since),
                (DELETE_OPEN_WRITES, {"thread": thread_id, "anywhere": anywhere}),
                *((PUT_WRITE, row) for row in writes),
            )
        )

    async def akeep_newest(self, thread_id: str) -> None:
        """Delete all but the newest checkpoint of the graph and of each sub-graph."""
        old = [(DELETE_OLD.format(table=table), {"thread": thread_id}) for table in ("writes", "checkpoints")]
        await self._whole(self._transaction(*old))

    async def close(self) -> None:
        """Let what is under way end, and close the connection."""
        while self._running:
            await asyncio.wait(self._running)
        await self.conn.close()

    async def _open_writes(self, thread_id: str, *, anywhere: bool) -> tuple[str, tuple[Row, ...]]:
        await self.setup()
        async with self.lock:
            newest = await self.conn.execute_fetchall(NEWEST, (thread_id,))
            rows = await self.conn.execute_fetchall(OPEN_WRITES, {"thread": thread_id, "anywhere": anywhere})
        return next(iter(newest))[0] or "", tuple(tuple(row) for row in rows)

    async def _transaction(self, *statements: tuple[str, Any]) -> None:
        await self.setup()
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

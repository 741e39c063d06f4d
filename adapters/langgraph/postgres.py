"""Checkpoints in PostgreSQL: each write is one statement or one transaction, and finds out itself whether this process
may still write."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres import PostgresSaver as Synchronous
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row, tuple_row

from adapters.langgraph import postgres_sql as sql
from adapters.langgraph.clock import caught_up
from adapters.langgraph.database import Connection, Database, whole
from adapters.langgraph.durable import Before, DurableSaver, Written, packed, unpacked
from adapters.langgraph.fence import Ousted

Statement = tuple[str, dict[str, Any]]
ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class PostgresSaver(AsyncPostgresSaver, DurableSaver):
    """LangGraph's own tables and reads, over the connections of `database`.

    Nothing here runs in the event loop's executor, whose threads may all be taken by nodes that wait for this.
    """

    def __init__(self, database: Database, serde: SerializerProtocol) -> None:
        super().__init__(database.pool, serde=serde)
        self._database = database

    async def setup(self) -> None:
        await super().setup()
        async with self._database.connection() as connection:
            await connection.execute(sql.MARKS)

    async def is_made(self) -> bool:
        """Whether the tables are as `setup` would leave them. Raises `UndefinedTable` where some are missing."""
        async with self._database.connection() as connection:
            return await _rows(connection, sql.VERSION, {}) == [(len(self.MIGRATIONS) - 1,)]

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        read = super().aget_tuple
        return caught_up(await self._database.patiently(lambda: read(config)))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The connection is given back before the first is yielded: who goes through them may need another."""
        read = super().alist

        async def listed() -> list[CheckpointTuple]:
            return [found async for found in read(config, filter=filter, before=before, limit=limit)]

        for found in await self._database.patiently(listed):
            yield found

    async def aget_delta_channel_history(self, *, config: RunnableConfig, channels: Sequence[str]) -> Any:
        read = super().aget_delta_channel_history
        return await self._database.patiently(lambda: read(config=config, channels=channels))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        place = config["configurable"]
        inline, apart = _parted(checkpoint["channel_values"])
        versions = {name: version for name, version in new_versions.items() if name in apart}
        blobs = self._dump_blobs(place["thread_id"], place["checkpoint_ns"], apart, versions)
        values = {
            "thread": place["thread_id"],
            "ns": place["checkpoint_ns"],
            "id": checkpoint["id"],
            "parent": place.get("checkpoint_id"),
            "checkpoint": _json({**checkpoint, "channel_values": inline}),
            "metadata": _json(get_serializable_checkpoint_metadata(config, metadata)),
            **_columns(("channels", "versions", "types", "blobs"), [row[2:] for row in blobs]),
        }
        await self._put(sql.PUT, values)
        names = {"thread_id": place["thread_id"], "checkpoint_ns": place["checkpoint_ns"]}
        return {"configurable": {**names, "checkpoint_id": checkpoint["id"]}}

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        place = config["configurable"]
        special = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        rows = {}
        for number, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, number)
            rows[index] = (index, channel, *self.serde.dumps_typed(value))
        values = {
            "thread": place["thread_id"],
            "ns": place["checkpoint_ns"],
            "id": place["checkpoint_id"],
            "task": task_id,
            "path": task_path,
            **_columns(("idxs", "channels", "types", "blobs"), list(rows.values())),
        }
        await self._put(sql.REPLACE_WRITES if special else sql.PUT_WRITES, values)

    async def adelete_thread(self, thread_id: str) -> None:
        names = {"thread": str(thread_id)}
        await self._transaction(*((statement, names) for statement in sql.DELETE_THREAD))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        names = {"source": source_thread_id, "target": target_thread_id}
        await self._transaction(*((statement, names) for statement in sql.COPY_THREAD))

    async def abefore(self, thread_id: str, *, anywhere: bool, run_id: str | None = None) -> Before:
        return await self._database.patiently(lambda: self._before(thread_id, anywhere, run_id))

    async def asince(self, thread_id: str, newest: str) -> tuple[list[Written], frozenset[str]]:
        names = {"thread": thread_id, "newest": newest, "anywhere": False}

        async def read() -> tuple[list[Written], frozenset[str]]:
            async with self._database.connection() as connection:
                writes = [Written(*row) for row in await _rows(connection, sql.OPEN_WRITES, names)]
                return writes, frozenset(row[0] for row in await _rows(connection, sql.MOVED, names))

        return await self._database.patiently(read)

    async def arewind(self, thread_id: str, before: Before) -> None:
        names = {"thread": thread_id, "newest": before.newest, "anywhere": before.anywhere}
        kept = {"thread": thread_id, **_columns(Written._fields, before.writes)}
        await self._transaction(*((statement, names) for statement in sql.REWIND), (sql.PUT_BACK, kept))

    async def adrop(self, thread_id: str, writes: Sequence[Written]) -> None:
        await self._transaction((sql.DROP_WRITES, {"thread": thread_id, **_columns(Written._fields, writes)}))

    async def akeep_newest(self, thread_id: str) -> None:
        await self._transaction(*((statement, {"thread": thread_id}) for statement in sql.KEEP_NEWEST))

    async def _before(self, thread_id: str, anywhere: bool, run_id: str | None) -> Before:
        names = {"thread": thread_id, "run": run_id, "anywhere": anywhere}
        async with self._database.connection() as connection:
            if run_id is not None:
                for row in await _rows(connection, sql.FIND_MARK, names):
                    return unpacked(row[0])
            newest = (await _rows(connection, sql.NEWEST, names))[0][0] or ""
            rows = await _rows(connection, sql.OPEN_WRITES, {**names, "newest": newest})
        before = Before(newest, tuple(Written(*row) for row in rows), anywhere)
        if run_id is not None:
            await self._put(sql.PUT_MARK, {**names, "before": packed(before)})
        return before

    async def _put(self, statement: str, values: dict[str, Any]) -> None:
        """One statement, whose answer tells whether this process may write. Raises `Ousted` if it may not."""
        owner = self._database.owner()
        text = statement.format(held=sql.ANYBODY if owner is None else sql.HELD)

        async def put() -> list[tuple[Any, ...]]:
            async with self._database.connection() as connection:
                return await whole(_rows(connection, text, {**values, "owner": owner}))

        if (await self._database.patiently(put))[0][0] == 0:
            raise Ousted

    async def _transaction(self, *statements: Statement) -> None:
        owner = self._database.owner()

        async def act() -> None:
            async with self._database.connection() as connection:
                await whole(_all(connection, statements, owner))

        await self._database.patiently(act)

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        """What LangGraph's own reads and its setup run on: without a lock, since each has a connection of its own."""
        async with (
            self._database.connection() as connection,
            connection.cursor(binary=True, row_factory=dict_row) as cursor,
        ):
            yield cursor

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        return Synchronous._load_checkpoint_tuple(cast(Synchronous, self), value)


async def _all(connection: Connection, statements: Sequence[Statement], owner: str | None) -> None:
    async with connection.transaction():
        if owner is not None and not await _rows(connection, sql.HELD, {"owner": owner}):
            raise Ousted
        for statement, values in statements:
            await connection.execute(statement, values)


async def _rows(connection: Connection, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchall()


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _parted(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What stands in the checkpoint itself, and what apart. JSON in PostgreSQL is not exact for all text and floats."""
    inline = {name: value for name, value in values.items() if _fits(value)}
    apart = {name: value for name, value in values.items() if name not in inline}
    marks = {name: True for name, value in apart.items() if isinstance(value, _DeltaSnapshot)}
    return inline | marks, apart


def _fits(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" not in value and _whole_text(value)
    return value is None or type(value) in (bool, int)


def _whole_text(text: str) -> bool:
    return text.isascii() or text.encode("utf-8", "ignore").decode() == text


def _json(value: Any) -> str:
    """JSON that PostgreSQL takes, without NULs and half characters."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "ignore").decode()
    return ESCAPED_NUL.sub(r"\1", text) if "\\u0000" in text else text

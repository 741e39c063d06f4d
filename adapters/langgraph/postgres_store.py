"""LangGraph's own long-term store in PostgreSQL, over the connections that all graphs of a server share.

It takes the same filters and times to live as the one in SQLite, and finds the same by them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from langgraph.store.base import Op, PutOp, Result, SearchOp
from langgraph.store.postgres import AsyncPostgresStore
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row

from adapters.langgraph.database import Database, whole
from adapters.langgraph.fence import Ousted
from adapters.langgraph.postgres_sql import HELD

EXACT_TIMES = """
DO $$ BEGIN
    IF (SELECT atttypid = 'integer'::regtype FROM pg_attribute
        WHERE attrelid = 'store'::regclass AND attname = 'ttl_minutes') THEN
        ALTER TABLE store ALTER COLUMN ttl_minutes TYPE numeric;
    END IF;
END $$
"""
"""A time to live is a fraction of minutes too."""
VERSION = """
SELECT max(v) AS version, (SELECT bool_and(atttypid = 'numeric'::regtype) FROM pg_attribute
    WHERE attrelid = 'store'::regclass AND attname = 'ttl_minutes') AS exact
FROM store_migrations
"""
EXPIRED = "DELETE FROM store WHERE expires_at < now()"
SHORTEST = 2e-6
"""Minutes. Less would be written in a form that an interval does not take."""
AT = "value #> %s::text[]"
NOTHING = f"coalesce({AT}, 'null') = 'null'::jsonb"
WRITER: ContextVar[str | None] = ContextVar("writer", default=None)
"""The owner of the run that puts what a batch has; LangGraph's own code lies between the two."""
KINDS = {bool: "boolean", int: "number", float: "number"}
ORDERED = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


class PostgresStore(AsyncPostgresStore):
    """What has expired is never found; it is deleted with the next put."""

    @classmethod
    async def at(cls, database: Database) -> PostgresStore:
        """Raises `ConfigError`, or `Unavailable` where that may pass."""
        await database.join()
        try:
            store = cls(database)
            await database.prepare(store.is_made, store.setup)
        except BaseException:
            await database.leave()
            raise
        return store

    def __init__(self, database: Database) -> None:
        super().__init__(database.pool, ttl={"refresh_on_read": True, "omit_expired": True})
        self._database = database

    async def setup(self) -> None:
        await super().setup()
        async with self._database.connection() as connection:
            await connection.execute(EXACT_TIMES)

    async def is_made(self) -> bool:
        """Whether the tables are as `setup` would leave them. Raises `UndefinedTable` where some are missing."""
        async with self._cursor() as cursor:
            await cursor.execute(VERSION)
            return await cursor.fetchone() == {"version": len(self.MIGRATIONS) - 1, "exact": True}

    async def abatch(self, ops: Iterable[Op], *, owner: str | None = None) -> list[Result]:
        batch, run = [_exact(op) for op in ops], super().abatch
        token = WRITER.set(owner)
        try:
            return await self._database.patiently(lambda: whole(run(batch)))
        finally:
            WRITER.reset(token)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._database.leave()

    async def _batch_put_ops(self, put_ops: Sequence[tuple[int, PutOp]], cur: AsyncCursor[DictRow]) -> None:
        if (owner := WRITER.get()) is not None:
            await cur.execute(HELD, {"owner": owner})
            if await cur.fetchone() is None:
                raise Ousted
        await cur.execute(EXPIRED)
        await super()._batch_put_ops(put_ops, cur)

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        """`pipeline` asks for what is done as a whole."""
        async with (
            self._database.connection() as connection,
            connection.cursor(binary=True, row_factory=dict_row) as cursor,
        ):
            if not pipeline:
                yield cursor
                return
            async with connection.transaction():
                yield cursor

    def _get_filter_condition(self, key: str, op: str, value: Any) -> tuple[str, list[Any]]:
        """Null is also what is not there, and only what is of one kind is in an order."""
        path = key.split(".")
        if value is None:
            return (NOTHING if op == "$eq" else f"NOT {NOTHING}"), [path]
        if op == "$eq":
            return f"{AT} = %s::jsonb", [path, json.dumps(value)]
        if op == "$ne":
            return f"({AT} <> %s::jsonb AND NOT {NOTHING})", [path, json.dumps(value), path]
        if isinstance(value, str):
            ordered = f'(value #>> %s::text[]) COLLATE "C" {ORDERED[op]} %s'
            return f"(jsonb_typeof({AT}) = 'string' AND {ordered})", [path, path, value]
        ordered = f"{AT} {ORDERED[op]} %s::jsonb"
        return f"(jsonb_typeof({AT}) = %s AND {ordered})", [path, KINDS[type(value)], path, json.dumps(value)]


def _exact(op: Op) -> Op:
    if isinstance(op, PutOp) and op.ttl is not None:
        return op._replace(ttl=max(op.ttl, SHORTEST))
    if isinstance(op, SearchOp) and op.filter:
        return op._replace(
            filter={key: value if isinstance(value, dict) else {"$eq": value} for key, value in op.filter.items()}
        )
    return op

"""LangGraph's own long-term store in SQLite, made safe to share: one for all runs, agents and tenants of a server."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiosqlite
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchOp,
)
from langgraph.store.sqlite import AsyncSqliteStore

T = TypeVar("T")

BUSY = 30.0
"""Seconds to wait for a lock that another program holds."""
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
FIELD = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
COMPARED = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte"})


class SharedStore(AsyncSqliteStore):
    """Every batch goes on to its end although the run that asked for it was cancelled, and fails alone.

    Cut off in the middle it would leave a transaction open on the one connection. To be used through `TenantStore`.
    """

    @classmethod
    async def at(cls, path: Path | None) -> SharedStore:
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

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
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


class TenantStore(BaseStore):
    """What one tenant's runs and requests see of the store: their own namespaces, as if there were no others.

    Made in the server's loop; may be used from any thread. A synchronous call waits for that loop, so the loop's own
    thread may not make one.
    """

    supports_ttl = True

    def __init__(self, opened: Callable[[], Awaitable[SharedStore]], tenant: str) -> None:
        self._opened = opened
        self._label = label(tenant)
        self._loop = asyncio.get_running_loop()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        if _running() is self._loop:
            raise asyncio.InvalidStateError(
                "Asynchronous code awaits the store: `await store.aget(...)` in place of `store.get(...)`, and so on."
            )
        return asyncio.run_coroutine_threadsafe(self._batch(ops), self._loop).result()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        if asyncio.get_running_loop() is self._loop:
            return await self._batch(ops)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._batch(ops), self._loop))

    async def _batch(self, ops: Iterable[Op]) -> list[Result]:
        inward = [self._inward(op) for op in ops]
        return [_outward(result) for result in await (await self._opened()).abatch(inward)]

    def _inward(self, op: Op) -> Op:
        if isinstance(op, GetOp | PutOp):
            if isinstance(op, PutOp) and not op.namespace:
                raise InvalidNamespaceError("Namespace cannot be empty.")
            return op._replace(namespace=(self._label, *op.namespace))
        if isinstance(op, SearchOp):
            fields = dict(flat(op.filter or {}))
            return op._replace(namespace_prefix=(self._label, *op.namespace_prefix), filter=fields)
        return op._replace(
            match_conditions=tuple(self._conditions(op)),
            max_depth=None if op.max_depth is None else op.max_depth + 1,
        )

    def _conditions(self, op: ListNamespacesOp) -> Iterator[MatchCondition]:
        yield MatchCondition("prefix", (self._label,))
        for condition in op.match_conditions or ():
            if condition.match_type == "suffix":
                # Nor may the tenant's label be what the first of the suffix matches.
                yield condition
                yield MatchCondition("prefix", (self._label, *("*" for _ in condition.path)))
            else:
                yield MatchCondition("prefix", (self._label, *condition.path))


def label(tenant: str) -> str:
    """The first label of all that is a tenant's: has no dot, is not empty, and no two tenants have the same."""
    return ":" + quote(tenant, safe="").replace(".", "%2E")


def flat(fields: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """A filter without objects: SQLite's store finds what is inside of one by a path with dots.

    Raises `ValueError` for what it cannot compare.
    """
    for name, wanted in fields.items():
        if not FIELD.fullmatch(name):
            raise ValueError(f"A filter names fields by letters, digits, `_` and `-`, so not `{name}`.")
        path = within + name
        if not isinstance(wanted, dict):
            yield path, wanted
        elif not any(each.startswith("$") for each in wanted):
            yield from flat(wanted, f"{path}.")
        else:
            yield path, _comparisons(path, wanted)


def _comparisons(path: str, wanted: dict[str, Any]) -> dict[str, Any]:
    for operator, value in wanted.items():
        if operator not in COMPARED:
            raise ValueError(f"`{operator}` is no comparison; `{path}` is compared by {', '.join(sorted(COMPARED))}.")
        if isinstance(value, dict | list | tuple) or (value is None and operator not in ("$eq", "$ne")):
            raise ValueError(f"`{operator}` of `{path}` compares with text, a number or a boolean.")
    return wanted


def _outward(result: Result) -> Result:
    if isinstance(result, Item):
        _shown(result)
    elif isinstance(result, list):
        return [_shown(found) if isinstance(found, Item) else found[1:] for found in result]  # type: ignore[return-value]
    return result


def _shown(item: Item) -> Item:
    """The item as its tenant sees it."""
    item.namespace = item.namespace[1:]
    item.created_at = item.created_at.replace(tzinfo=UTC)
    item.updated_at = item.updated_at.replace(tzinfo=UTC)
    return item


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None

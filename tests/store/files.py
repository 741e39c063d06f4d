"""A store in a file, opened for a trial and closed again; and how SQLite goes about what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event

from proxy.store.sql.sqlite import SqliteStore


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def on(path: Path, act: Callable[[SqliteStore], Awaitable[None]]) -> None:
    """Do this with the store in that file, which is opened for it and closed again."""

    async def run() -> None:
        async with opened(path) as store:
            await act(store)

    asyncio.run(run())


@contextmanager
def steps_of(connection: Connection) -> Iterator[list[str]]:
    """How SQLite goes about what is asked meanwhile."""
    steps: list[str] = []

    def explain(*call: Any) -> None:
        _, cursor, statement, parameters, *_ = call
        plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
        steps.extend(step for *_, step in plan)

    event.listen(connection.engine, "before_cursor_execute", explain)
    yield steps
    event.remove(connection.engine, "before_cursor_execute", explain)

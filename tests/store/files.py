"""A store in a file, opened for a trial and closed again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

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

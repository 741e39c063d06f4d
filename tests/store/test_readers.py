"""Reads off the loop: what becomes of them when the store is closed."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from proxy.errors import Unavailable
from proxy.store.sql.engine import Reader
from proxy.store.sql.sqlite import SqliteDatabase


def one(connection: Connection) -> int:
    return int(connection.execute(text("SELECT 1")).scalar_one())


def test_who_reads_when_the_store_is_closed_is_told_so_and_not_cancelled(tmp_path: Path) -> None:
    begun, let_go = asyncio.Event(), threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def hold(connection: Connection) -> None:
            loop.call_soon_threadsafe(begun.set)
            let_go.wait()

        reader = Reader(SqliteDatabase(tmp_path / "runs.db"), threads=1)
        reading = asyncio.create_task(reader.read(hold))
        await begun.wait()
        waiting = [asyncio.create_task(read(one)) for read in (reader.read, reader.carry_out)]
        await asyncio.sleep(0)  # they stand in line now
        closing = asyncio.create_task(asyncio.to_thread(reader.close))
        try:
            for each in waiting:
                with pytest.raises(Unavailable):
                    await each
            with pytest.raises(Unavailable):
                await reader.read(one)
            reading.cancel()  # whoever really is cancelled, is
            with pytest.raises(asyncio.CancelledError):
                await reading
        finally:
            let_go.set()
            await closing

    asyncio.run(asyncio.wait_for(main(), 20))

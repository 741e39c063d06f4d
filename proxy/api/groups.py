"""Following several runs at once: their logs side by side, each in its own order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from proxy.events import Entry
from proxy.wire.group import Tagged

Batches = AsyncGenerator[list[Entry]]
AHEAD = 64
"""Batches that may wait for the sender."""


async def merged(followers: Sequence[Batches]) -> AsyncGenerator[list[Tagged]]:
    """All entries as they come. A silence of the first log passes as a silence of all."""
    queue: asyncio.Queue[tuple[int, list[Entry]] | None] = asyncio.Queue(maxsize=AHEAD)

    async def pump(index: int, batches: Batches) -> None:
        async with aclosing(batches):
            async for batch in batches:
                if batch or not index:
                    await queue.put((index, batch))
        await queue.put(None)

    tasks = [asyncio.get_running_loop().create_task(pump(i, batches)) for i, batches in enumerate(followers)]
    try:
        left = len(tasks)
        while left:
            got = await queue.get()
            if got is None:
                left -= 1
            else:
                yield [Tagged(got[0], entry) for entry in got[1]]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

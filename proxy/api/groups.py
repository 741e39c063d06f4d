"""Following several runs at once: their logs side by side, each in its own order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from proxy.events import Entry
from proxy.model import Run
from proxy.runs.manager import RunManager
from proxy.wire.group import Tagged

AHEAD = 64
"""Batches that may wait for the sender."""


async def merged(
    manager: RunManager,
    runs: Sequence[Run],
    *,
    idle: float,
    first: float | None = None,
    sink: Callable[[Tagged], bool] | None = None,
) -> AsyncGenerator[list[Tagged]]:
    """All entries as they come, none offered to the sink; a silence of the first log that goes on passes as one of all.

    Raises what following one of them raises.
    """
    queue: asyncio.Queue[tuple[int, list[Entry]] | Exception | None] = asyncio.Queue(maxsize=AHEAD)
    running = set(range(len(runs)))

    async def pump(index: int, run: Run) -> None:
        try:
            async with aclosing(manager.attend(run, idle=idle, first=first)) as batches:
                async for batch in batches:
                    if batch or index == min(running):
                        await queue.put((index, batch))
        except Exception as error:
            await queue.put(error)  # or who waits for the queue would wait for ever
            raise
        running.discard(index)
        await queue.put(None)

    tasks = [asyncio.get_running_loop().create_task(pump(i, run)) for i, run in enumerate(runs)]
    try:
        left = len(tasks)
        while left:
            got = await queue.get()
            if got is None:
                left -= 1
            elif isinstance(got, Exception):
                raise got
            else:
                yield [Tagged(got[0], entry) for entry in got[1]]
    finally:
        await _end(tasks)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel them, and wait until they have let go of their logs."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

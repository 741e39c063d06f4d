"""Work that nobody waits for: tidying up behind runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import structlog

from proxy.errors import ProxyError

PAUSE = 1.0
"""Seconds from a failure to the next attempt."""

logger = structlog.get_logger(__name__)


class Chores:
    """Tasks on the side. One that fails is logged and hurts nobody."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._tidy(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: work.close())  # it never began if the task was cancelled at once
        return task

    def keep(self, work: Callable[[], Coroutine[None, None, None]]) -> asyncio.Task[None]:
        """Work that goes on by itself, and is begun again whatever makes it fail."""
        return self.add(self._again(work))

    async def _again(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        while True:
            try:
                return await work()
            except Exception:
                logger.exception("work on the side failed")
                await asyncio.sleep(PAUSE)

    async def done(self) -> None:
        """Wait for all that has begun."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Cancel what has not been done."""
        for task in self._tasks:
            task.cancel()
        await self.done()

    async def _tidy(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except ProxyError as error:
            logger.warning("a chore failed", error=error.code, message=error.message)

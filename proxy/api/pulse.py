"""Signs of life at a steady rhythm, for clients that learn it and give a connection up that falls out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Pulse:
    """Calls `beat` every so many seconds (0: never) while its block lasts. What `beat` returns says if it could."""

    def __init__(self, every: float, beat: Callable[[], bool]) -> None:
        self._every = every
        self._beat = beat
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        if self._every:
            self._timer = self._loop.call_at(self._last + self._every, self._ring)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def due(self) -> bool:
        """Whether somebody else may give a sign now; counts as given then."""
        if not self._every:
            return True
        now = self._loop.time()
        if now < self._last + self._every:
            return False
        self._last = now
        return True

    def _ring(self) -> None:
        now = self._loop.time()
        if self._beat():
            self._last = now
        self._timer = self._loop.call_at(now + self._every, self._ring)

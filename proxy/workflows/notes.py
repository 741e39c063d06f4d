"""What has happened to a run under way, told to the one task that reads it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

GATHER = 0.02
"""Seconds that pieces of text wait for others."""


class Notes:
    """Notes in turn, each a thing to do. Those that are not urgent may wait a little for others."""

    def __init__(self) -> None:
        self._notes: list[Callable[[], None]] = []
        self._rung, self._urgent = asyncio.Event(), asyncio.Event()

    def post(self, note: Callable[[], None], *, urgent: bool = True) -> None:
        self._notes.append(note)
        self._rung.set()
        if urgent:
            self._urgent.set()

    async def wait(self, until: float | None) -> None:
        """Until there are some, or that time has come (seconds since 1970; None: never)."""
        if await _heard(self._rung, None if until is None else max(until - time.time(), 0.0)):
            await _heard(self._urgent, GATHER)

    def read(self) -> None:
        """Do all that was told."""
        self._rung.clear()
        self._urgent.clear()
        notes, self._notes = self._notes, []
        for note in notes:
            note()


async def _heard(bell: asyncio.Event, seconds: float | None) -> bool:
    """Wait for a bell; False after these seconds (None: never)."""
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        return False
    return True

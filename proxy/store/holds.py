"""One lock per thread: a run is made, or the thread is changed, but never both at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

Key = tuple[str, str]
"""Tenant and thread."""


class Holds:
    """The locks of all threads. One that is neither held nor waited for is gone, and costs nothing."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self.held: set[Key] = set()
        """Threads of which no run may start."""

    def __len__(self) -> int:
        """How many locks are held or waited for."""
        return len(self._locks)

    def of(self, key: Key) -> asyncio.Lock:
        """The lock of a thread, to be entered at once: `async with holds.of(key)`."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    @asynccontextmanager
    async def hold(self, key: Key) -> AsyncIterator[None]:
        """Hold the thread, within this process."""
        async with self.of(key):
            self.held.add(key)
            try:
                yield
            finally:
                self.held.discard(key)

"""One lock per thread: a run is made, or the thread is changed, but never both at once."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from proxy.runs.queues import Key


class Locks:
    """The locks of all threads. One that nobody holds or waits for is gone, and costs nothing."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        """How many are held or waited for."""
        return len(self._locks)

    def of(self, key: Key) -> asyncio.Lock:
        """The lock of a thread, to be entered at once: `async with locks.of(key)`."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

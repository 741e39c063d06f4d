"""How many threads a tenant may have."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.errors import TooManyThreads
from proxy.store.base import ThreadQuery, ThreadStore


class Quota:
    """Counts a tenant's threads when it has used up what the last count left it, and not each time.

    Threads that runs make are seen only by the next count. `most` of 0 is no bound.
    """

    def __init__(self, store: ThreadStore, most: int) -> None:
        self._store = store
        self._most = most
        self._left: dict[str, int] = {}
        self._made: Counter[str] = Counter()
        """Threads that are being made now, which a count may or may not see."""
        self._counting = asyncio.Lock()

    @asynccontextmanager
    async def one_more(self, tenant: str) -> AsyncIterator[None]:
        """Around the making of a thread. Raises `TooManyThreads`."""
        if self._most:
            await self._take(tenant)
        self._made[tenant] += 1
        try:
            yield
        finally:
            self._made[tenant] -= 1

    async def _take(self, tenant: str) -> None:
        if self._left.get(tenant, 0) < 1:
            async with self._counting:
                if self._left.get(tenant, 0) < 1:
                    made = self._made[tenant]
                    count = await self._store.count_threads(ThreadQuery(tenant=tenant))
                    self._left[tenant] = self._most - count - made
        if self._left[tenant] < 1:
            raise TooManyThreads(f"There are {self._most} threads already; delete some, or let them have a `ttl`.")
        self._left[tenant] -= 1

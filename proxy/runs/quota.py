"""How many threads a tenant may have."""

from __future__ import annotations

from proxy.errors import TooManyThreads
from proxy.store.base import ThreadQuery, ThreadStore


class Quota:
    """Counts a tenant's threads when it has used up what the last count left it, and not each time.

    Threads that runs make are seen only by the next count, so the bound is near, not sharp. 0 is no bound.
    """

    def __init__(self, store: ThreadStore, most: int) -> None:
        self._store = store
        self._most = most
        self._left: dict[str, int] = {}

    async def take(self, tenant: str) -> None:
        """A thread more. Raises `TooManyThreads`."""
        if not self._most:
            return
        if self._left.get(tenant, 0) < 1:
            count = await self._store.count_threads(ThreadQuery(tenant=tenant))
            if self._left.get(tenant, 0) < 1:  # nobody else has counted meanwhile
                self._left[tenant] = self._most - count
        if self._left[tenant] < 1:
            raise TooManyThreads(f"There are {self._most} threads already; delete some, or let them have a `ttl`.")
        self._left[tenant] -= 1

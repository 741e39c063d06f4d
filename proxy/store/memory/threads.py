"""The threads of `memory://`; see `proxy.store.base` for the contracts."""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec

from proxy.errors import Conflict
from proxy.model import Lifetime, Run, Thread, ThreadOutcome
from proxy.store.base import ThreadQuery


class MemoryThreads:
    """The part of a store that keeps threads."""

    _runs: dict[tuple[str, str], Run]
    _beside: dict[tuple[str, str], dict[str, Run]]

    def __init__(self) -> None:
        super().__init__()
        self._threads: dict[tuple[str, str], Thread] = {}
        self._swept: dict[tuple[str, str], float] = {}
        """When threads outlived themselves last, by their names."""

    def _ensure_thread(self, thread: Thread) -> None:
        known = self._threads.setdefault((thread.tenant, thread.thread_id), thread)
        metadata = {**known.metadata, **thread.metadata}
        self._threads[thread.tenant, thread.thread_id] = msgspec.structs.replace(known, metadata=metadata)

    async def insert_thread(self, thread: Thread, *, if_exists: Literal["raise", "do_nothing"] = "raise") -> Thread:
        known = await self.get_thread(thread.tenant, thread.thread_id)
        if known is None:
            self._threads[thread.tenant, thread.thread_id] = thread
        elif if_exists == "raise":
            raise Conflict(f"There is a thread {thread.thread_id} already.")
        return known or self._as_it_is(thread)

    async def get_thread(self, tenant: str, thread_id: str) -> Thread | None:
        known = self._threads.get((tenant, thread_id))
        return None if known is None else self._as_it_is(known)

    def _as_it_is(self, thread: Thread) -> Thread:
        return msgspec.structs.replace(thread, busy=(thread.tenant, thread.thread_id) in self._beside)

    async def patch_thread(
        self, tenant: str, thread_id: str, *, metadata: dict[str, Any], lifetime: Lifetime | None = None
    ) -> Thread | None:
        known = self._threads.get((tenant, thread_id))
        if known is not None:
            self._threads[tenant, thread_id] = msgspec.structs.replace(
                known,
                metadata={**known.metadata, **metadata},
                lifetime=lifetime or known.lifetime,
                updated_at=time.time(),
            )
        return await self.get_thread(tenant, thread_id)

    async def leave_thread(self, tenant: str, thread_id: str, outcome: ThreadOutcome) -> bool:
        known = self._threads.get((tenant, thread_id))
        if known is None:
            return False
        now, values = time.time(), known.outcome.values if outcome.values is None else outcome.values
        self._threads[tenant, thread_id] = msgspec.structs.replace(
            known,
            outcome=msgspec.structs.replace(outcome, values=values),
            updated_at=now,
            state_updated_at=now,
        )
        return True

    async def find_threads(self, query: ThreadQuery) -> list[Thread]:
        found = [thread for thread in map(self._as_it_is, self._threads.values()) if query.matches(thread)]
        found.sort(key=lambda thread: _order(thread, query.sort_by), reverse=query.descending)
        return found[query.offset : query.offset + query.limit]

    async def count_threads(self, query: ThreadQuery) -> int:
        return sum(query.matches(self._as_it_is(thread)) for thread in self._threads.values())

    async def expired_threads(self, now: float, *, limit: int) -> list[Thread]:
        found = [self._as_it_is(thread) for thread in self._threads.values() if self._expired(thread, now)]
        return sorted((thread for thread in found if not thread.busy), key=lambda thread: thread.updated_at)[:limit]

    def _expired(self, thread: Thread, now: float) -> bool:
        swept = self._swept.get((thread.tenant, thread.thread_id), 0.0) >= thread.updated_at
        return thread.lifetime is not None and not swept and thread.updated_at + thread.lifetime.ttl * 60 < now

    async def mark_swept(self, tenant: str, thread_id: str) -> None:
        if (tenant, thread_id) in self._threads:
            self._swept[tenant, thread_id] = time.time()


def _order(thread: Thread, key: str) -> tuple[bool, Any, str]:
    value = getattr(thread, key)
    return value is not None, value or 0.0, thread.thread_id

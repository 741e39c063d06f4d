"""Who wants to know of each run that begins on a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from proxy.model import Run


class Watch:
    """Tells listeners of the runs of their threads, in this process."""

    def __init__(self) -> None:
        self._queues: dict[tuple[str, str], set[asyncio.Queue[Run | None]]] = {}

    @contextmanager
    def listen(self, tenant: str, thread_id: str) -> Iterator[asyncio.Queue[Run | None]]:
        """A queue of the runs that are made from now on, whether they start at once or wait; None is the last."""
        queue: asyncio.Queue[Run | None] = asyncio.Queue()
        key = (tenant, thread_id)
        self._queues.setdefault(key, set()).add(queue)
        try:
            yield queue
        finally:
            self._queues[key].discard(queue)
            if not self._queues[key]:
                del self._queues[key]

    def close(self) -> None:
        """No more runs are made."""
        for queues in self._queues.values():
            for queue in queues:
                queue.put_nowait(None)

    def tell(self, run: Run) -> None:
        for queue in self._queues.get((run.tenant, run.thread_id), ()):
            queue.put_nowait(run)

"""Following the events of workflow runs: from the store what there is, then as they are appended in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from proxy.store.workflow import MOST_EVENTS, EventPage, EventQuery
from proxy.workflow_model import WorkflowEvent

Read = Callable[[EventQuery], Awaitable[EventPage]]


class Listener:
    """One who waits for events of a run; holds those appended last, until they are looked for."""

    __slots__ = ("latest", "rung")

    def __init__(self) -> None:
        self.rung = asyncio.Event()
        self.latest: Sequence[WorkflowEvent] = ()

    def take(self, query: EventQuery) -> EventPage | None:
        """The events that come next, if these are the ones; else the store has to be asked."""
        self.rung.clear()
        latest, self.latest = self.latest, ()
        if not latest or latest[0].seq != query.after + 1:
            return None
        events = list(latest[: query.limit])
        if not query.contents:
            events = [bare(event) for event in events]
        return EventPage(events, not latest[-1].final)


class Bells:
    """Rings for whoever listens to a run, in this process."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}
        self._closed = False

    @contextmanager
    def listen(self, run_id: str) -> Iterator[Listener]:
        listener = Listener()
        self._listeners.setdefault(run_id, set()).add(listener)
        try:
            yield listener
        finally:
            self._listeners[run_id].discard(listener)
            if not self._listeners[run_id]:
                del self._listeners[run_id]

    def ring(self, run_id: str, events: Sequence[WorkflowEvent]) -> None:
        """These events were appended; with none, something else has changed, and the store has to be asked."""
        for listener in self._listeners.get(run_id, ()):
            listener.latest = events
            listener.rung.set()

    def close(self) -> None:
        """Let all go who listen, now and from now on."""
        self._closed = True
        for run_id in self._listeners:
            self.ring(run_id, ())

    async def follow(self, query: EventQuery, read: Read, idle: float) -> AsyncGenerator[list[WorkflowEvent]]:
        """See `WorkflowStore.follow_events`."""
        with self.listen(query.run_id) as listener:
            caught_up = False
            while query.limit is None or query.limit > 0:
                if caught_up and query.wait and not (self._closed or listener.rung.is_set()):
                    if not await heard(listener, idle):
                        yield []
                    continue
                taken = listener.take(query)
                page = taken or await read(query)
                caught_up = taken is not None or not page.events
                if page.events:
                    yield page.events
                    if page.events[-1].final:
                        return
                    query = rest(query, page.events)
                elif not (page.open and query.wait) or self._closed:
                    return


async def heard(listener: Listener, idle: float) -> bool:
    """Wait until the bell rings; False after `idle` seconds (0: never)."""
    try:
        async with asyncio.timeout(idle or None):
            await listener.rung.wait()
    except TimeoutError:
        return False
    return True


def rest(query: EventQuery, events: Sequence[WorkflowEvent]) -> EventQuery:
    """What is left of a query once these events have been given."""
    limit = None if query.limit is None else query.limit - len(events)
    return msgspec.structs.replace(query, after=events[-1].seq, limit=limit)


def bare(event: WorkflowEvent) -> WorkflowEvent:
    return event if event.content is None else msgspec.structs.replace(event, content=None)


def size_of(query: EventQuery) -> int:
    """Events that a page of this query may have."""
    return MOST_EVENTS if query.limit is None else min(query.limit, MOST_EVENTS)

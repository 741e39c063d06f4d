"""Following the events of workflow runs: from the store what there is, then as they are appended.

What is appended in this process is handed on at once. Of what others append only signals come, and some of them get
lost: while somebody listens, the store is asked once a second for the numbers of the last events of all who are
listened to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from proxy.errors import ProxyError, Unavailable
from proxy.store.logs.outages import Outage
from proxy.store.signals import ANY, Signals, Topic
from proxy.store.workflow import MOST_EVENTS, EventPage, EventQuery
from proxy.workflow_model import WorkflowEvent

ROUND = 1.0
"""Seconds from one look at all runs that are listened to to the next."""
Read = Callable[[EventQuery], Awaitable[EventPage]]
Ends = Callable[[Sequence[tuple[str, str]]], Awaitable[dict[str, int]]]
"""[(tenant, run id), ...] -> by run id, the numbers of their last events; an unknown run is left out."""


class Listener:
    """One who waits for events of a run; holds those appended last, until they are looked for."""

    __slots__ = ("after", "latest", "rung", "tenant")

    def __init__(self, tenant: str, after: int) -> None:
        self.tenant = tenant
        self.after = after
        """The number of the last event that it has."""
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
    """Rings for whoever listens to a run, in this process. With `signals` and `ends`, others append too."""

    def __init__(self, signals: Signals | None = None, ends: Ends | None = None) -> None:
        self._ends = ends
        self._listeners: dict[str, set[Listener]] = {}
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None
        self._fed: dict[str, float] = {}
        """When this process appended to a run last, on the loop's clock."""
        if signals is not None:
            signals.hear(Topic.WORKFLOW, self._hear)

    @contextmanager
    def listen(self, query: EventQuery) -> Iterator[Listener]:
        run_id, listener = query.run_id, Listener(query.tenant, query.after)
        self._listeners.setdefault(run_id, set()).add(listener)
        self._plan()
        try:
            yield listener
        finally:
            self._listeners[run_id].discard(listener)
            if not self._listeners[run_id]:
                del self._listeners[run_id]
                self._fed.pop(run_id, None)

    def ring(self, run_id: str, events: Sequence[WorkflowEvent]) -> None:
        """These events were appended here; with none, something else has changed, and the store has to be asked."""
        for listener in self._listeners.get(run_id, ()):
            listener.latest = events
            listener.rung.set()
            if events and self._ends is not None:
                self._fed[run_id] = asyncio.get_running_loop().time()

    def close(self) -> None:
        """Let all go who listen, now and from now on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for run_id in self._listeners:
            self.ring(run_id, ())

    def _hear(self, run_id: str) -> None:
        """A signal. Of what this process appends itself it says nothing new."""
        if run_id == ANY:
            for each in self._listeners:
                self.ring(each, ())
        elif self._fed.get(run_id, -ROUND) + ROUND <= asyncio.get_running_loop().time():
            self.ring(run_id, ())

    def _plan(self) -> None:
        if self._ends is not None and self._timer is None and self._listeners and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(ROUND, self._tick, self._ends)

    def _tick(self, ends: Ends) -> None:
        self._timer = None
        if self._listeners and (self._look is None or self._look.done()):
            self._look = asyncio.ensure_future(self._ask(ends))
        self._plan()

    async def _ask(self, ends: Ends) -> None:
        """Ring for those who have not what there is."""
        names = {(listener.tenant, run_id) for run_id, all_of in self._listeners.items() for listener in all_of}
        try:
            found = await ends(sorted(names))
        except ProxyError:
            return  # the next tick asks again
        for _, run_id in names:
            if any(listener.after != found.get(run_id) for listener in self._listeners.get(run_id, ())):
                self.ring(run_id, ())

    async def follow(self, query: EventQuery, read: Read, idle: float) -> AsyncGenerator[list[WorkflowEvent]]:
        """See `WorkflowStore.follow_events`."""
        with self.listen(query) as listener:
            caught_up, outage = False, Outage(idle)
            while query.limit is None or query.limit > 0:
                if caught_up and query.wait and not (self._closed or listener.rung.is_set()):
                    if not await heard(listener, idle):
                        yield []
                    continue
                taken = listener.take(query)
                try:
                    page = taken or await read(query)
                except Unavailable as error:
                    if self._closed:
                        raise
                    caught_up = False
                    if await outage.sit_out(error):
                        yield []
                    continue
                outage.answered()
                caught_up = taken is not None or not page.events
                if page.events:
                    listener.after = page.events[-1].seq
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

"""All that is said on a thread, run after run, for as long as somebody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

from proxy.api.native.located import every
from proxy.errors import Draining, LogTrimmed, NotFound, ProxyError, Unavailable
from proxy.model import ACTIVE, Run, RunStatus
from proxy.runs.manager import RunManager, RunQuery
from proxy.wire.langgraph import BEGINNING, Cursor
from proxy.wire.thread_stream import Place, Told

AGAIN = 1.0
"""Seconds until a store that was away is asked again for a run that waits."""


class Stop(NamedTuple):
    """A run, and where in it to begin."""

    run: Run
    cursor: Cursor = BEGINNING


class Listener(Protocol):
    """Who hears a thread."""

    async def begin(self, run: Run, cursor: Cursor) -> int:
        """Called once a run has begun, before anything of it is passed on.

        Returns the number of the entry to follow its log after.
        """
        ...

    async def skip(self, run: Run, after: int) -> int | None:
        """What stands behind this entry is no longer kept: the number to go on after, or None for the next run."""
        ...


class Plain:
    """Takes what there is."""

    async def begin(self, run: Run, cursor: Cursor) -> int:
        return cursor.after

    async def skip(self, run: Run, after: int) -> int | None:
        return None


PLAIN = Plain()


async def follow_thread(
    manager: RunManager, tenant: str, thread_id: str, place: Place | None, *, idle: float, listener: Listener = PLAIN
) -> AsyncGenerator[list[Told]]:
    """The entries of all runs of a thread, each run whole before the next, in the order in which they began.

    From `place` on, or with None from now on. Yields an empty list after `idle` seconds of silence (0: never). Ends
    only when the server takes no more runs. Raises `NotFound` for a place in a run that is not there.
    """
    with manager.watch.listen(tenant, thread_id) as arrivals:
        line = Line(manager)
        try:
            line.begin(await stops(manager, tenant, thread_id, place), arrivals)
            while (stop := await line.next(idle)) is not END:
                if stop is None:
                    yield []
                    continue
                async with aclosing(followed(manager, stop, idle, listener)) as batches:
                    async for batch in batches:
                        yield batch
        finally:
            await line.close()


async def followed(manager: RunManager, stop: Stop, idle: float, listener: Listener) -> AsyncGenerator[list[Told]]:
    """One run to its end."""
    run = stop.run
    after: int | None = await listener.begin(run, stop.cursor)
    while after is not None:
        try:
            async with aclosing(manager.follow(run, after=after, idle=idle)) as batches:
                async for batch in batches:
                    after = batch[-1].seq if batch else after
                    yield [Told(run, entry) for entry in batch]
            return
        except LogTrimmed:
            after = await listener.skip(run, after)


class Line:
    """The runs of a thread as they begin: of those that wait, any may be the next."""

    def __init__(self, manager: RunManager) -> None:
        self._manager = manager
        self._begun: asyncio.Queue[Stop] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, stops: list[Stop], arrivals: asyncio.Queue[Run | None]) -> None:
        """Take these, and all that arrive."""
        for stop in stops:
            self._add(stop)
        self._spawn(self._welcome(arrivals, {stop.run.run_id for stop in stops}))

    async def next(self, idle: float) -> Stop | None:
        """The next run; None after so many seconds in which none began. `END` when none will."""
        try:
            return await asyncio.wait_for(self._begun.get(), idle or None)
        except TimeoutError:
            return None

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _add(self, stop: Stop) -> None:
        if stop.run.status is RunStatus.PENDING:
            self._spawn(self._await(stop))
        else:
            self._begun.put_nowait(stop)

    async def _welcome(self, arrivals: asyncio.Queue[Run | None], known: set[str]) -> None:
        while (run := await arrivals.get()) is not None:
            if run.run_id not in known:
                self._add(Stop(run))
        self._begun.put_nowait(END)

    async def _await(self, stop: Stop) -> None:
        """A run that waits: its turn has come with its first entry, or with an error for its follower."""
        while True:
            try:
                async with aclosing(self._manager.follow(stop.run, idle=0)) as batches:
                    async for _ in batches:
                        break
            except Draining:
                return
            except Unavailable:  # nobody else looks for this run's turn
                await asyncio.sleep(AGAIN)
                continue
            except ProxyError:
                pass
            self._begun.put_nowait(stop)
            return

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


END = Stop(Run(run_id="", thread_id="", agent=""))
"""No run: nothing comes any more."""


async def stops(manager: RunManager, tenant: str, thread_id: str, place: Place | None) -> list[Stop]:
    """What there is of a thread from a place on, or with None those of its runs that are under way, from now on."""
    if place is None:
        wanted = RunQuery(tenant=tenant, thread_id=thread_id, statuses=ACTIVE)
        there = [(run, await manager.last(run)) for run in await every(manager, wanted)]
        return [Stop(run, Cursor(last)) for run, last in reversed(there) if last is not None]
    runs = await every(manager, RunQuery(tenant=tenant, thread_id=thread_id, gone=True))
    kept = [run for run in runs if run.gone_at is None or run.run_id == place.run_id]
    begun = {run.run_id: await began(manager, run) for run in kept}
    kept.sort(key=lambda run: (begun[run.run_id], run.run_id))
    if place.run_id is None:
        return [Stop(run) for run in kept]
    at = next((number for number, run in enumerate(kept) if run.run_id == place.run_id), None)
    if at is None:
        raise NotFound(f"There is no run {place.run_id} on this thread.", param="Last-Event-ID")
    return [Stop(kept[at], place.cursor), *map(Stop, kept[at + 1 :])]


async def began(manager: RunManager, run: Run) -> float:
    """When a run said its first word, in seconds since 1970; never, if it still waits."""
    first = await manager.read(run, after=0, limit=1)
    return first[0].at if first else float("inf")

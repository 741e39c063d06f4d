"""Crons: runs that are made on a schedule. Their records are changed here, and the scheduler waits for their times.

A cron is moved on to its next time before its run is made, and only by a process that still finds it as it was: so each
time makes one run, whatever goes wrong and however many look. Times that passed while no server was up make one run
together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import msgspec
import structlog

from proxy.errors import Draining, NotFound, ProxyError, Unprocessable
from proxy.model import Cron
from proxy.runs.chores import Chores
from proxy.runs.schedules import Schedule
from proxy.store.base import ThreadStore
from proxy.store.native import CronQuery, CronStore
from proxy.store.signals import Signals, Topic

__all__ = ["CronQuery", "Crons"]

LOOK = 60.0
"""Seconds after which the store is looked at again at the latest: the clock may have been set."""
AT_ONCE = 20
"""Runs that are being made at a time."""

logger = structlog.get_logger(__name__)


class Store(CronStore, ThreadStore, Protocol):
    """What crons need of a store."""

    signals: Signals


class Crons:
    """All crons of all tenants. `fire` makes the run of a cron; `next_at` of what it is given is the time it is for."""

    def __init__(
        self, store: Store, fire: Callable[[Cron], Awaitable[object]], clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._make = fire
        self._clock = clock
        self._changed = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._chores = Chores()
        self._scheduler: asyncio.Task[None] | None = None
        store.signals.hear(Topic.CRONS, lambda _: self._changed.set())

    async def open(self) -> None:
        """Begin to wait for times, and make up for those that were missed."""
        self._scheduler = self._chores.add(self._schedule())

    async def close(self) -> None:
        """Make no more runs; waits for those that are being made."""
        if self._scheduler is not None:
            self._scheduler.cancel()
        await self._chores.done()

    async def create(self, cron: Cron) -> Cron:
        """Store a new one, as of now. Raises `Unprocessable` naming the field, and `NotFound` for its thread."""
        now = self._clock()
        if cron.thread_id is not None and await self._store.get_thread(cron.tenant, cron.thread_id) is None:
            raise NotFound(f"There is no thread `{cron.thread_id[:64]}`.")
        made = msgspec.structs.replace(cron, created_at=now, updated_at=now, next_at=following(cron, now))
        if made.enabled and made.next_at is None:
            raise _never(made)
        await self._store.insert_cron(made)
        self._changed.set()
        return made

    async def get(self, tenant: str, cron_id: str) -> Cron:
        """Raises `NotFound`, also for another tenant's."""
        cron = await self._store.get_cron(tenant, cron_id)
        if cron is None:
            raise NotFound(f"There is no cron `{cron_id[:64]}`.")
        return cron

    async def change(self, tenant: str, cron_id: str, revise: Callable[[Cron], Cron]) -> Cron:
        """Replace the record by what `revise` makes of it. It may be called again, if the record changes meanwhile.

        Raises `NotFound`, and `Unprocessable` naming the field."""
        while True:
            known, now = await self.get(tenant, cron_id), self._clock()
            made = msgspec.structs.replace(revise(known), updated_at=now)
            if _times(made) != _times(known):
                made = msgspec.structs.replace(made, next_at=following(made, now))
            if await self._store.replace_cron(made, was=known):
                self._changed.set()
                return made

    async def delete(self, tenant: str, cron_id: str) -> None:
        """Raises `NotFound`. Runs that it has made go on."""
        if not await self._store.delete_cron(tenant, cron_id):
            raise NotFound(f"There is no cron `{cron_id[:64]}`.")

    async def search(self, query: CronQuery) -> list[Cron]:
        return await self._store.find_crons(query)

    async def count(self, query: CronQuery) -> int:
        return await self._store.count_crons(query)

    async def fire_due(self) -> None:
        """Make the runs of all crons whose time has come; returns when each has begun to be made."""
        now = self._clock()
        while due := await self._store.due_crons(now):
            for cron in due:
                await self._fire(cron, now)

    async def _schedule(self) -> None:
        while True:
            self._changed.clear()
            wait = LOOK
            try:
                await self.fire_due()
                if (coming := await self._store.next_cron()) is not None:
                    wait = min(max(coming - self._clock(), 0.0), LOOK)
            except ProxyError as error:
                logger.warning("crons could not be looked at", error=error.code, message=error.message)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def _fire(self, cron: Cron, now: float) -> None:
        """Move a cron on, and make its run if nobody else did."""
        moved = msgspec.structs.replace(cron, next_at=_moved(cron, now))
        await self._slots.acquire()
        begun = False
        try:
            mine = await self._store.replace_cron(moved, was=cron)
            if mine and (cron.end_time is None or now <= cron.end_time):
                self._chores.add(self._run(cron, moved))
                begun = True
        finally:
            if not begun:
                self._slots.release()

    async def _run(self, cron: Cron, moved: Cron) -> None:
        try:
            await self._make(cron)
        except Draining:
            # Due again after the next start, and not before: nobody here makes runs any more.
            if self._scheduler is not None:
                self._scheduler.cancel()
            await self._store.replace_cron(cron, was=moved)
        except ProxyError as error:
            about = {"cron_id": cron.cron_id, "tenant": cron.tenant}
            logger.warning("a cron could not make its run", **about, error=error.code, message=error.message)
        finally:
            self._slots.release()


def following(cron: Cron, now: float) -> float | None:
    """When it is due next; None for never again, or while it is disabled. Raises `Unprocessable`."""
    at = Schedule(cron.schedule, cron.timezone).after(now)
    past = at is not None and cron.end_time is not None and at > cron.end_time
    return at if cron.enabled and not past else None


def _moved(cron: Cron, now: float) -> float | None:
    """As `following`, for one that was stored: what its timezone's name stands for may be gone by now."""
    try:
        return following(cron, now)
    except Unprocessable as error:
        logger.error("a cron is over", cron_id=cron.cron_id, tenant=cron.tenant, message=error.message)
        return None


def _times(cron: Cron) -> tuple[object, ...]:
    """What its times depend on."""
    return cron.schedule, cron.timezone, cron.end_time, cron.enabled


def _never(cron: Cron) -> Unprocessable:
    if cron.end_time is not None:
        return Unprocessable("`end_time`: it is before the first time of `schedule`.", param="end_time")
    return Unprocessable("`schedule`: it names a time that never comes.", param="schedule")

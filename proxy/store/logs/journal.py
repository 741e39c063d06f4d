"""Write-behind: what the live logs say is put on disk a little later, and their ends at once.

All of it runs on the loop's thread. At most one write of a log is under way at a time, so that its entries
reach the disk in order and none twice, whatever fails in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from proxy.errors import LeaseLost, Unavailable
from proxy.events import Entry
from proxy.model import Pause, Run, ThreadOutcome
from proxy.store.live import Live
from proxy.store.logs.livelogs import LiveLogs
from proxy.store.logs.runlog import LiveLog
from proxy.store.signals import Topic
from proxy.store.sql.ops import is_outage, reason
from proxy.store.sql.saves import Save
from proxy.store.sql.writer import Writer

logger = structlog.get_logger(__name__)

FLUSH = 0.2
"""Seconds that an entry waits for others to be written with, where nobody waits for it to be written."""
SOON = 0.05
"""The same, where other processes read what is written."""
BACKOFF = 1.0
"""Seconds from a write that failed to the next."""


class Flight(Save):
    """One write of one log."""

    __slots__ = ("done", "final", "log", "on_landed", "then")

    def __init__(self, log: LiveLog, done: asyncio.Future[None], on_landed: Callable[[Flight], None]) -> None:
        super().__init__(log.run.run_id)
        self.log = log
        self.done = done
        self.final: Entry | None = None
        self.on_landed = on_landed
        self.then: Flight | None = None
        """The end of the log, which waits for this write."""

    def landed(self) -> None:
        self.on_landed(self)


class StoreJournal:
    """The `Journal` of logs that a `Writer` keeps. In a `shared` store it tells other processes what is written, and
    by `live` also what is not yet."""

    def __init__(self, writer: Writer, logs: LiveLogs, *, shared: bool = False, live: Live | None = None) -> None:
        self.fresh: dict[str, LiveLog] = {}
        """Logs whose record is not in the store yet."""
        self._writer = writer
        self._logs = logs
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, LiveLog] = {}
        self._flights: dict[str, Flight] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False
        self._shared = shared
        self._live = live

    def begin(self, log: LiveLog) -> None:
        self._logs.add(log)
        if not log.inserted:
            self.fresh[log.run.run_id] = log

    def queue(self, log: LiveLog) -> None:
        self._waiting[log.run.run_id] = log
        if self._timer is None:
            self._timer = self._loop.call_later(self._delay(), self.flush)
        if self._live is not None:
            self._live.show(log)

    def _delay(self) -> float:
        if self._failing:
            return BACKOFF
        return SOON if self._tells else FLUSH

    @property
    def _tells(self) -> bool:
        """Other processes can know only from the store what a log says."""
        return self._shared and not (self._live is not None and self._live.up)

    def hurry(self) -> None:
        if not self._failing:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        logs, self._waiting = self._waiting, {}
        for log in logs.values():
            if log.last > log.stored and not log.lost and log.run_id not in self._flights:
                self._save(log)

    async def store(self, log: LiveLog) -> None:
        """Write the log now, its record included. Raises `Unavailable` and `LeaseLost`."""
        flight = self._flights.get(log.run.run_id) or self._save(log)
        await asyncio.shield(flight.done)
        if flight.error is not None:
            raise flight.error

    async def hand_over(self, run_id: str) -> None:
        """Write all that the log of a run says, if this process has it, and let go of it: another may begin it then.

        Who follows it goes on with what that one says. Raises `Unavailable` and `LeaseLost`."""
        log = self._logs.get(run_id)
        if log is not None:
            log.shut()
            while log.last > log.stored or run_id in self.fresh:
                await self.store(log)
            self._logs.lose(log)

    async def commit(
        self, log: LiveLog, final: Entry, run: Run, pause: Pause | None, thread: ThreadOutcome | None
    ) -> None:
        flight = Flight(log, self._loop.create_future(), self._landed)
        flight.final, flight.run, flight.pause, flight.thread = final, run, pause, thread
        if (under_way := self._flights.get(run.run_id)) is not None:
            under_way.then = flight
        else:
            self._send(flight)
        await flight.done
        if flight.error is not None:
            raise flight.error

    def _save(self, log: LiveLog) -> Flight:
        flight = Flight(log, self._loop.create_future(), self._landed)
        if log.ended or not log.inserted:
            flight.run = log.run
        self._send(flight)
        return flight

    def _send(self, flight: Flight) -> None:
        log = flight.log
        self._flights[flight.run_id] = flight
        flight.entries = log.unwritten()
        if flight.final is not None:
            flight.entries.append(flight.final)
        flight.insert = not log.inserted
        flight.owner = log.fence
        flight.signals = [(Topic.LOG, flight.run_id)] if self._tells else ()
        self._writer.send(flight)

    def _landed(self, flight: Flight) -> None:
        del self._flights[flight.run_id]
        if flight.error is None:
            self._written(flight)
        else:
            self._failed(flight)
        if not flight.done.done():
            flight.done.set_result(None)
        if flight.then is not None:
            self._send(flight.then)

    def _written(self, flight: Flight) -> None:
        log, final, run = flight.log, flight.final, flight.run
        self._failing = False
        self.fresh.pop(flight.run_id, None)
        if final is not None and run is not None:
            self._waiting.pop(flight.run_id, None)  # or what has ended would stay in memory for nothing
            log.finish(final, run)
        else:
            log.written(flight.entries[-1].seq if flight.entries else log.stored, flight.size)
        if self._live is not None:
            self._live.note(log)
        if log.ended and log.stored == log.last:
            self._logs.retire(flight.run_id)

    def _failed(self, flight: Flight) -> None:
        if isinstance(flight.error, LeaseLost):
            self.fresh.pop(flight.run_id, None)
            self._logs.lose(flight.log)
        if flight.final is not None:
            flight.log.reopen()
        if flight.error is not None and is_outage(flight.error):
            self._failing = True
            self.queue(flight.log)

    async def close(self) -> None:
        """Write all there is. Gives up where the store takes nothing."""
        self.flush()
        try:
            for log in self._logs.all():
                while not log.lost and (log.last > log.stored or log.run_id in self.fresh):
                    await self.store(log)
        except Unavailable as error:
            logger.warning("logs were lost: the store cannot be written", error=reason(error))
        if self._timer is not None:
            self._timer.cancel()

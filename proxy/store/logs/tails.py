"""Tails: the logs that are followed here and written elsewhere, or by nobody yet.

The store is asked for all of them together: when a signal says that one has grown, and once a second, since signals
get lost. In a store that nobody shares there is nothing to ask: a run that waits begins in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import structlog

from proxy.errors import ProxyError
from proxy.events import Entry
from proxy.store.logs.feeds import Tail
from proxy.store.signals import ANY, Signals, Topic

logger = structlog.get_logger(__name__)

ROUND = 1.0
"""Seconds from one look at all tails to the next."""
TOGETHER = 200
"""Logs that are asked for at a time."""
NOTHING = 1 << 62
"""Above all numbers."""


class Sight(NamedTuple):
    """What the store has of a log: its next entries, the number of its last one, and whether its run has not ended.

    `trimmed`: some before the first of the entries are no longer kept. `damaged`: some of them cannot be read, and
    who asks for them alone is told so."""

    entries: list[Entry]
    last: int
    open: bool
    trimmed: bool = False
    damaged: bool = False


Look = Callable[[Sequence[tuple[str, int]]], Awaitable[dict[str, Sight]]]
"""[(run id, after), ...] -> what there is of each, as it is at one moment; an unknown run is left out."""
UNKNOWN = Sight([], 0, False)


class Watch(Protocol):
    """Who wants to know which logs are followed here."""

    def follow(self, run_id: str) -> bool:
        """True if it calls `ask` for the run soon; nothing is missed from then on."""
        ...

    def leave(self, run_id: str) -> None: ...


class Tails:
    """The tails of this process. All of it runs on the loop's thread."""

    def __init__(self, look: Look | None, signals: Signals | None, *, shared: bool) -> None:
        self.watch: Watch | None = None
        self._look = look
        self._shared = shared
        self._tails: dict[str, Tail] = {}
        self._changed: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._blind = False
        """The last look had no answer."""
        self.released = False
        """Who follows a log is to ask another process."""
        if signals is not None:
            signals.hear(Topic.LOG, self._rung)

    def get(self, run_id: str) -> Tail | None:
        return self._tails.get(run_id)

    def open(self, run_id: str, after: int | None = None) -> Tail:
        """The tail of a run; one that is new begins after that number, or where the store says that the log ends."""
        tail = self._tails.get(run_id)
        if tail is None:
            tail = self._tails[run_id] = Tail(run_id, after)
            tail.released = self.released
            self._plan()
            if self.watch is None or not self.watch.follow(run_id):
                self.ask(run_id)
        return tail

    def drop(self, run_id: str) -> Tail | None:
        """Forget a tail: nobody follows it any more, or this process writes the log now."""
        tail = self._tails.pop(run_id, None)
        self._changed.pop(run_id, None)
        if tail is not None and self.watch is not None:
            self.watch.leave(run_id)
        if not self._tails and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return tail

    def all(self) -> list[str]:
        return list(self._tails)

    def hear(self, run_id: str, after: int, entries: Sequence[Entry], stored: int) -> None:
        """What its owner says of a log: all entries above `after` up to the last of these, and the number up to which
        it is in the store."""
        tail = self._tails.get(run_id)
        if tail is None or tail.ended:
            return
        gapped, tail.stored = tail.gapped, max(tail.stored, stored)
        if entries and not tail.feed(after, entries) and not gapped:
            self.ask(run_id)
        if stored > tail.last:
            self.ask(run_id)

    def let_go(self) -> None:
        """Tell all who follow one to ask another process, now and from now on."""
        self.released = True
        for tail in self._tails.values():
            tail.let_go()

    def ask(self, run_id: str) -> None:
        """Ask the store for the next entries of a log, if it is followed here."""
        tail = self._tails.get(run_id)
        if tail is None or tail.ended:
            return
        if self._look is None:
            tail.finish()
            return
        self._changed[run_id] = None
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    def _rung(self, run_id: str) -> None:
        for each in list(self._tails) if run_id == ANY else (run_id,):
            self.ask(each)

    def _plan(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ROUND, self._tick)

    def _tick(self) -> None:
        """A store that nobody shares is only asked again for what it did not answer."""
        self._timer = None
        if self._tails:
            self._plan()
        for run_id in list(self._tails if self._shared else self._changed):
            self.ask(run_id)

    async def _run(self) -> None:
        try:
            while self._changed:
                await self._see()
        except ProxyError as error:  # the next tick asks again
            if not self._blind:
                logger.warning("followed logs cannot be looked at: their readers wait", error=error.code)
            self._blind = True
        finally:
            self._task = None

    async def _see(self) -> None:
        """Ask the store for those that have changed, the one that has waited longest first."""
        assert self._look is not None
        asked = []
        for run_id in list(self._changed)[:TOGETHER]:
            tail = self._tails[run_id]
            asked.append((tail, tail.last if tail.placed else NOTHING))
        for tail, _ in asked:
            del self._changed[tail.run_id]
        try:
            seen = await self._look([(tail.run_id, after) for tail, after in asked])
        except ProxyError:
            self._changed.update((tail.run_id, None) for tail, _ in asked if self._tails.get(tail.run_id) is tail)
            raise
        if self._blind:
            self._blind = False
            logger.info("followed logs are looked at again")
        for tail, after in asked:
            if self._tails.get(tail.run_id) is tail and not tail.ended:
                self._take(tail, after, seen.get(tail.run_id, UNKNOWN))

    def _take(self, tail: Tail, after: int, sight: Sight) -> None:
        if not tail.placed or (sight.damaged and sight.last > tail.last):
            tail.place(sight.last)
            if not sight.open:
                tail.finish()
        elif sight.trimmed:
            tail.skip(sight.entries)
        else:
            tail.stored = max(tail.stored, sight.last)
            tail.feed(after, sight.entries)
            if tail.ended:
                return
            if sight.last > tail.last:
                self.ask(tail.run_id)
            elif not sight.open:
                tail.vanish()

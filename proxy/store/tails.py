"""Tails: the logs that are followed here and written elsewhere, or by nobody yet.

The store is asked for all of them together: when a signal says that one has grown, and once a second, since signals
get lost. In a store that nobody shares there is nothing to ask: a run that waits begins in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from proxy.errors import ProxyError
from proxy.events import Entry
from proxy.store.feeds import Tail
from proxy.store.signals import ANY, Signals, Topic

ROUND = 1.0
"""Seconds from one look at all tails to the next."""
TOGETHER = 200
"""Logs that are asked for at a time."""
NOTHING = 1 << 62
"""Above all numbers."""


class Sight(NamedTuple):
    """What the store has of a log: its next entries, the number of its last one, and whether its run has not ended.

    `trimmed`: some before the first of the entries are no longer kept."""

    entries: list[Entry]
    last: int
    open: bool
    trimmed: bool = False


Look = Callable[[Sequence[tuple[str, int]]], Awaitable[dict[str, Sight]]]
"""[(run id, after), ...] -> what there is of each, as it is at one moment; an unknown run is left out."""
UNKNOWN = Sight([], 0, False)


class Watch(Protocol):
    """Who wants to know which logs are followed here."""

    def follow(self, run_id: str) -> None: ...

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
        self._released = False
        if signals is not None:
            signals.hear(Topic.LOG, self._rung)

    def get(self, run_id: str) -> Tail | None:
        return self._tails.get(run_id)

    def open(self, run_id: str, after: int | None = None) -> Tail:
        """The tail of a run; one that is new begins after that number, or where the store says that the log ends."""
        tail = self._tails.get(run_id)
        if tail is None:
            tail = self._tails[run_id] = Tail(run_id, after)
            tail.released = self._released
            if self.watch is not None:
                self.watch.follow(run_id)
            self._ask(run_id)
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

    def feed(self, run_id: str, after: int, entries: Sequence[Entry]) -> None:
        """All entries of a log above `after` up to the last of these, as its owner says."""
        tail = self._tails.get(run_id)
        if tail is not None and not tail.ended:
            gapped = tail.gapped
            if not tail.feed(after, entries) and not gapped:
                self._ask(run_id)

    def let_go(self) -> None:
        """Tell all who follow one to ask another process, now and from now on."""
        self._released = True
        for tail in self._tails.values():
            tail.let_go()

    def _rung(self, run_id: str) -> None:
        if run_id == ANY:
            self._ask_all()
        elif run_id in self._tails:
            self._ask(run_id)

    def _ask_all(self) -> None:
        for run_id in self._tails:
            self._ask(run_id)

    def _ask(self, run_id: str) -> None:
        tail = self._tails[run_id]
        if self._look is None:
            tail.finish()
        elif not tail.ended:
            self._changed[run_id] = None
            if self._task is None:
                self._task = asyncio.ensure_future(self._run())
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(ROUND, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._shared:
            self._ask_all()
        elif self._changed:  # the store could not be asked
            self._ask(next(iter(self._changed)))

    async def _run(self) -> None:
        try:
            while self._changed:
                await self._see()
        except ProxyError:
            pass  # the next tick asks again
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
        for tail, after in asked:
            if self._tails.get(tail.run_id) is tail and not tail.ended:
                self._take(tail, after, seen.get(tail.run_id, UNKNOWN))

    def _take(self, tail: Tail, after: int, sight: Sight) -> None:
        if not tail.placed:
            tail.place(sight.last)
            if not sight.open:
                tail.finish()
        elif sight.trimmed:
            tail.skip(sight.entries)
        else:
            tail.feed(after, sight.entries)
            if tail.ended:
                return
            if sight.last > tail.last:
                self._ask(tail.run_id)
            elif not sight.open:
                tail.vanish()

"""Takes runs from the queue: when to look, how many to take, of which agents.

The queue is the store's; see `proxy.store.claims`. Here is one process that has room, and hands what it gets to
`begin`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Literal

import msgspec
import structlog

from proxy.errors import ProxyError
from proxy.model import Run
from proxy.store.base import Store
from proxy.store.signals import Topic

POLL = 1.0
"""Seconds after which a shared store is looked at again at the latest, for signals may get lost."""
FIRST, LONGEST = 0.1, 5.0
"""Seconds until a store that is away is asked again, twice as long each time."""

logger = structlog.get_logger(__name__)


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is for, and how many runs from the queue it has under way at most."""

    kind: Literal["server", "worker"] = "server"
    concurrent: int = 100
    sweeps: bool = True
    """It deletes old runs and threads: their agents' adapters are here, to forget them too."""


class Room:
    """How many runs from the queue are under way here, in all and of each agent, and how many more may be."""

    def __init__(self, most: int, limits: dict[str, int]) -> None:
        self._most = most
        self._limits = limits
        """By agent; 0 is no bound of its own."""
        self._taken: Counter[str] = Counter()
        self._turn = 0

    def take(self, agent: str) -> None:
        self._taken[agent] += 1

    def free(self, agent: str) -> None:
        self._taken[agent] -= 1

    @property
    def left(self) -> int:
        return self._most - self._taken.total()

    def portions(self, agents: Collection[str]) -> list[tuple[frozenset[str], int]]:
        """Which agents may be claimed for together, and how many runs of each such group.

        Each time another group comes first: what is left in all may be less than they have room for.
        """
        bounded = {name: self._limits[name] for name in agents if self._limits.get(name)}
        free = frozenset(agents).difference(bounded)
        groups = [(free, self._most)] if free else []
        groups += [(frozenset([name]), most - self._taken[name]) for name, most in bounded.items()]
        self._turn += 1
        at = self._turn % len(groups) if groups else 0
        return groups[at:] + groups[:at]


class Claims:
    """`wanted` tells which agents to claim for. `begin` gets each run that was claimed, and tells what to wait for
    until its room is free again; None where it took none. What ends in a `ProxyError` is put back."""

    def __init__(
        self,
        store: Store,
        room: Room,
        wanted: Callable[[], Collection[str]],
        begin: Callable[[Run], asyncio.Future[Run | None] | None],
    ) -> None:
        self._store = store
        self._room = room
        self._wanted = wanted
        self._begin = begin
        self._rung = asyncio.Event()
        self._closed = False
        self._short = False
        """The last look left something for want of room."""
        self._returned: dict[str, Run] = {}
        """Runs of this process that are to wait again."""
        store.signals.hear(Topic.QUEUE, lambda _: self.ring())

    def ring(self) -> None:
        """There may be something to take."""
        self._rung.set()

    def close(self) -> None:
        """Take no more, from now on."""
        self._closed = True
        self.ring()

    def give_back(self, run: Run) -> None:
        """Let a run of this process wait again: any process may claim it."""
        self._returned[run.run_id] = run
        self.ring()

    def returns(self, run_id: str) -> bool:
        """Whether it is to be let wait again."""
        return run_id in self._returned

    async def run(self) -> None:
        """Until `close`; a store that is away is asked again."""
        again = FIRST
        while not self._closed:
            self._rung.clear()
            wait: float | None
            try:
                wait = await self.look()
                again = FIRST
            except ProxyError as error:
                if again == FIRST:
                    logger.warning("runs could not be claimed", error=error.code, message=error.message)
                wait, again = again, min(2 * again, LONGEST)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._rung.wait()
        with suppress(ProxyError):
            await self._return()

    async def look(self) -> float | None:
        """Take what there is room for. Returns the seconds after which to look again though no signal comes."""
        await self._return()
        agents, self._short = self._wanted(), False
        for names, most in self._room.portions(agents):
            await self._claim(names, min(most, self._room.left))
        return None if self._closed else await self._wait(agents)

    async def _claim(self, names: frozenset[str], most: int) -> None:
        if self._closed or most <= 0:
            self._short = self._short or most <= 0
            return
        runs = await self._store.claim(names, limit=most)
        for run in runs:
            self._take(run)
        if len(runs) == most:
            self._short = True
            if self._room.left > 0:  # of what came some was only to be ended
                self.ring()

    def _take(self, run: Run) -> None:
        if self._closed:
            self.give_back(run)
        elif (done := self._begin(run)) is not None:
            self._room.take(run.agent)
            done.add_done_callback(lambda done: self._over(run, done))

    def _over(self, run: Run, done: asyncio.Future[Run | None]) -> None:
        self._room.free(run.agent)
        error = None if done.cancelled() else done.exception()
        if isinstance(error, ProxyError):
            self.give_back(run)
        elif error is not None:
            logger.error("a run could not be begun", run_id=run.run_id, exc_info=error)
        if self._short:
            self.ring()

    async def _wait(self, agents: Collection[str]) -> float | None:
        poll = POLL if self._store.shared else None
        due = await self._store.due_at(agents)
        if due is None:
            return poll
        left = max(due - time.time(), 0.001)  # timers do not go by the clock that its time was told by
        return left if poll is None else min(left, poll)

    async def _return(self) -> None:
        for run in list(self._returned.values()):
            if run.owner == self._store.lease.owner:
                await self._store.release(run)
            self._returned.pop(run.run_id, None)

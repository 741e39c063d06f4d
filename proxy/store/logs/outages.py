"""Outlasting a store that is away: who has begun to follow a log keeps its place, and asks again."""

from __future__ import annotations

import asyncio
from math import inf

from proxy.errors import Unavailable

SHORTEST = 0.1
LONGEST = 1.0
"""Seconds from one try to the next, at first and in the end."""
PATIENCE = 120.0
"""Seconds after which a follower gives up."""


class Outage:
    """The store as one follower finds it, which is told of silence every `idle` seconds (0: never)."""

    def __init__(self, idle: float) -> None:
        self._idle = idle or inf
        self._begun = False
        self._pause = 0.0
        """How long the last wait was; 0 while the store answers."""
        self._until = inf
        self._due = inf
        """When to give up, and when to tell of the silence, on the loop's clock."""

    def answered(self) -> None:
        """There was an answer, from the store or from what is in memory."""
        self._begun = True
        self._pause = 0.0

    async def sit_out(self, error: Unavailable) -> bool:
        """The store has not answered: wait until it is asked again. True if the silence is to be told of then.

        Raises the error for who has had no answer yet, since nothing is lost by coming again, and after `PATIENCE`.
        """
        now = asyncio.get_running_loop().time()
        if not self._pause:
            self._until, self._due = now + PATIENCE, now + self._idle
        if not self._begun or now >= self._until:
            raise error
        self._pause = min(2 * self._pause or SHORTEST, LONGEST)
        await asyncio.sleep(self._pause)
        silent = now + self._pause >= self._due
        if silent:
            self._due = now + self._pause + self._idle
        return silent

"""This process among those that share the store: it is seen by them, renews its lease, and sees who else is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf

import structlog

from proxy.errors import ProxyError
from proxy.store.base import Store
from proxy.store.claims import Server

BEATS = 3
"""Renewals in the time of a lease."""
SOON = 15
"""The part of a lease after which a renewal that failed is tried again."""
REMIND = 60.0
"""Seconds until it is told again that an agent has no worker."""

logger = structlog.get_logger(__name__)


class Leases:
    """Renews the lease of this process, which is `server`; after a loss it joins anew, under another name."""

    def __init__(self, store: Store, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self.known: frozenset[str] = server.agents
        """Agents that some live process knows of."""
        self.served: frozenset[str] = frozenset()
        """Agents that a live worker runs."""
        self._store = store
        self._server = server
        self._clock = clock
        self._since: float | None = None
        """When the renewals began that have gone on without a failure."""
        self._joined = False
        self._wanted: set[str] = set()
        """Agents of which runs were asked for since the last look, and that only workers run."""
        self._missed: dict[str, float] = {}
        """Agents of which it was told that they have no worker, and when."""
        self._hurry = asyncio.Event()
        store.lease.listen(self._told)

    @property
    def steady(self) -> bool:
        """It was renewed for one full lease without a failure: who has not renewed in that time is lost, and it is not
        the store that was away."""
        lease = self._store.lease
        return self._since is not None and self._clock() - self._since >= lease.seconds and lease.holds()

    async def open(self) -> None:
        """Raises `Unavailable`."""
        await self.beat()

    async def run(self) -> None:
        """As long as others may take what is this process's."""
        lease = self._store.lease.seconds
        while True:
            self._hurry.clear()
            wait = lease / BEATS
            try:
                await self.beat()
            except ProxyError as error:
                logger.warning("the lease could not be renewed", error=error.code, message=error.message)
                wait = lease / SOON
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._hurry.wait()

    async def beat(self) -> None:
        """Renew, or join anew after a loss, and look who is there. Raises `Unavailable`."""
        try:
            if not (self._joined and await self._store.renew()):
                await self._join()
            if self._since is None:
                self._since = self._clock()
            await self._look_around()
        except ProxyError:
            self._since = None
            raise

    def want(self, agent: str) -> None:
        """A run of this agent is for a worker: that there is none is told, unless one turns up by the next look."""
        self._wanted.add(agent)

    async def close(self) -> None:
        """Be gone; what is still this process's may be taken at once."""
        try:
            await self._store.leave()
        except ProxyError as error:
            logger.warning("others will find out by themselves that this process is gone", error=error.code)

    async def _join(self) -> None:
        self._joined = False
        await self._store.join(self._server)
        self._joined = True

    async def _look_around(self) -> None:
        there = await self._store.servers()
        self.known = self._server.agents.union(*(server.agents for server in there))
        self.served = frozenset().union(*(server.agents for server in there if server.kind == "worker"))
        self._tell_missing()

    def _tell_missing(self) -> None:
        now, wanted, self._wanted = self._clock(), self._wanted, set()
        self._missed = {agent: at for agent, at in self._missed.items() if agent not in self.served}
        for agent in sorted(wanted - self.served):
            if now >= self._missed.get(agent, -inf) + REMIND:
                self._missed[agent] = now
                logger.warning("runs wait, for no worker is up that has the agent: start `runwire worker`", agent=agent)

    def _told(self, kept: bool) -> None:
        """The lease was renewed late, or was lost."""
        self._since = self._clock() if kept else None
        if not kept:
            logger.warning("the lease was lost: other processes have taken what this one had under way")
            self._joined = False
            self._hurry.set()

"""What every process of ours is made of: the store, the agents, their runs, and what hangs on them.

A server (`app.py`) is such a process with routes in front of it; a worker (`worker.py`) is one with none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from proxy import plugins
from proxy.blocked import Watchdog
from proxy.errors import ConfigError, Unavailable
from proxy.events import NULL
from proxy.log import Scrubber, secrets
from proxy.model import Run
from proxy.runs.agents import Agent, Agents
from proxy.runs.deliveries import Deliveries
from proxy.runs.manager import Post, RunManager
from proxy.runs.states import States
from proxy.runs.threads import ThreadManager
from proxy.runs.webhooks import Webhooks
from proxy.settings import Settings, contradictions
from proxy.store import connect
from proxy.wire.conversation import Conversation
from proxy.wire.webhook import told
from proxy.workflows.board import Policy
from proxy.workflows.engine import Engine
from proxy.workflows.leftovers import Leftovers


class Process:
    """One process, which runs the agents of these names. Two of them may live in one process of the system's."""

    def __init__(self, settings: Settings, here: Collection[str], kind: Literal["server", "worker"] = "server") -> None:
        if faults := [fault for fault, _ in contradictions(settings)]:
            raise ConfigError("\n".join(faults))
        self.settings = settings
        self._executor = ThreadPoolExecutor(settings.runs.threads, thread_name_prefix="agent")
        self.store = connect(settings.store, Path(settings.folder), settings.live)
        if self.store.shared:
            self.store.lease.seconds = settings.runs.lease
        site = plugins.site(settings, executor=self._executor, holds=self.store.lease.holds, owner=self._owner)
        adapters = plugins.Builder(settings, site).build(here)
        self.memories = plugins.LazyMemories(site)
        self.agents = Agents(
            Agent(name=name, adapter=adapter, settings=settings.agents[name], here=name in here)
            for name, adapter in adapters.items()
        )
        self.webhooks = Webhooks(settings.webhooks, self._told)
        self._deliveries = Deliveries(self.store, self.webhooks)
        self.states = States(self.store, Conversation())
        scrub = Scrubber(tuple(secrets(settings))).text
        # A server does not import for this what others run; a worker does.
        sweeps = kind == "worker" or self.agents.here == settings.agents.keys()
        post = Post(kind=kind, concurrent=settings.worker.concurrent, sweeps=sweeps)
        self.manager = RunManager(self.store, self.agents, settings.runs, self.states, scrub=scrub, post=post)
        self.manager.on_end.append(self._deliveries.add)
        self.threads = ThreadManager(self.store, self.manager, self.states, most=settings.server.limits.threads)
        most = Policy(runs=settings.dialects.workflows.concurrent)
        self.engine = Engine(self.store, self.manager, settings.runs.prices, most)
        self._conducts = kind == "server"  # a worker takes no more than it has room for, and nobody can ask it
        self.manager.sweeps += [Leftovers(self.store, settings.runs).sweep, self._deliveries.look]
        if sweeps:
            self.manager.sweeps.append(self.threads.sweep)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Have it do its work inside of the block. Raises `ConfigError`, `Unavailable`."""
        asyncio.get_running_loop().set_default_executor(self._executor)
        await self.store.open(migrate=self.settings.migrate)
        try:
            for agent in self.agents:
                await agent.adapter.open()
            await self.manager.open()
            if self._conducts:
                await self.engine.open()
            await self._deliveries.open()
            with Watchdog():
                yield
        finally:
            await self.engine.close()
            await self.manager.close()
            await self._deliveries.close()
            await self.agents.close()
            await self.memories.close()
            await self.store.close()
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def drain(self) -> None:
        """Take no more work and let what runs end; returns when all has its end, or was given one."""
        self.engine.leave()
        await self.manager.drain(self.settings.server.drain)
        await self.engine.close()

    async def ready(self) -> None:
        """Raises `Draining`, or `Unavailable` while the store is away or does not hear from this process."""
        await self.manager.ready()
        if not self.store.lease.holds():
            raise Unavailable("The lease of this process has run out: its runs may be others' by now.")

    def _owner(self) -> str | None:
        return self.store.lease.owner if self.store.shared else None

    async def _told(self, run: Run) -> bytes:
        """What the webhook of a run is told: its record, and what it left its thread with."""
        whole = await self.store.get(run.tenant, run.run_id) or run  # deliveries hold it without its input
        entries = await self.manager.read(run, after=0, limit=1)
        thread = await self.store.get_thread(run.tenant, run.thread_id)
        values = thread.outcome.values if thread is not None else None
        started = entries[0].at if entries else None
        return told(whole, started_at=started, sent_at=time.time(), values=NULL if values is None else values)

"""Run managers that share a store, as processes have them, in one event loop and in a test's hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
from msgspec import Raw

from proxy.adapter import RunInput
from proxy.events import FINAL, Entry, Event, RunStarted, TextDelta
from proxy.messages import Message
from proxy.model import Choices, Run, RunStatus, new_id
from proxy.runs.agents import Agent, Agents
from proxy.runs.claims import Post
from proxy.runs.manager import RunManager
from proxy.runs.order import Order
from proxy.settings import Agent as AgentSettings
from proxy.settings import Limits, Runs
from proxy.store.base import Store
from proxy.store.claims import Server
from proxy.testing import Script
from tests.store.databases import Database

LEASE = 0.6
"""Seconds."""


class Resuming(Script):
    """An agent that can go on from what a lost process has left."""

    resumes = True


AGENTS = {
    "plain": AgentSettings(adapter="test"),
    "steady": AgentSettings(adapter="test", retry="resume"),
    "remote": AgentSettings(adapter="test", execute="worker"),
    "few": AgentSettings(adapter="test", limits=Limits(concurrent=3)),
}


class Node:
    """One process: `agents` are its agents in a test's hand, by name."""

    def __init__(self, store: Store, kind: Literal["server", "worker"], concurrent: int) -> None:
        store.lease.seconds = LEASE
        self.store = store
        self.agents = {name: Resuming() for name in AGENTS}
        agents = Agents(
            Agent(
                name=name,
                adapter=self.agents[name],
                settings=settings,
                here=kind == "worker" or settings.execute == "server",
            )
            for name, settings in AGENTS.items()
        )
        post = Post(kind=kind, concurrent=concurrent)
        self.manager = RunManager(store, agents, Runs(cancel_grace=0.2, settle_timeout=5.0), post=post)

    async def start(self, agent: str = "plain", *, thread: str | None = None, **order: Any) -> Run:
        asked = RunInput(
            run_id=new_id(),
            thread_id=thread or new_id(),
            agent=agent,
            messages=(Message(role="user", content="Hello"),),
            temporary=thread is None,
        )
        choices = Choices(strategy="reject" if thread is None else "enqueue")
        return await self.manager.create(Order(input=asked, **{"choices": choices} | order))

    async def log(self, run: Run, after: int = 0) -> list[Entry]:
        """All entries to the end of the run."""
        entries: list[Entry] = []
        async for batch in self.manager.follow(run, after=after, idle=0):
            entries += batch
        return entries

    async def events(self, run: Run) -> list[Event]:
        """What the run says to its one end."""
        events = [entry.event for entry in await asyncio.wait_for(self.log(run), 20)]
        assert [isinstance(event, FINAL) for event in events] == [False] * (len(events) - 1) + [True]
        return events

    async def until(self, run: Run, status: RunStatus) -> None:
        while (await self.manager.get(run.tenant, run.run_id)).status is not status:
            await asyncio.sleep(0.01)


class Fleet:
    """Nodes over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def node(self, kind: Literal["server", "worker"] = "server", concurrent: int = 100) -> AsyncIterator[Node]:
        store = self._database.store()
        node = Node(store, kind, concurrent)
        await store.open()
        try:
            await node.manager.open()
            yield node
            await node.manager.drain(0)
            await node.manager.close()
        finally:
            await store.close()

    async def lost(self, agent: str, thread_id: str) -> Run:
        """A run that another process has begun, which is gone without a word; its time is up at once."""
        store = self._database.store()
        store.lease.seconds = 60.0
        await store.open()
        await store.join(Server(server_id=""))
        asked = RunInput(run_id=new_id(), thread_id=thread_id, agent=agent)
        record = Run(
            run_id=asked.run_id,
            thread_id=thread_id,
            agent=agent,
            status=RunStatus.RUNNING,
            created_at=time.time(),
            turn_id=asked.run_id,
            input=Raw(msgspec.json.encode(asked)),
        )
        run = await store.insert(record)
        log = store.begin(run, inserted=True)
        log.append(RunStarted(run_id=run.run_id, thread_id=thread_id, agent=agent))
        log.append(TextDelta(text="Hello"))
        while (await store.last(run.run_id), log.followed) != (2, False):
            await asyncio.sleep(0.01)
        await store.close()
        self.expire(store)
        return run

    def expire(self, store: Store) -> None:
        """Its process has been silent for too long."""
        self._database.ask("UPDATE servers SET lease_until = 0 WHERE server_id = %s", store.lease.owner)

    def bury(self, store: Store) -> None:
        """Have its runs taken before it can renew."""
        self._database.ask("DELETE FROM servers WHERE server_id = %s", store.lease.owner)

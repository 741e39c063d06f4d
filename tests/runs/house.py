"""A run manager over the memory store with one agent, for tests that step it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.adapter import Adapter, NoOptions, RunInput, Site
from proxy.events import FINAL, Entry, Event
from proxy.messages import Message
from proxy.model import Choices, Run, new_id
from proxy.runs.agents import Agent, Agents
from proxy.runs.manager import RunManager
from proxy.runs.order import Order
from proxy.settings import Agent as AgentSettings
from proxy.settings import Limits, Runs
from proxy.store.memory.store import MemoryStore

SITE = Site(agent="agent", folder=Path(), state="memory://")


class Scenario(Adapter):
    """An agent that is one async generator function."""

    def __init__(self, play: Callable[[RunInput], AsyncGenerator[Event]]) -> None:
        super().__init__(NoOptions(), SITE)
        self._play = play

    def stream(self, run: RunInput) -> AsyncGenerator[Event]:
        return self._play(run)


class House:
    """The manager, and what tests do with it all the time."""

    def __init__(self, adapter: Adapter, runs: Runs, limits: Limits, store: MemoryStore) -> None:
        self.store = store
        settings = AgentSettings(adapter="test", limits=limits)
        self.manager = RunManager(self.store, Agents([Agent(name="agent", adapter=adapter, settings=settings)]), runs)

    async def start(self, *, thread: str | None = None, tenant: str = "default", **order: object) -> Run:
        asked = RunInput(
            run_id=new_id(),
            thread_id=thread or new_id(),
            agent="agent",
            tenant=tenant,
            messages=(Message(role="user", content="Hello"),),
            temporary=thread is None,
        )
        order.setdefault("choices", Choices())
        return await self.manager.create(Order(input=asked, **order))  # type: ignore[arg-type]

    async def log(self, run: Run) -> list[Entry]:
        """All entries to the end of the run."""
        entries: list[Entry] = []
        async for batch in self.manager.follow(run, idle=0):
            entries += batch
        return entries

    async def final(self, run: Run) -> Event:
        """The one final event: fails if there is none, another, or anything behind it."""
        entries = await asyncio.wait_for(self.log(run), 20)
        finals = [entry for entry in entries if isinstance(entry.event, FINAL)]
        assert len(finals) == 1, [entry.event for entry in entries]
        assert entries[-1] is finals[0]
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        return entries[-1].event


@asynccontextmanager
async def house(
    adapter: Adapter, runs: Runs | None = None, limits: Limits | None = None, store: MemoryStore | None = None
) -> AsyncIterator[House]:
    here = House(adapter, runs or Runs(cancel_grace=0.2), limits or Limits(), store or MemoryStore())
    await here.manager.open()
    try:
        yield here
    finally:
        await here.manager.drain(0)
        await here.manager.close()

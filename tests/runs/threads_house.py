"""A thread manager with a run manager beside it, over either store, and agents that tests hold in their hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from proxy.adapter import Checkpoint, Mark, Native, RunInput, State, ThreadName, ThreadState, Update
from proxy.model import Choices, Lifetime, Run, Thread, ThreadStatus, new_id
from proxy.runs.agents import Agent, Agents
from proxy.runs.manager import RunManager
from proxy.runs.order import Order
from proxy.runs.states import States
from proxy.runs.threads import ThreadManager
from proxy.settings import Agent as AgentSettings
from proxy.settings import Retention, Runs
from proxy.store.base import Store
from proxy.store.memory.store import MemoryStore
from proxy.testing import Script, ScriptedRun
from proxy.wire.conversation import Conversation
from tests.store.files import opened

HI = {"messages": [{"role": "user", "content": "hi"}]}
HOUR = Lifetime(ttl=60.0)
On = Callable[..., None]
"""The fixture `on`."""


def raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


def names(*threads: Thread) -> list[str]:
    return [thread.thread_id for thread in threads]


class HeldState(ThreadState):
    """Keeps a list of what was written; every act waits until the test opens `gate`."""

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = {}
        self.reached, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def _wait(self) -> None:
        self.reached.set()
        await self.gate.wait()

    async def state(
        self, thread: ThreadName, checkpoint: Checkpoint | None = None, *, subgraphs: bool = False
    ) -> State:
        return State(values=raw({"log": self.values.get(thread.key, [])}))

    async def history(self, thread: ThreadName, **how: Any) -> list[State]:
        return [await self.state(thread)]

    async def update(
        self, thread: ThreadName, steps: Sequence[Sequence[Update]], checkpoint: Checkpoint | None = None
    ) -> Checkpoint:
        await self._wait()
        written = self.values.setdefault(thread.key, [])
        written += (msgspec.json.decode(update.values) for step in steps for update in step)
        return Checkpoint(thread_id=thread.thread_id, checkpoint_ns="", checkpoint_id=str(len(written)))

    async def copy(self, source: ThreadName, target: ThreadName) -> None:
        await self._wait()
        self.values[target.key] = list(self.values.get(source.key, []))

    async def keep_newest(self, thread: ThreadName) -> None:
        await self._wait()
        self.values[thread.key] = self.values.get(thread.key, [])[-1:]

    async def mark(self, thread: ThreadName, *, anywhere: bool = False, run_id: str | None = None) -> Mark:
        return Mark(newest="")

    async def rollback(self, thread: ThreadName, mark: Mark) -> None: ...


class Held(Script):
    """An agent that keeps its threads itself, and remembers whom it was told to forget."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.threads = HeldState()

    async def forget(self, thread_key: str) -> None:
        self.held.values.pop(thread_key, None)


class ThreadHouse:
    """`bot` keeps no state of its own, `held` does."""

    def __init__(self, store: Store, most: int, sweeps_every: float | None) -> None:
        self.store = store
        self.bot, self.held = Script(), Held()
        settings = AgentSettings(adapter="test")
        agents = Agents(
            Agent(name=name, adapter=adapter, settings=settings)
            for name, adapter in (("bot", self.bot), ("held", self.held))
        )
        states = States(store, Conversation())
        retention = Retention(every=sweeps_every or 60.0)
        self.manager = RunManager(store, agents, Runs(cancel_grace=5.0, retention=retention), states)
        self.threads = ThreadManager(store, self.manager, states, most=most)
        if sweeps_every:
            self.manager.sweeps.append(self.threads.sweep)

    async def thread(self, agent: str | None = "bot", **fields: Any) -> Thread:
        metadata = fields.pop("metadata", {}) | ({} if agent is None else {"graph_id": agent})
        return await self.threads.create(Thread(thread_id=new_id(), metadata=metadata, **fields))

    async def run(self, thread: Thread, agent: str = "bot", **choices: Any) -> Run:
        asked = RunInput(
            run_id=new_id(),
            thread_id=thread.thread_id,
            agent=agent,
            tenant=thread.tenant,
            input=raw(HI),
            native=Native(),
            fresh=False,
        )
        return await self.manager.create(Order(input=asked, choices=Choices(**choices)))

    async def started(self, agent: str = "bot") -> ScriptedRun:
        return await (self.bot if agent == "bot" else self.held).started()

    async def write(self, thread: Thread, value: Any = HI, **fields: Any) -> Checkpoint:
        return await self.threads.update(thread.tenant, thread.thread_id, Update(values=raw(value), **fields))

    async def values(self, thread: Thread) -> Any:
        return msgspec.json.decode((await self.threads.state(thread.tenant, thread.thread_id)).values)

    async def said(self, thread: Thread) -> list[str]:
        """What stands in the conversation."""
        return [message["content"] for message in (await self.values(thread)).get("messages", [])]

    async def status(self, thread: Thread) -> ThreadStatus:
        return (await self.threads.get(thread.tenant, thread.thread_id)).status


@asynccontextmanager
async def thread_house(
    path: Path | None = None, *, most: int = 0, sweeps_every: float | None = None
) -> AsyncIterator[ThreadHouse]:
    """Over a file, or memory without one. Lifetimes are looked after every so many seconds, or when the test does."""
    async with asyncio.timeout(20), AsyncExitStack() as stack:
        store = MemoryStore() if path is None else await stack.enter_async_context(opened(path))
        here = ThreadHouse(store, most, sweeps_every)
        await here.manager.open()
        try:
            yield here
        finally:
            await here.manager.drain(0)
            await here.manager.close()


Act = Callable[[ThreadHouse], Awaitable[None]]
"""What a test does in such a house."""

"""Stands for the adapter of an agent that other processes run, so that this one need not import it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from types import SimpleNamespace
from typing import Any

import structlog
from msgspec import Raw

from proxy.adapter import (
    Adapter,
    Blueprint,
    Checkpoint,
    Mark,
    Model,
    RunInput,
    Site,
    State,
    ThreadName,
    ThreadState,
    Update,
)
from proxy.errors import AdapterMissing, ConfigError
from proxy.events import Event
from proxy.traits import Traits

logger = structlog.get_logger(__name__)

Reach = Callable[[], Awaitable[Adapter]]
"""The adapter itself, imported and opened if it is not yet. Raises `AdapterMissing`."""


class Elsewhere(Adapter):
    """What the traits say is known. Whatever else is asked needs the adapter: `make` imports it when that first
    happens, and where it cannot, those questions alone are refused with `AdapterMissing`.

    `options` are as the config has them; who runs the agent checks them.
    """

    def __init__(self, options: dict[str, Any], site: Site, traits: Traits, make: Callable[[], Adapter]) -> None:
        super().__init__(SimpleNamespace(**options), site)
        vars(self).update(
            native=traits.native,
            overrides_model=traits.overrides_model,
            takes_tools=traits.takes_tools,
            resumes=traits.resumes,
        )
        self.threads = FarThreads(self.reach) if traits.threads else None
        self.blueprint = FarBlueprint(self.reach) if traits.blueprint else None
        self.traits = traits
        self._make = make
        self._lock = asyncio.Lock()
        self._adapter: Adapter | None = None
        self._fault: str | None = None

    async def reach(self) -> Adapter:
        """See `Reach`. What is not installed is looked for once; a database that is away is asked again."""
        async with self._lock:
            if self._adapter is None:
                if self._fault is None:
                    await self._import()
                if self._fault is not None:
                    raise self._missing()
            assert self._adapter is not None
            return self._adapter

    async def _import(self) -> None:
        try:
            adapter = await asyncio.to_thread(self._make)
            async with AsyncExitStack() as undo:
                undo.push_async_callback(adapter.close)
                await adapter.open()
                undo.pop_all()
        except ConfigError as error:
            self._fault = error.message
            logger.warning("an agent of the workers cannot be loaded here", agent=self.site.agent, fault=self._fault)
        else:
            self._adapter = adapter

    def _missing(self) -> AdapterMissing:
        return AdapterMissing(
            f"The agent `{self.site.agent}` is run by workers, and this server cannot load it: its runs are served "
            "here, but what only its adapter knows is not. Install in the servers what the workers have."
        )

    def stream(self, run: RunInput) -> AsyncGenerator[Event]:
        raise self._missing()

    async def models(self) -> list[Model] | None:
        return await (await self.reach()).models() if self.traits.models else None

    async def check_forget(self) -> None:
        if self.traits.forgets:
            await self.reach()

    async def forget(self, thread_key: str) -> None:
        if self.traits.forgets:
            await (await self.reach()).forget(thread_key)

    async def close(self) -> None:
        if self._adapter is not None:
            await self._adapter.close()


class FarThreads(ThreadState):
    """The threads of such an agent."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def _threads(self) -> ThreadState:
        threads = (await self._reach()).threads
        assert threads is not None
        return threads

    async def state(
        self, thread: ThreadName, checkpoint: Checkpoint | None = None, *, subgraphs: bool = False
    ) -> State:
        return await (await self._threads()).state(thread, checkpoint, subgraphs=subgraphs)

    async def history(
        self,
        thread: ThreadName,
        *,
        limit: int,
        before: Checkpoint | None = None,
        checkpoint: Checkpoint | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> list[State]:
        threads = await self._threads()
        return await threads.history(thread, limit=limit, before=before, checkpoint=checkpoint, metadata=metadata)

    async def update(
        self, thread: ThreadName, steps: Sequence[Sequence[Update]], checkpoint: Checkpoint | None = None
    ) -> Checkpoint:
        return await (await self._threads()).update(thread, steps, checkpoint)

    async def copy(self, source: ThreadName, target: ThreadName) -> None:
        await (await self._threads()).copy(source, target)

    async def keep_newest(self, thread: ThreadName) -> None:
        await (await self._threads()).keep_newest(thread)

    async def mark(self, thread: ThreadName, *, anywhere: bool = False, run_id: str | None = None) -> Mark:
        return await (await self._threads()).mark(thread, anywhere=anywhere, run_id=run_id)

    async def rollback(self, thread: ThreadName, mark: Mark) -> None:
        await (await self._threads()).rollback(thread, mark)

    async def seal(self, thread: ThreadName) -> None:
        await (await self._threads()).seal(thread)

    async def check_resume(self, thread: ThreadName, checkpoint: Checkpoint | None = None) -> None:
        """Where the adapter is missing, whoever runs the agent finds out whether anybody takes the answer."""
        with suppress(AdapterMissing):
            await (await self._threads()).check_resume(thread, checkpoint)


class FarBlueprint(Blueprint):
    """What such an agent is made of; its nodes are not known before a run."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def _blueprint(self) -> Blueprint:
        blueprint = (await self._reach()).blueprint
        assert blueprint is not None
        return blueprint

    async def drawing(self, *, xray: int | bool = False) -> Raw:
        return await (await self._blueprint()).drawing(xray=xray)

    async def schemas(self) -> Raw:
        return await (await self._blueprint()).schemas()

    async def subgraphs(self, namespace: str | None = None, *, recurse: bool = False) -> Raw:
        return await (await self._blueprint()).subgraphs(namespace, recurse=recurse)

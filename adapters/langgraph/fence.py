"""What a run may write: to its thread's checkpoints all until it has ended, and nothing then; to the long-term store
all for as long as its process has the right to it.

LangGraph leaves checkpoints behind that are still being written when a run is cancelled in its last moments, and nobody
can stop a node that works in a thread or heeds no cancel. Without a fence their writes would land in what the next run
goes on from, or behind a rollback. The same goes for a process that was stopped and wakes up after its runs were taken.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)

from adapters.langgraph.durable import Saver
from proxy.adapter import Site
from proxy.errors import Unavailable

PAUSES = 5
"""Turns of the loop in which a checkpoint that waited for the one before begins."""


class Ousted(Unavailable):
    """Another process has taken over what this one did."""

    def __init__(self) -> None:
        super().__init__("This server's work was taken over by another one.", retry_after=1)


class Right:
    """A process's right to write what its runs make, as it is when this is made: once it is lost, the next one that the
    process gets is another."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.owner = site.owner()
        """See `Site.owner`."""

    def holds(self) -> bool:
        return self._site.holds() and self._site.owner() == self.owner


class Gate:
    """Counts the writes under way, of the event loop and of threads; shut, it lets none begin, nor while `holds` says
    that this process may not write."""

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._inside = 0
        self._shut = False
        self._quiet = asyncio.Event()
        self._quiet.set()

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Raises `CancelledError` once the gate is shut or the right is lost: whoever writes then was cancelled, or
        ought to have been."""
        with self._lock:
            if self._shut or not self._holds():
                raise asyncio.CancelledError
            self._inside += 1
        try:
            yield
        except Ousted:
            raise asyncio.CancelledError from None
        finally:
            with self._lock:
                self._inside -= 1
            self._loop.call_soon_threadsafe(self._look)

    async def close(self) -> None:
        """Let what was begun end, and what waits for that; then shut."""
        quiet = 0
        while quiet < PAUSES and not self._shut:
            quiet = 0 if self._inside else quiet + 1
            await self._emptied()
            await asyncio.sleep(0)
        await self.shut()

    async def shut(self) -> None:
        """Let nothing more begin, and what was begun end."""
        self._shut = True
        await self._emptied()

    async def _emptied(self) -> None:
        while self._inside:
            self._quiet.clear()
            self._look()
            await self._quiet.wait()

    def _look(self) -> None:
        if not self._inside:
            self._quiet.set()


class Fence(BaseCheckpointSaver[Any]):
    """A saver as one run sees it, until its gate is shut. `holds` is asked before each write, from any thread."""

    def __init__(self, saver: Saver, holds: Callable[[], bool]) -> None:
        super().__init__(serde=saver.serde)
        self._saver = saver
        self._takes_path = "task_path" in inspect.signature(saver.put_writes).parameters
        self.gate = Gate(holds)

    @property
    def config_specs(self) -> Any:
        return self._saver.config_specs

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self._saver.get_next_version(current, channel)

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> Saver:
        saver = self._saver.with_allowlist(extra_allowlist)
        if saver is self._saver:
            return self
        clone = copy.copy(self)
        clone._saver, clone.serde = saver, saver.serde
        return clone

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._saver.get_tuple(config)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self._saver.aget_tuple(config)

    def list(self, config: RunnableConfig | None, **how: Any) -> Iterator[CheckpointTuple]:
        return self._saver.list(config, **how)

    def alist(self, config: RunnableConfig | None, **how: Any) -> AsyncIterator[CheckpointTuple]:
        return self._saver.alist(config, **how)

    def get_delta_channel_history(self, **what: Any) -> Any:
        return self._saver.get_delta_channel_history(**what)

    async def aget_delta_channel_history(self, **what: Any) -> Any:
        return await self._saver.aget_delta_channel_history(**what)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        with self.gate.passed():
            return self._saver.put(config, checkpoint, metadata, new_versions)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        with self.gate.passed():
            return await self._saver.aput(config, checkpoint, metadata, new_versions)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        with self.gate.passed():
            self._saver.put_writes(config, writes, task_id, *self._path(task_path))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        with self.gate.passed():
            await self._saver.aput_writes(config, writes, task_id, *self._path(task_path))

    def _path(self, task_path: str) -> tuple[str, ...]:
        """Older savers know of none."""
        return (task_path,) if self._takes_path else ()

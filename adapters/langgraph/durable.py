"""The port for checkpoints that outlive the process: what threads need of a saver beyond LangGraph's own interface."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from langgraph.checkpoint.base import BaseCheckpointSaver

Saver = BaseCheckpointSaver[Any]


class Written(NamedTuple):
    """One pending write, as it stands in the table: `type` and `value` are what the serializer made of it."""

    ns: str
    checkpoint_id: str
    task_id: str
    task_path: str
    idx: int
    channel: str
    type: str
    value: bytes

    @property
    def place(self) -> tuple[str, str, str]:
        """The task that it is from."""
        return self.ns, self.checkpoint_id, self.task_id


class Before(msgspec.Struct, frozen=True):
    """How a thread was before a run: its newest checkpoint's id, and the writes to the newest of each graph, or to all
    checkpoints where that run goes on from an older one."""

    newest: str
    writes: tuple[Written, ...]
    anywhere: bool


class DurableSaver(Saver):
    """Every method that writes does all of it or nothing, also when the run that asked for it is cancelled."""

    @abstractmethod
    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Give the target, which has none, all checkpoints of the source."""

    @abstractmethod
    async def abefore(self, thread_id: str, *, anywhere: bool, run_id: str | None = None) -> Before:
        """How the thread is now. With a `run_id` that is kept until the next one asks: asked again for the same run,
        it tells how the thread was the first time."""

    @abstractmethod
    async def asince(self, thread_id: str, newest: str) -> tuple[list[Written], frozenset[str]]:
        """The writes to the newest checkpoint of each graph that there was when `newest` was the thread's newest, and
        the namespaces that have had checkpoints since."""

    @abstractmethod
    async def arewind(self, thread_id: str, before: Before) -> None:
        """Take back all that came since."""

    @abstractmethod
    async def adrop(self, thread_id: str, writes: Sequence[Written]) -> None:
        """Delete these writes."""

    @abstractmethod
    async def akeep_newest(self, thread_id: str) -> None:
        """Delete all but the newest checkpoint of the graph and of each sub-graph."""


def packed(before: Before) -> bytes:
    return msgspec.msgpack.encode(before)


def unpacked(kept: bytes) -> Before:
    return msgspec.msgpack.decode(kept, type=Before)

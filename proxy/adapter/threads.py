"""The port for threads: how the state is read and changed that an agent itself keeps of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from proxy.adapter.run_input import Checkpoint, thread_key
from proxy.events import NULL


class ThreadName(msgspec.Struct, frozen=True, kw_only=True):
    """A thread, as its caller knows it."""

    tenant: str = "default"
    thread_id: str

    @property
    def key(self) -> str:
        """`RunInput.thread_key` of the thread's runs."""
        return thread_key(self.tenant, self.thread_id)


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """A question that waits for an answer, as states show it."""

    id: str
    value: Raw


class StateTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task of the step that a state is before, or was. `checkpoint` or `state` is its sub-graph's."""

    id: str
    name: str
    path: tuple[Any, ...] = ()
    error: str | None = None
    interrupts: tuple[Asking, ...] = ()
    checkpoint: Checkpoint | None = None
    state: State | None = None
    result: Raw = NULL


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A thread's state at one checkpoint, in the JSON shape of the native API."""

    values: Raw = Raw(b"{}")
    next: tuple[str, ...] = ()
    tasks: tuple[StateTask, ...] = ()
    metadata: Raw = NULL
    created_at: str | None = None
    checkpoint: Checkpoint | None = None
    parent_checkpoint: Checkpoint | None = None
    interrupts: tuple[Asking, ...] = ()
    checkpoint_id: str | None = None
    parent_checkpoint_id: str | None = None


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """Values written to a state as if a node had; null as `__end__` ends what the thread has still to do."""

    values: Raw = NULL
    as_node: str | None = None


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A moment in a thread's life to go back to: what came after `newest` goes, and `writes` are put back.

    `writes` are for the adapter that made the mark alone.
    """

    newest: str
    writes: tuple[tuple[Any, ...], ...] = ()
    anywhere: bool = False


class ThreadState(ABC):
    """The threads of an agent that keeps their state itself. Nothing here may meet a run of the same thread.

    All but `mark` raise `BadRequest` for what the agent refuses; threads that it never saw are empty.
    """

    @abstractmethod
    async def state(
        self, thread: ThreadName, checkpoint: Checkpoint | None = None, *, subgraphs: bool = False
    ) -> State:
        """The state now or at a checkpoint. `subgraphs`: each task that is a sub-graph shows its state."""

    @abstractmethod
    async def history(
        self,
        thread: ThreadName,
        *,
        limit: int,
        before: Checkpoint | None = None,
        checkpoint: Checkpoint | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> list[State]:
        """States, newest first. `checkpoint` names the sub-graph whose history is asked for, or one state."""

    @abstractmethod
    async def update(
        self, thread: ThreadName, steps: Sequence[Sequence[Update]], checkpoint: Checkpoint | None = None
    ) -> Checkpoint:
        """Write to the state, one checkpoint a step, from the newest on or from an older one: a branch."""

    @abstractmethod
    async def copy(self, source: ThreadName, target: ThreadName) -> None:
        """Give `target`, which is empty, all that `source` has."""

    @abstractmethod
    async def keep_newest(self, thread: ThreadName) -> None:
        """Forget how the thread came to its state, and keep that."""

    @abstractmethod
    async def mark(self, thread: ThreadName, *, anywhere: bool = False, run_id: str | None = None) -> Mark:
        """What `rollback` needs, taken before a run begins. `anywhere`: the run goes on from an older checkpoint.

        `run_id` names the run: asked again for it, by any process, the mark is that from before its first attempt.
        """

    @abstractmethod
    async def rollback(self, thread: ThreadName, mark: Mark) -> None:
        """Take back all that happened to the thread since, sub-graphs and answers to questions included."""

    async def seal(self, thread: ThreadName) -> None:
        """Called when a run has ended: nothing that it still does, abandoned or in a thread, is kept from now on."""

    async def check_resume(self, thread: ThreadName, checkpoint: Checkpoint | None = None) -> None:
        """Called before a run that answers is made. Raises `Conflict` where nobody is left to take an answer."""

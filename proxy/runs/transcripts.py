"""Thread states made from transcripts, so that the threads of every agent have what a graph's have.

An agent that keeps no state itself is a graph of one node, which has the agent's name, and a state of messages.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from proxy.adapter import Asking, Checkpoint, Mark, State, StateTask, ThreadName, ThreadState, Update
from proxy.errors import BadRequest
from proxy.events import NULL
from proxy.model import SavedState, ThreadOutcome, ThreadStatus, new_id
from proxy.runs.agents import Agent
from proxy.runs.teller import EMPTY, Teller, refusals
from proxy.store.native import StateStore

START, END, INPUT, COPY = "__start__", "__end__", "__input__", "__copy__"
"""LangGraph's names for what is no node of its own but can be written as: entry, end, an input, nothing at all."""
PAGE = 100


class Transcripts(ThreadState):
    """The threads of one agent."""

    def __init__(self, agent: Agent, store: StateStore, teller: Teller) -> None:
        self.agent = agent
        self.store = store
        self.teller = teller

    @property
    def node(self) -> str:
        return self.agent.name

    async def state(
        self, thread: ThreadName, checkpoint: Checkpoint | None = None, *, subgraphs: bool = False
    ) -> State:
        saved = await self.saved(thread, checkpoint)
        return State() if saved is None else state_of(saved, self.node)

    async def history(
        self,
        thread: ThreadName,
        *,
        limit: int,
        before: Checkpoint | None = None,
        checkpoint: Checkpoint | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> list[State]:
        if checkpoint_id(checkpoint) is not None or (checkpoint is not None and checkpoint.checkpoint_ns):
            one = await self.saved(thread, checkpoint)
            found = [] if one is None else [one]
        else:
            found = await self._newest_first(thread, checkpoint_id(before), limit, metadata or {})
        return [state_of(saved, self.node) for saved in found]

    async def _newest_first(
        self, thread: ThreadName, before: str | None, limit: int, metadata: dict[str, Any]
    ) -> list[SavedState]:
        size = max(limit, PAGE) if metadata else limit
        found: list[SavedState] = []
        while len(found) < limit:
            page = await self.store.states(thread.tenant, thread.thread_id, before=before, limit=size)
            if not page:
                break
            found += (saved for saved in page if _has(metadata_of(saved, self.node), metadata))
            before = page[-1].checkpoint_id
        return found[:limit]

    async def saved(self, thread: ThreadName, checkpoint: Checkpoint | None = None) -> SavedState | None:
        """The state of a place, or the newest; None if there is none. There are no sub-graphs."""
        if checkpoint is not None and checkpoint.checkpoint_ns:
            return None
        return await self.store.get_state(thread.tenant, thread.thread_id, checkpoint_id(checkpoint))

    async def update(
        self, thread: ThreadName, steps: Sequence[Sequence[Update]], checkpoint: Checkpoint | None = None
    ) -> Checkpoint:
        newest = await self.saved(thread)
        base = newest if checkpoint_id(checkpoint) is None else await self.place(thread, checkpoint)
        after = "" if newest is None else newest.checkpoint_id
        made: list[SavedState] = []
        for step in steps:
            base = self._updated(thread, base, step, younger(after))
            after = base.checkpoint_id
            made.append(base)
        if base is None or not made:
            raise BadRequest("An update has at least one step.")
        await self.store.put_states(made)
        return place_of(base)

    async def place(self, thread: ThreadName, checkpoint: Checkpoint | None) -> SavedState:
        """The state of a place that has one. Raises `BadRequest`."""
        saved = await self.saved(thread, checkpoint)
        if saved is None:
            raise BadRequest(f"This thread has no checkpoint `{str(checkpoint_id(checkpoint))[:64]}`.")
        return saved

    def _updated(self, thread: ThreadName, base: SavedState | None, step: Sequence[Update], id: str) -> SavedState:
        """The state that an update makes; several at once are applied one after the other."""
        if not step:
            raise BadRequest("A step has at least one update.")
        new = SavedState(
            thread_id=thread.thread_id,
            tenant=thread.tenant,
            checkpoint_id=id,
            parent_id=None if base is None else base.checkpoint_id,
            created_at=time.time(),
            source="update",
            step=-1 if base is None else base.step + 1,
            values=EMPTY if base is None else base.values,
            next=() if base is None else base.next,
        )
        for number, update in enumerate(step):
            new = self._written(new, base, update, f"{id}/{number}")
        return new

    def _written(self, new: SavedState, base: SavedState | None, update: Update, seed: str) -> SavedState:
        replace, nothing = msgspec.structs.replace, update.values == NULL
        node = update.as_node or (START if base is None or base.next else self.node)
        if node in (START, self.node):
            with refusals():
                values = self.teller.apply(new.values, update.values, seed)
            return replace(new, values=values, next=(self.node,) if node == START else ())
        if node == INPUT:
            return replace(new, source="input", next=(START,))
        if node == END and nothing:
            return replace(new, next=())
        if node == COPY and nothing and base is not None:
            return replace(new, source="fork", parent_id=base.parent_id)
        raise BadRequest(f"Nothing can be written as `{node[:64]}`: this agent is one node, `{self.node}`.")

    async def copy(self, source: ThreadName, target: ThreadName) -> None:
        await self.store.copy_states(source.tenant, source.thread_id, target.thread_id)

    async def mark(self, thread: ThreadName, *, anywhere: bool = False, run_id: str | None = None) -> Mark:
        newest = await self.saved(thread)
        return Mark(newest="" if newest is None else newest.checkpoint_id, anywhere=anywhere)

    async def rollback(self, thread: ThreadName, mark: Mark) -> None:
        await self.store.cut_states(thread.tenant, thread.thread_id, after=mark.newest)

    async def keep_newest(self, thread: ThreadName) -> None:
        await self.store.keep_newest_state(thread.tenant, thread.thread_id)


def checkpoint_id(checkpoint: Checkpoint | None) -> str | None:
    """None for the newest."""
    return None if checkpoint is None or checkpoint.checkpoint_id is UNSET else checkpoint.checkpoint_id or None


def younger(after: str) -> str:
    """A new id that sorts behind another, even if the clock stands or goes back."""
    id = new_id()
    return id if id > after else str(uuid.UUID(int=uuid.UUID(after).int + 1))


def place_of(saved: SavedState) -> Checkpoint:
    return _place(saved.thread_id, saved.checkpoint_id)


def _place(thread_id: str, checkpoint_id: str) -> Checkpoint:
    return Checkpoint(thread_id=thread_id, checkpoint_ns="", checkpoint_id=checkpoint_id)


def task_id(saved: SavedState) -> str:
    """The id of the one task that may follow a state."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, saved.checkpoint_id))


def metadata_of(saved: SavedState, agent: str) -> dict[str, Any]:
    """What a state says of itself."""
    about: dict[str, Any] = {"graph_id": agent, **saved.metadata, "source": saved.source, "step": saved.step}
    about |= {"parents": {}, "thread_id": saved.thread_id}
    return about if saved.run_id is None else {**about, "run_id": saved.run_id}


def _has(metadata: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(key in metadata and metadata[key] == value for key, value in wanted.items())


def state_of(saved: SavedState, agent: str) -> State:
    """A state in the shape of the native API."""
    asking = tuple(Asking(id=asked.id, value=asked.value) for asked in saved.interrupts)
    tasks = tuple(
        StateTask(id=task_id(saved), name=node, path=("__pregel_pull", node), error=saved.error, interrupts=asking)
        for node in saved.next
    )
    return State(
        values=saved.values,
        next=saved.next,
        tasks=tasks,
        metadata=Raw(msgspec.json.encode(metadata_of(saved, agent))),
        created_at=datetime.fromtimestamp(saved.created_at, UTC).isoformat(timespec="microseconds"),
        checkpoint=place_of(saved),
        parent_checkpoint=None if saved.parent_id is None else _place(saved.thread_id, saved.parent_id),
        interrupts=asking,
        checkpoint_id=saved.checkpoint_id,
        parent_checkpoint_id=saved.parent_id,
    )


def outcome_of(saved: SavedState | None) -> ThreadOutcome:
    """How a thread is whose newest state this is."""
    if saved is None:
        return ThreadOutcome()
    return ThreadOutcome(
        status=ThreadStatus.INTERRUPTED if saved.next else ThreadStatus.IDLE,
        values=saved.values,
        interrupts={task_id(saved): saved.interrupts} if saved.interrupts else {},
    )

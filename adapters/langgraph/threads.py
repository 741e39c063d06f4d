"""The threads of a graph: their states, and what can be done to them between runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any
from weakref import WeakValueDictionary

import msgspec
from langchain_core.runnables import RunnableConfig
from langgraph.errors import InvalidUpdateError
from langgraph.types import Interrupt, PregelTask, StateSnapshot, StateUpdate
from msgspec import UNSET

from adapters.langgraph.checkpoints import Checkpoints
from adapters.langgraph.durable import Saver
from adapters.langgraph.encode import raw
from adapters.langgraph.fence import Fence, Gate, Right
from adapters.langgraph.load import Graph, Loaded, Source
from adapters.langgraph.native import check_nodes, located
from adapters.langgraph.options import GraphOptions
from adapters.langgraph.rewind import copied, marked, rewound, thinned
from proxy.adapter import Asking, Checkpoint, Mark, Site, State, StateTask, ThreadName, ThreadState, Update
from proxy.errors import BadRequest, Conflict

REFUSED = (InvalidUpdateError, ValueError, TypeError, LookupError, NotImplementedError)
"""What a graph's reducers and LangGraph itself raise for values that do not fit."""
ADVICE = "\nFor troubleshooting, visit"
"""Begins what LangGraph says to developers, not to callers."""


class Threads(ThreadState):
    """Finds the state where the runs leave it."""

    def __init__(self, options: GraphOptions, site: Site, source: Source, checkpoints: Checkpoints) -> None:
        self._options = options
        self._agent = site.agent
        self._site = site
        self._source = source
        self._checkpoints = checkpoints
        self._gates: WeakValueDictionary[str, Gate] = WeakValueDictionary()
        """Of the last run of each thread, for as long as anything of that goes on."""

    def fenced(self, thread_key: str, saver: Saver) -> Fence:
        """What a run of the thread is to use in place of `saver`."""
        fence = Fence(saver, Right(self._site).holds)
        self._gates[thread_key] = fence.gate
        return fence

    async def seal(self, thread: ThreadName) -> None:
        if (gate := self._gates.get(thread.key)) is not None:
            await gate.shut()

    async def saver(self, loaded: Loaded) -> Saver | None:
        """Where the graph's lasting threads are; None for a graph that keeps none."""
        if loaded.graph.checkpointer is False:
            return None
        return loaded.own_saver or (await self._checkpoints.saver()).with_allowlist(loaded.state_types)

    async def state(
        self, thread: ThreadName, checkpoint: Checkpoint | None = None, *, subgraphs: bool = False
    ) -> State:
        async with self._opened(thread) as (graph, config, _):
            with _refusals():
                snapshot = await graph.aget_state(located(config, checkpoint), subgraphs=subgraphs)
        return _state(snapshot, thread)

    async def history(
        self,
        thread: ThreadName,
        *,
        limit: int,
        before: Checkpoint | None = None,
        checkpoint: Checkpoint | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> list[State]:
        async with self._opened(thread) as (graph, config, _):
            found = graph.aget_state_history(
                located(config, checkpoint),
                filter=metadata,
                before=None if before is None else located(config, before),
                limit=limit,
            )
            with _refusals():
                return [_state(snapshot, thread) async for snapshot in found]

    async def update(
        self, thread: ThreadName, steps: Sequence[Sequence[Update]], checkpoint: Checkpoint | None = None
    ) -> Checkpoint:
        async with self._opened(thread) as (graph, config, _):
            config["metadata"] = {"graph_id": self._agent}
            config["configurable"]["checkpoint_ns"] = ""
            with _refusals():
                written = [[_update(update) for update in step] for step in steps]
                made = await graph.abulk_update_state(located(config, checkpoint), written)
        return _checkpoint(made, thread)

    async def copy(self, source: ThreadName, target: ThreadName) -> None:
        async with self._opened(source) as (_, _, saver):
            await copied(saver, source.key, target.key)

    async def keep_newest(self, thread: ThreadName) -> None:
        async with self._opened(thread) as (_, _, saver):
            await thinned(saver, thread.key)

    async def mark(self, thread: ThreadName, *, anywhere: bool = False, run_id: str | None = None) -> Mark:
        async with self._opened(thread) as (graph, config, saver):
            return await marked(saver, graph, config, anywhere=anywhere, run_id=run_id)

    async def rollback(self, thread: ThreadName, mark: Mark) -> None:
        async with self._opened(thread) as (_, _, saver):
            await rewound(saver, thread.key, mark)

    async def check_resume(self, thread: ThreadName, checkpoint: Checkpoint | None = None) -> None:
        async with self._opened(thread) as (graph, config, _):
            await check_nodes(graph, located(config, checkpoint))

    @asynccontextmanager
    async def _opened(self, thread: ThreadName) -> AsyncIterator[tuple[Graph, RunnableConfig, Saver]]:
        config: RunnableConfig = {"configurable": {**self._options.configurable, "thread_id": thread.key}}
        async with AsyncExitStack() as stack:
            loaded = await self._source.loaded(config, stack)
            saver = await self.saver(loaded)
            if saver is None:
                raise Conflict("This agent keeps no state: its graph is compiled with `checkpointer=False`.")
            yield loaded.graph.copy({"checkpointer": saver}), config, saver


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except REFUSED as error:
        raise BadRequest(str(error).partition(ADVICE)[0]) from error


def _update(update: Update) -> StateUpdate:
    return StateUpdate(msgspec.json.decode(update.values), update.as_node)


def _state(snapshot: StateSnapshot, thread: ThreadName) -> State:
    at, parent = _placed(snapshot.config, thread), _placed(snapshot.parent_config, thread)
    about = None if snapshot.metadata is None else {**snapshot.metadata, "thread_id": thread.thread_id}
    return State(
        values=raw(snapshot.values),
        next=snapshot.next,
        tasks=tuple(_task(task, thread) for task in snapshot.tasks),
        metadata=raw(about),
        created_at=snapshot.created_at,
        checkpoint=at,
        parent_checkpoint=parent,
        interrupts=_asking(snapshot.interrupts),
        checkpoint_id=_id(at),
        parent_checkpoint_id=_id(parent),
    )


def _task(task: PregelTask, thread: ThreadName) -> StateTask:
    inner = task.state
    return StateTask(
        id=task.id,
        name=task.name,
        path=task.path,
        error=None if task.error is None else task.error if isinstance(task.error, str) else repr(task.error),
        interrupts=_asking(task.interrupts),
        checkpoint=_checkpoint(inner, thread) if isinstance(inner, dict) else None,
        state=_state(inner, thread) if isinstance(inner, StateSnapshot) else None,
        result=raw(task.result),
    )


def _asking(interrupts: Iterable[Interrupt]) -> tuple[Asking, ...]:
    return tuple(Asking(id=asked.id, value=raw(asked.value)) for asked in interrupts)


def _placed(config: RunnableConfig | None, thread: ThreadName) -> Checkpoint | None:
    """None where there is no checkpoint."""
    if config is None or "checkpoint_id" not in config["configurable"]:
        return None
    return _checkpoint(config, thread)


def _checkpoint(config: RunnableConfig, thread: ThreadName) -> Checkpoint:
    place = config["configurable"]
    return Checkpoint(
        checkpoint_id=place.get("checkpoint_id", UNSET),
        thread_id=thread.thread_id,
        checkpoint_ns=place.get("checkpoint_ns", UNSET),
        checkpoint_map=place.get("checkpoint_map", UNSET),
    )


def _id(checkpoint: Checkpoint | None) -> str | None:
    return None if checkpoint is None or checkpoint.checkpoint_id is UNSET else checkpoint.checkpoint_id

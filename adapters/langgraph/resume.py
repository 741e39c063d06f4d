"""How a run goes on whose process was lost: from the last checkpoint that it has left in its thread, if there is one,
and else with what of its command nobody has taken yet.

A run that was given input begins with a checkpoint of its own. A command has none: LangGraph writes it to the
checkpoint that the run goes on from, answers are taken by tasks of that checkpoint, and sub-graphs may get on a good
way before the graph has a new one. What was taken shows in what has changed there since before the run.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.constants import START
from langgraph.types import Command

from adapters.langgraph.durable import Before, DurableSaver, Saver, Written
from adapters.langgraph.load import Graph
from proxy.adapter import Native, RunInput

NULL_TASK = "00000000-0000-0000-0000-000000000000"
"""LangGraph's task for what a command writes."""
INTERRUPT, RESUME = "__interrupt__", "__resume__"
INTERRUPT_ID = re.compile(r"[0-9a-f]{32}")
HALT = ("updates", {INTERRUPT: ()})
"""What a graph streams that stops at a static breakpoint."""


async def left_by(run: RunInput, saver: Saver) -> CheckpointTuple | None:
    """The newest checkpoint of the run's thread, if the run itself has made it."""
    found = await saver.aget_tuple({"configurable": {"thread_id": run.thread_key, "checkpoint_ns": ""}})
    return found if found is not None and found.metadata.get("run_id") == run.run_id else None


async def remember(run: RunInput, saver: Saver) -> None:
    """Keep how the thread is before a run that brings a command or an answer, for `untaken`."""
    brings = run.answer is not None or (run.native is not None and run.native.command is not None)
    if brings and not run.temporary and isinstance(saver, DurableSaver):
        await _before(run, saver)


async def is_halted(graph: Graph, config: RunnableConfig, native: Native, last: CheckpointTuple) -> bool:
    """Whether the run had come to a static breakpoint at its last checkpoint, so that it must not go on."""
    before = native.interrupt_before or graph.interrupt_before_nodes
    after = native.interrupt_after or graph.interrupt_after_nodes
    if last.metadata.get("source") not in ("input", "loop") or not (before or after):
        return False
    if before and _named((await graph.aget_state(config)).next, before):
        return True
    if not after or last.parent_config is None:
        return False
    parent = cast(RunnableConfig, {**config, **last.parent_config})
    return _named((await graph.aget_state(parent)).next, after)


async def halted() -> AsyncGenerator[tuple[Any, ...]]:
    yield HALT


async def untaken(run: RunInput, given: Any, saver: Saver) -> Any:
    """What is left of the input of a run that has left no checkpoint of its own; None goes on without any."""
    if not isinstance(given, Command) and (run.answer is None or given is None):
        return given
    if not isinstance(saver, DurableSaver):
        return None if await _is_written(run, given, saver) else given
    before = await _before(run, saver)
    if before.anywhere:
        await saver.arewind(run.thread_key, before)
        return given
    taken = _Taken(saver, before, *await saver.asince(run.thread_key, before.newest))
    if not isinstance(given, Command):
        # What is an answer to nothing now was one before.
        given = Command(update=given) if taken.anything else given
    return await _rest(run, given, taken, saver) if taken.anything else given


async def _rest(run: RunInput, given: Command[Any], taken: _Taken, saver: DurableSaver) -> Command[Any] | None:
    resume = taken.left_of(given.resume)
    if resume is None and taken.answers:
        await saver.adrop(run.thread_key, taken.answers)
    if taken.has_updates:
        return None if resume is None else Command(resume=resume)
    if resume is None and not given.update and not given.goto:
        return None
    return Command(resume=resume, update=given.update, goto=given.goto)


async def _before(run: RunInput, saver: DurableSaver) -> Before:
    addressed = run.native is not None and run.native.checkpoint is not None
    return await saver.abefore(run.thread_key, anywhere=addressed, run_id=run.run_id)


async def _is_written(run: RunInput, given: Any, saver: Saver) -> bool:
    """As far as a saver tells that is not ours: whether sub-graphs got on, or the command is written down."""
    if not isinstance(given, Command):
        return False
    config: RunnableConfig = {"configurable": {"thread_id": run.thread_key}}
    if [own async for own in saver.alist(config, filter={"run_id": run.run_id}, limit=1)]:
        return True
    found = await saver.aget_tuple({"configurable": {**config["configurable"], "checkpoint_ns": ""}})
    written = [write[1:] for write in (found.pending_writes if found else None) or () if write[0] == NULL_TASK]
    return any(channel != RESUME or value == given.resume for channel, value in written)


class _Waiting(NamedTuple):
    """A task that had asked something before the run."""

    ids: frozenset[str]
    place: tuple[str, str, str]


class _Taken:
    """What has changed since before the run where that run begins; `moved` are the namespaces that got on since."""

    def __init__(self, saver: Saver, before: Before, now: list[Written], moved: frozenset[str]) -> None:
        old = set(before.writes)
        new = [write for write in now if write not in old]
        self.anything = bool(new or moved)
        self._changed = {write.place for write in new}
        self._moved = moved
        self._waiting = [_asked(saver, write) for write in before.writes if write.channel == INTERRUPT]
        self.answers = [write for write in now if write.task_id == NULL_TASK and write.channel == RESUME]
        """Plain ones, which the next question would take."""
        self.has_updates = any(write.task_id == NULL_TASK and write.channel != RESUME for write in new)

    def left_of(self, resume: Any) -> Any:
        """The answers that nobody has taken; None for none."""
        if isinstance(resume, dict) and resume and all(INTERRUPT_ID.fullmatch(str(id)) for id in resume):
            known = {id for each in self._waiting for id in each.ids}
            gone = self._gone()
            return {id: answer for id, answer in resume.items() if id in known - gone} or None
        return None if self._gone() else resume

    def _gone(self) -> set[str]:
        """The ids of the questions that were answered."""
        return {id for each in self._waiting if self._got_on(each) for id in each.ids}

    def _got_on(self, task: _Waiting) -> bool:
        ns = task.place[0]
        return task.place in self._changed or (ns != "" and ns in self._moved)


def _asked(saver: Saver, write: Written) -> _Waiting:
    asked = saver.serde.loads_typed((write.type, write.value))
    return _Waiting(frozenset(each.id for each in asked), write.place)


def _named(nodes: Iterable[str], wanted: Any) -> bool:
    everyone = wanted == "*" or "*" in wanted
    return any(node in wanted or (everyone and node != START) for node in nodes)

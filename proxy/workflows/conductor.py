"""One workflow run under way: carries out what its schedule decides, and is the only writer of its log.

All that happens to the run arrives as notes, which one task reads in turn. What follows from them is stored together,
and done and seen only then; pieces of text may wait a little for others. When the server goes down the log stays
without an end, and the next server goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec
import structlog
from msgspec import Raw, Struct
from msgspec.structs import replace

import proxy.wire.workflow as wire
from proxy.errors import Conflict, NotFound
from proxy.events import FINAL, Event, ReasoningDelta, TextDelta, ToolCallDelta
from proxy.runs.manager import RunManager
from proxy.settings import Price
from proxy.store.workflow import WorkflowStore
from proxy.wire.workflow_asks import answered
from proxy.wire.workflow_parts import Asked, Problem
from proxy.workflow_model import WorkflowStatus
from proxy.workflows.accounts import Accounts
from proxy.workflows.asks import result_of
from proxy.workflows.board import Policy
from proxy.workflows.compile import Plan
from proxy.workflows.errands import Errand, carry_out, errand_of
from proxy.workflows.faults import Broken, Fault
from proxy.workflows.hearing import Hearing
from proxy.workflows.ledger import Ledger, Overtaken, artifact
from proxy.workflows.memory import OUTPUTS, Given, Memory, Talk, item_name, pack
from proxy.workflows.prompts import USER_ASK, Call
from proxy.workflows.scheduling import Schedule
from proxy.workflows.tasks import (
    Decision,
    NodeFailed,
    NodeStarted,
    NodeSucceeded,
    Resume,
    RunCanceled,
    RunFailed,
    RunState,
    RunSucceeded,
    Start,
    Stop,
    Task,
)
from proxy.workflows.turning import Turned, turned
from proxy.workflows.values import packed, spoken

logger = structlog.get_logger(__name__)

GATHER = 0.02
"""Seconds that pieces of text wait for others."""
PIECES = (TextDelta, ReasoningDelta, ToolCallDelta)
VALUES = "node_output.v0"
ALL_OUTPUTS = "run_outputs.v0"


class Desk(Struct, frozen=True, kw_only=True):
    """What all runs of a server are conducted with."""

    store: WorkflowStore
    manager: RunManager
    prices: Mapping[str, Price]
    policy: Policy


class Live(Struct, frozen=True, eq=False):
    """A child run under way."""

    errand: Errand
    hearing: Hearing
    work: asyncio.Task[None]


class Conductor:
    """A run from where it is to its end. Its log has its first two events already."""

    def __init__(self, desk: Desk, ledger: Ledger, plan: Plan, schedule: Schedule, memory: Memory) -> None:
        self._desk = desk
        self._ledger = ledger
        self._plan = plan
        self._schedule = schedule
        self._accounts = Accounts(memory, desk.prices)
        self._calls: dict[Task, Call] = {}
        self._live: dict[Task, Live] = {}
        self._notes: list[Callable[[], None]] = []
        self._rung, self._urgent = asyncio.Event(), asyncio.Event()
        self._after: list[Callable[[], None]] = []
        """What is done once all that was decided is stored."""
        self._closing = False

    @property
    def waits(self) -> bool:
        return self._schedule.state is RunState.WAITING

    async def conduct(self, answers: Mapping[Task, dict[str, Given]]) -> None:
        """To the end of the run, or until the server goes down; `answers` came before it was taken up again."""
        try:
            self._apply(self._schedule.begin(time.time()))
            for talk in list(self._accounts.talks.values()):
                self._answer(talk.task, answers.get(talk.task, {}))
            if self._ledger.run.cancel:
                self._cancel()
            await self._flush()
            while not (self._schedule.ended or self._closing):
                await self._listen()
                self._read()
                await self._flush()
        except Overtaken:
            logger.warning("a workflow run was taken over or deleted", run_id=self._ledger.run.run_id)
        finally:
            self._halt()

    def close(self) -> None:
        """The server goes down."""
        self._closing = True
        self.post(lambda: None)

    def cancel(self) -> None:
        """Somebody wants the run to end."""
        self.post(self._cancel)

    def open_talk(self, node: str, step: int, request_id: str, calls: Sequence[str]) -> Talk:
        """What waits for these results. Raises `NotFound` if the node waits for none, `Conflict` if for others."""
        open_ = [talk for talk in self._accounts.talks.values() if talk.task.node == node and talk.open]
        if not open_:
            raise NotFound(f"Node `{node}` waits for no tool results.", param="node_id")
        talks = [talk for talk in open_ if (talk.step, talk.request_id) == (step, request_id)]
        if not talks:
            raise Conflict(f"Node `{node}` does not wait at step {step} of that request_id.", param="step")
        left = [call.call_id for call in talks[0].open]
        for name in calls:
            if name not in left:
                raise Conflict(f"No call `{name[:64]}` is open there; it may be answered already.", param="results")
            left.remove(name)
        return talks[0]

    def answer(self, task: Task, given: dict[str, Given]) -> asyncio.Future[bool]:
        """Results that have been taken; tells whether the run waits for more, once they are in the log: never, where
        the run ends before."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def take() -> None:
            self._answer(task, given)
            waits = self.waits
            self._after.append(lambda: _tell(told, waits))

        self.post(take)
        return told

    def post(self, note: Callable[[], None], *, urgent: bool = True) -> None:
        self._notes.append(note)
        self._rung.set()
        if urgent:
            self._urgent.set()

    async def _listen(self) -> None:
        """Wait for notes, or until the schedule has something to do."""
        wake = self._schedule.wake_at
        if await _heard(self._rung, None if wake is None else max(wake - time.time(), 0.0)):
            await _heard(self._urgent, GATHER)

    def _read(self) -> None:
        self._rung.clear()
        self._urgent.clear()
        notes, self._notes = self._notes, []
        for note in notes:
            note()
        wake, now = self._schedule.wake_at, time.time()
        if wake is not None and wake <= now:
            self._apply(self._schedule.tick(now))

    async def _flush(self) -> None:
        ledger = self._ledger
        if ledger.dirty:
            state = None if ledger.light else pack(self._accounts.memory(self._schedule))
            status = WorkflowStatus(self._schedule.state.value)
            await ledger.flush(state, status=status, summary=self._accounts.summary)
        after, self._after = self._after, []
        for act in after:
            act()

    def _halt(self) -> None:
        for task in list(self._live):
            self._drop(task)

    def _cancel(self) -> None:
        self._apply(self._schedule.cancel(time.time()))

    def _ask(self, task: Task) -> None:
        """Start the child run of a task."""
        if self._closing or task not in self._calls:
            return
        run, call = self._ledger.run, self._calls[task]
        names = {"workflow_run_id": run.run_id, "workflow_node_id": task.node}
        if task.item is not None:
            names["workflow_item"] = str(task.item)
        errand = errand_of(names, run.tenant, call, self._accounts.talks.get(task))
        stream = call.stream or run.stream
        hearing = Hearing(task.node, call.model, errand.run_id, self._accounts, stream=stream)
        work = asyncio.create_task(carry_out(self._desk.manager, errand, partial(self._tell, task, errand)))
        self._live[task] = Live(errand, hearing, work)

    def _tell(self, task: Task, errand: Errand, events: Sequence[Event]) -> None:
        urgent = not all(isinstance(event, PIECES) for event in events)
        self.post(partial(self._hear, task, errand, events), urgent=urgent)

    def _hear(self, task: Task, errand: Errand, events: Sequence[Event]) -> None:
        live = self._live.get(task)
        if live is None or live.errand is not errand:
            return
        for event in events:
            if isinstance(event, FINAL):
                end = turned(live.errand, live.hearing, event, draining=self._desk.manager.draining)
                del self._live[task]
                self._turn(task, end)
                return
            self._write(live.hearing.feed(event))

    def _turn(self, task: Task, end: Turned | None) -> None:
        """A child run has ended; None where the server goes down and the node is asked again by the next one."""
        if end is None:
            return
        self._write(end.words)
        now = time.time()
        if end.fault is not None:
            self._forget(task)
            self._apply(self._schedule.failed(task, end.fault, now))
        elif end.asks is not None:
            self._accounts.talks[task] = replace(end.asks, task=task, since=now)
            self._apply(self._schedule.waiting(task, now))
        else:
            self._succeed(task, end, now)

    def _succeed(self, task: Task, end: Turned, now: float) -> None:
        self._forget(task)
        decisions = self._schedule.succeeded(task, end.value, now)
        if task.item is not None and self._schedule.holds(task):
            self._ledger.keep(item_name(task), packed(end.value, self._desk.policy.bounds))
        self._apply(decisions)

    def _answer(self, task: Task, given: dict[str, Given]) -> None:
        """Results of a caller's tools have come."""
        talk = self._accounts.talks.get(task)
        if talk is None or self._schedule.ended:
            return
        for call in talk.open:
            if call.call_id in given:
                self._result(talk, call.call_id, given[call.call_id])
        talk = replace(talk, answers={**talk.answers, **given})
        self._accounts.talks[task] = talk
        if not talk.open:
            self._apply(self._schedule.answered(task, time.time()))

    def _result(self, talk: Talk, call_id: str, given: Given) -> None:
        node = talk.task.node
        [call] = [call for call in talk.calls if call.call_id == call_id]
        if call.name == USER_ASK:
            said = answered(Asked(id=call_id, name=call.name), given.output, talk.step, talk.request_id)
            if said is not None:
                self._ledger.add(wire.NodeUserAnswer(node_id=node, user_answer=said))
        self._ledger.add(wire.NodeToolResult(node_id=node, tool_result=result_of(talk, call, given)))

    def _write(self, words: Sequence[wire.Event]) -> None:
        for word in words:
            self._ledger.add(word)

    def _apply(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            self._decide(decision)

    def _decide(self, decision: Decision) -> None:
        add = self._ledger.add
        match decision:
            case Start(task=task, call=call):
                self._calls[task] = call
                self._after.append(partial(self._ask, task))
            case Resume(task=task):
                self._resume(task)
            case Stop(task=task):
                self._drop(task)
                self._forget(task)
            case NodeStarted(node=name):
                self._accounts.started[name] = time.time()
                add(wire.NodeStarted(node_id=name))
            case NodeSucceeded(node=name, json=json):
                self._ledger.keep(name, json)
                add(wire.NodeOutput(node_id=name, output=artifact(VALUES, json)), json)
                add(wire.NodeSucceeded(node_id=name))
            case NodeFailed(node=name, fault=fault):
                add(wire.NodeFailed(node_id=name, error=problem(fault)))
            case RunSucceeded() | RunFailed() | RunCanceled():
                self._end(decision)

    def _end(self, decision: RunSucceeded | RunFailed | RunCanceled) -> None:
        plan_hash = self._plan.hash
        match decision:
            case RunSucceeded(json=json):
                text = spoken(self._plan.workflow.outputs, self._schedule.scope)
                self._ledger.say(Raw(msgspec.json.encode([{"type": "text", "text": text}])))
                self._ledger.keep(OUTPUTS, json)
                self._ledger.add(wire.RunCompleted(plan_hash=plan_hash, outputs=artifact(ALL_OUTPUTS, json)), json)
            case RunFailed(fault=fault):
                self._ledger.add(wire.RunFailed(plan_hash=plan_hash, error=problem(fault)))
            case RunCanceled(fault=fault):
                self._ledger.add(wire.RunCanceled(plan_hash=plan_hash, error=problem(fault)))

    def _resume(self, task: Task) -> None:
        """Go on with a conversation; after a restart its prompt is made anew, of the same values."""
        if task not in self._calls:
            try:
                self._calls[task] = self._schedule.call(task)
            except Broken as broken:
                self._apply(self._schedule.failed(task, broken.fault, time.time()))
                return
        self._after.append(partial(self._ask, task))

    def _drop(self, task: Task) -> None:
        live = self._live.pop(task, None)
        if live is not None:
            live.work.cancel()

    def _forget(self, task: Task) -> None:
        self._calls.pop(task, None)
        self._accounts.talks.pop(task, None)


async def _heard(bell: asyncio.Event, seconds: float | None) -> bool:
    """Wait for a bell; False after these seconds (None: never)."""
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        return False
    return True


def _tell(told: asyncio.Future[bool], waits: bool) -> None:
    if not told.done():
        told.set_result(waits)


def problem(fault: Fault) -> Problem:
    return Problem(message=fault.message or "The node failed.", code=fault.code or "failed")

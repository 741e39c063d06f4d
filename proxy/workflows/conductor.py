"""One workflow run under way: carries out what its schedule decides, and is the only writer of its log.

All that happens to the run arrives as notes, which one task reads in turn. What follows from them is stored together,
and acted on and shown only then; pieces of text may wait a little for others. When the server goes down the log stays
without an end, and the next server goes on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog
from msgspec import Struct
from msgspec.structs import replace

import proxy.wire.workflow as wire
from proxy.events import FINAL, Event, ReasoningDelta, TextDelta, ToolCallDelta
from proxy.runs.manager import RunManager
from proxy.settings import Price
from proxy.store.workflow import WorkflowStore
from proxy.workflow_model import TakenResult, WorkflowRun, WorkflowStatus
from proxy.workflows.accounts import Accounts
from proxy.workflows.asks import words_of
from proxy.workflows.board import Policy
from proxy.workflows.children import Children
from proxy.workflows.closing import end, give, problem
from proxy.workflows.compile import Plan
from proxy.workflows.errands import Errand, errand_of, names_of
from proxy.workflows.faults import Broken, Cause, Fault
from proxy.workflows.hearing import Hearing, Words
from proxy.workflows.ledger import Ledger, Overtaken
from proxy.workflows.memory import Given, Memory, fitting, item_name, pack
from proxy.workflows.notes import Notes
from proxy.workflows.prompts import Call
from proxy.workflows.scheduling import Schedule
from proxy.workflows.tasks import (
    Decision,
    NodeCanceled,
    NodeFailed,
    NodeStarted,
    NodeSucceeded,
    Resume,
    RunCanceled,
    RunFailed,
    RunSucceeded,
    Start,
    Stop,
    Task,
)
from proxy.workflows.turning import Turned, broken_off, is_lost, turned
from proxy.workflows.values import packed

logger = structlog.get_logger(__name__)

ATTEMPTS = 3
"""How often a task is asked anew because other processes have lost its child."""
PIECES = (TextDelta, ReasoningDelta, ToolCallDelta)
DESERTED = Fault(code=Cause.CANCELED.value, message="Nothing needs this node any more.")


class Desk(Struct, frozen=True, kw_only=True):
    """What all runs of a server are conducted with."""

    store: WorkflowStore
    manager: RunManager
    prices: Mapping[str, Price]
    policy: Policy


class Conductor:
    """A run from where it is to its end. Its log has its first two events already."""

    def __init__(self, desk: Desk, ledger: Ledger, plan: Plan, schedule: Schedule, memory: Memory) -> None:
        self._desk = desk
        self._ledger = ledger
        self._plan = plan
        self._schedule = schedule
        self._accounts = Accounts(memory, desk.prices)
        self._calls: dict[Task, Call] = {}
        self._children = Children(desk.manager, self._tell)
        self._deserted: set[str] = set()
        """Nodes that waited for their caller when they were stopped."""
        self._notes = Notes()
        self._after: list[Callable[[], None]] = []
        """What is done once all that was decided is stored."""
        self._lost: Counter[Task] = Counter()
        """How often the child of a task was lost."""
        self._leaving = self._closing = False
        self.cancelled = False
        """Somebody wants the run to end."""
        self.results = 0
        """How many answers of its caller have come to it."""

    @property
    def run(self) -> WorkflowRun:
        """The record, as it was stored last."""
        return self._ledger.run

    async def conduct(self, answers: Mapping[Task, dict[str, Given]]) -> None:
        """To the end of the run, or until the server goes down; `answers` came before it was taken up again."""
        try:
            self._apply(self._schedule.begin(time.time()))
            for talk in list(self._accounts.talks.values()):
                self._answer(talk.task, answers.get(talk.task, {}))
            if self.run.cancel:
                self._cancel()
            await self._flush()
            while not (self._schedule.ended or self._goes):
                await self._notes.wait(self._schedule.wake_at)
                self._read()
                await self._flush()
        except Overtaken:
            logger.warning("a workflow run was taken over or deleted", run_id=self.run.run_id)
        finally:
            self._children.drop_all()

    @property
    def _goes(self) -> bool:
        return self._closing or (self._leaving and not self._children.any)

    def leave(self) -> None:
        """The server will go down: ask no more, and end when what was asked has ended."""
        self._leaving = True
        self._notes.post(lambda: None)

    def close(self) -> None:
        """The server goes down, or the run is another's now."""
        self._closing = True
        self._notes.post(lambda: None)

    def cancel(self) -> None:
        self.cancelled = True
        self._notes.post(self._cancel)

    def take(self, results: Sequence[TakenResult]) -> None:
        """All answers that were taken for the run so far."""
        self.results = len(results)
        self._notes.post(partial(self._take, results))

    def _read(self) -> None:
        self._notes.read()
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

    def _cancel(self) -> None:
        self._apply(self._schedule.cancel(time.time()))

    def _ask(self, task: Task) -> None:
        """Start the child run of a task."""
        if self._closing or self._leaving or task not in self._calls:
            return
        run, call = self.run, self._calls[task]
        talk = self._accounts.talks.get(task)
        errand = errand_of(names_of(run.run_id, task), run.tenant, call, talk)
        hearing = Hearing(task.node, call.model, errand.run_id, self._accounts, stream=call.stream or run.stream)
        if talk is not None:
            hearing.recall(talk.step, talk.request_id, talk.unfinished)
        self._children.send(task, errand, hearing)

    def _tell(self, task: Task, errand: Errand, events: Sequence[Event]) -> None:
        urgent = not all(isinstance(event, PIECES) for event in events)
        self._notes.post(partial(self._hear, task, errand, events), urgent=urgent)

    def _hear(self, task: Task, errand: Errand, events: Sequence[Event]) -> None:
        live = self._children.of(task, errand)
        if live is None:
            return
        for event in events:
            if is_lost(event, draining=self._children.draining) and self._lost[task] < ATTEMPTS:
                self._ask_anew(task, live.hearing.finish(event))
                return
            if isinstance(event, FINAL):
                turn = turned(live.errand, live.hearing, event, draining=self._children.draining)
                self._children.end(task)
                self._turn(task, turn)
                return
            self._write(live.hearing.feed(event))
            if (turn := broken_off(live.errand, live.hearing)) is not None:
                self._children.drop(task)
                self._turn(task, turn)
                return

    def _ask_anew(self, task: Task, words: Words) -> None:
        """The child of a task was lost with its process; `words` say what became of it."""
        self._lost[task] += 1
        self._children.end(task)
        self._write(words)
        self._after.append(partial(self._ask, task))

    def _turn(self, task: Task, turn: Turned | None) -> None:
        """A child run has ended; None where the server goes down and the node is asked again by the next one."""
        if turn is None:
            return
        self._write(turn.words)
        now = time.time()
        if turn.fault is not None:
            self._forget(task)
            self._apply(self._schedule.failed(task, turn.fault, now))
        elif turn.asks is not None:
            self._accounts.talks[task] = replace(turn.asks, task=task, since=now)
            self._apply(self._schedule.waiting(task, now))
        else:
            self._succeed(task, turn, now)

    def _succeed(self, task: Task, turn: Turned, now: float) -> None:
        self._forget(task)
        decisions = self._schedule.succeeded(task, turn.value, now)
        if task.item is not None and self._schedule.holds(task):
            self._ledger.keep(item_name(task), packed(turn.value, self._desk.policy.bounds))
        self._apply(decisions)

    def _take(self, results: Sequence[TakenResult]) -> None:
        """Hand out the answers that are new."""
        for talk in list(self._accounts.talks.values()):
            if given := fitting(results, talk):
                self._answer(talk.task, given)

    def _answer(self, task: Task, given: Mapping[str, Given]) -> None:
        """Results of a caller's tools have come."""
        talk = self._accounts.talks.get(task)
        if talk is None or self._schedule.ended:
            return
        self._write(words_of(talk, given))
        talk = replace(talk, answers={**talk.answers, **given})
        self._accounts.talks[task] = talk
        if not talk.open:
            self._apply(self._schedule.answered(task, time.time()))

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
                self._stop(task)
            case NodeStarted(node=name):
                self._accounts.started[name] = time.time()
                add(wire.NodeStarted(node_id=name))
            case NodeSucceeded(node=name, json=json):
                give(self._ledger, name, json)
            case NodeFailed(node=name, fault=fault):
                add(wire.NodeFailed(node_id=name, error=problem(fault)))
            case NodeCanceled(node=name):
                if name in self._deserted:  # whoever was to answer has to learn that nobody waits any more
                    add(wire.NodeFailed(node_id=name, error=problem(DESERTED)))
            case RunSucceeded() | RunFailed() | RunCanceled():
                end(self._ledger, self._plan, self._schedule.scope, decision)

    def _resume(self, task: Task) -> None:
        """Go on with a conversation; after a restart its prompt is made anew, of the same values."""
        if task not in self._calls:
            try:
                self._calls[task] = self._schedule.call(task)
            except Broken as broken:
                self._apply(self._schedule.failed(task, broken.fault, time.time()))
                return
        self._after.append(partial(self._ask, task))

    def _stop(self, task: Task) -> None:
        talk = self._accounts.talks.get(task)
        if talk is not None and talk.open:
            self._deserted.add(task.node)
        self._children.drop(task)
        self._forget(task)

    def _forget(self, task: Task) -> None:
        self._calls.pop(task, None)
        self._accounts.talks.pop(task, None)

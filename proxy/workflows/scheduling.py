"""The order of a run: which nodes may start, what a success, a failure or a silence does to the others, and the end.

No I/O and no clock: whoever runs the tasks reports what becomes of them, with the time in seconds since 1970, and
carries out the decisions in their order. The same reports make the same decisions.

Where the sources are silent: the branches of a join are the nodes that it names, and all before these that serves
nothing else; a branch that cannot succeed any more is lost to its join, and what nothing needs is canceled. A
`join.collect` counts its `timeout_ms` from the start of its first branch, and orders its value as its `depends_on`.
Nodes whose value nothing uses are run and waited for. A node that waits for its caller, or between two attempts, gives
its place to others, and gets the next free one when it goes on. Repetitions wait twice as long each time, or as long as
the model asks, a minute at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from proxy.workflows.answers import check_answer
from proxy.workflows.board import Board, Policy
from proxy.workflows.compile import Plan
from proxy.workflows.faults import Broken, Cause, Fault
from proxy.workflows.lanes import Lane, Phase, Work
from proxy.workflows.prompts import Call, call
from proxy.workflows.spec import Fanout, Llm, Retry, Transform
from proxy.workflows.tasks import Decision, NodeState, Past, Resume, RunCanceled, RunState, Start, Task
from proxy.workflows.values import Scope, collected, items_of, packed, unfolded

LONGEST_REST = 60.0


class Schedule:
    """One run of a plan. Each report returns what is to be done now, in order; what comes too late changes nothing."""

    def __init__(
        self, plan: Plan, inputs: Mapping[str, Any], policy: Policy | None = None, past: Past | None = None
    ) -> None:
        self._policy = policy or Policy()
        self._past = past or Past()
        self._board = Board(plan, inputs, self._policy, self._past)
        self._lanes = self._board.lanes
        self._waiting = {(task.node, task.item): task for task in self._past.waiting}
        self._calls = 0

    @property
    def state(self) -> RunState:
        waits = NodeState.WAITING in self._board.states.values()
        return self._board.final or (RunState.WAITING if waits else RunState.RUNNING)

    @property
    def ended(self) -> bool:
        return self._board.final is not None

    @property
    def states(self) -> Mapping[str, NodeState]:
        """How far each node is, in the order of the document."""
        return self._board.states

    @property
    def values(self) -> Mapping[str, Any]:
        """The values of the nodes that have succeeded."""
        return self._board.values

    @property
    def faults(self) -> Mapping[str, Fault]:
        """Why nodes have failed."""
        return self._board.faults

    @property
    def scope(self) -> Scope:
        """What its nodes have given, for whoever reads outputs as text."""
        return self._board.scope

    @property
    def tasks(self) -> list[Task]:
        """What is being carried out, or waits for answers."""
        return self._lanes.begun()

    @property
    def wake_at(self) -> float | None:
        """When `tick` has something to do at the earliest."""
        return min((*self._board.collecting.values(), *self._lanes.dues()), default=None)

    def call(self, task: Task) -> Call:
        """What a task asks that has begun. Raises `Broken` if it cannot be told any more."""
        found = self._lanes.find(task)
        if found is None:
            raise Broken(Cause.CANCELED, "The task has ended.")
        return self._call(found[0], task)

    def holds(self, task: Task) -> bool:
        """Whether an item has its value, and its fan-out goes on."""
        lane = self._lanes.named(task.node)
        return lane is not None and task.item in lane.results

    def begin(self, at: float) -> list[Decision]:
        """The first report, once."""
        self._board.begin(self._past.settled, at)
        return [*self._decided(at), *self.tick(at)]

    def succeeded(self, task: Task, value: Any, at: float) -> list[Decision]:
        """A task has its value, a response of a model."""
        if (found := self._lanes.find(task)) is None:
            return []
        lane, _ = found
        try:
            packed(value, self._policy.bounds)
            if lane.talker is not None:
                check_answer(lane.talker, value)
        except Broken as broken:
            return self.failed(task, broken.fault, at)
        self._lanes.drop(lane, task.item)
        try:
            if task.item is None:
                self._board.succeed(task.node, value)
            else:
                lane.results[task.item] = value
                self._gather(lane)
        except Broken as broken:
            self._board.fail(task.node, broken.fault)
        return self._decided(at)

    def failed(self, task: Task, fault: Fault, at: float) -> list[Decision]:
        """A task has failed; it starts again as another attempt if its node says so."""
        if (found := self._lanes.find(task)) is not None and not self._rests(*found, fault, at):
            self._lanes.drop(found[0], task.item)
            self._board.fail(task.node, fault)
        return self._decided(at)

    def waiting(self, task: Task, at: float) -> list[Decision]:
        """A task waits for its caller's tool results."""
        if (found := self._lanes.find(task)) is not None:
            self._lanes.pause(*found, Phase.WAITING, at + self._policy.tool_wait)
            self._show(found[0])
        return self._decided(at)

    def answered(self, task: Task, at: float) -> list[Decision]:
        """All that a task waited for has come; it goes on when `Resume` says so."""
        if (found := self._lanes.find(task)) is not None and found[1].phase is Phase.WAITING:
            self._lanes.want(*found, first=True)
            self._show(found[0])
        return self._decided(at)

    def tick(self, at: float) -> list[Decision]:
        """Time has passed."""
        for name in [name for name, due in self._board.collecting.items() if due <= at]:
            if self._board.open(name):
                self._board.pass_on(name, at)
        for lane, work in self._lanes.expired(at):
            if not self._board.open(lane.node.id):
                continue
            if work.phase is Phase.RESTING:
                self._lanes.want(lane, work)
            else:
                reason = f"Its caller did not answer its tool calls within {self._policy.tool_wait:g} seconds."
                self._board.fail(lane.node.id, Fault(code=Cause.TOOL_WAIT_TIMEOUT.value, message=reason))
        return self._decided(at)

    def cancel(self, at: float) -> list[Decision]:
        """Somebody wants the run to end."""
        if not self.ended:
            canceled = Fault(code=Cause.CANCELED.value, message="The run was canceled.")
            self._board.end(RunState.CANCELED, RunCanceled(canceled))
        return self._decided(at)

    def _decided(self, at: float) -> list[Decision]:
        board = self._board
        while not self.ended and (board.step(at) or self._enter(at) or self._dispatch(at)):
            pass
        board.finish()
        told, board.told = board.told, []
        return told

    def _enter(self, at: float) -> bool:
        """Gives a node that asks models its lane; False if there is none."""
        if not self._board.entered:
            return False
        name = self._board.entered.popleft()
        node = self._board.nodes[name]
        if self._board.open(name) and isinstance(node, Llm | Fanout):
            lane = Lane(node, 1 if isinstance(node, Llm) else node.max_parallelism or self._policy.items)
            self._lanes.add(lane)
            if name in self._board.started:
                self._open(lane, at)
        return True

    def _dispatch(self, at: float) -> bool:
        """Starts what may start next; False if nothing may."""
        turn = self._lanes.next()
        if turn is None:
            return False
        lane, work = turn
        if work is None:
            self._open(lane, at)
        else:
            self._start(lane, work)
        return True

    def _open(self, lane: Lane, at: float) -> None:
        """A node starts."""
        name, node = lane.node.id, lane.node
        self._board.start(name, at)
        self._board.states[name] = NodeState.RUNNING
        lane.opened = True
        try:
            if isinstance(node, Fanout):
                self._unfold(node, lane)
            else:
                self._queue(lane, None)
        except Broken as broken:
            self._board.fail(name, broken.fault)

    def _unfold(self, node: Fanout, lane: Lane) -> None:
        """Makes tasks of the items of a fan-out, or values at once where no model is asked."""
        scope = self._board.scope
        lane.items = items_of(node, scope)
        if isinstance(node.subnode, Transform):
            lane.results = dict(enumerate(unfolded(node.subnode, lane.items, scope)))
        for index in range(len(lane.items)):
            if index in lane.results:
                continue
            if (node.id, index) in self._past.results:
                lane.results[index] = self._past.results[node.id, index]
            else:
                self._queue(lane, index)
        self._gather(lane)

    def _queue(self, lane: Lane, item: int | None) -> None:
        waiting = self._waiting.pop((lane.node.id, item), None)
        work = Work(waiting or Task(lane.node.id, item))
        if waiting is None:
            self._lanes.want(lane, work)
        else:
            work.begun = True
            self._lanes.pause(lane, work, Phase.WAITING, self._past.waiting[waiting] + self._policy.tool_wait)
            self._show(lane)

    def _start(self, lane: Lane, work: Work) -> None:
        """A task has its turn."""
        task = work.task
        if work.begun:
            self._board.told.append(Resume(task))
            return
        self._calls += 1
        try:
            if self._calls > self._policy.bounds.calls:
                raise Broken(Cause.TOO_MANY_CALLS, f"A run asks models {self._policy.bounds.calls} times at most.")
            self._board.told.append(Start(task, self._call(lane, task)))
            work.begun = True
        except Broken as broken:
            self._board.fail(task.node, broken.fault)

    def _call(self, lane: Lane, task: Task) -> Call:
        scope = self._board.scope
        if task.item is not None:
            scope = replace(scope, item=(lane.items[task.item],))
        assert lane.talker is not None
        return call(lane.talker, scope)

    def _rests(self, lane: Lane, work: Work, fault: Fault, at: float) -> bool:
        """Whether a task that failed is to be tried again after a while."""
        retry = lane.talker.retry if lane.talker is not None else None
        task = work.task
        if retry is None or fault.kind not in retry.retryable_errors or task.attempt >= retry.max_attempts:
            return False
        again = Work(Task(task.node, task.item, task.attempt + 1))
        self._lanes.pause(lane, again, Phase.RESTING, at + rest(retry, task.attempt, fault))
        self._show(lane)
        return True

    def _gather(self, lane: Lane) -> None:
        """Ends a fan-out all of whose items have ended. Raises `Broken` if its value is too large."""
        if len(lane.results) == len(lane.items):
            values = [lane.results[index] for index in range(len(lane.items))]
            self._board.succeed(lane.node.id, collected(values, self._policy.bounds))

    def _show(self, lane: Lane) -> None:
        self._board.states[lane.node.id] = NodeState.WAITING if lane.waits else NodeState.RUNNING


def rest(retry: Retry, attempt: int, fault: Fault) -> float:
    """Seconds between an attempt that failed so and the next."""
    doubled: float = retry.backoff_ms / 1000 * 2.0 ** (attempt - 1)
    return min(max(doubled, fault.retry_after), LONGEST_REST)

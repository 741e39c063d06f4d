"""How far the nodes of a run are, and what the end of one does to the others.

See `scheduling` for what is decided here where the sources are silent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from proxy.workflows.compile import Plan
from proxy.workflows.conditions import holds
from proxy.workflows.faults import Broken, Cause, Fault
from proxy.workflows.lanes import Lanes
from proxy.workflows.needs import needless, spared, users_of
from proxy.workflows.spec import Bounds, Fanout, JoinAll, JoinAny, JoinCollect, Llm, Transform
from proxy.workflows.tasks import (
    OPEN,
    Decision,
    NodeCanceled,
    NodeFailed,
    NodeStarted,
    NodeState,
    NodeSucceeded,
    Past,
    RunFailed,
    RunState,
    RunSucceeded,
    Settled,
    Stop,
)
from proxy.workflows.values import Scope, joined, outputs_of, packed, transformed


class Policy(Struct, frozen=True, kw_only=True):
    """`nodes` and `items` are how many may be under way at once where a spec does not say; times are in seconds."""

    runs: int = 0
    """Of one tenant that may be under way at once; 0 is no bound."""
    nodes: int = 64
    items: int = 16
    tool_wait: float = 900.0
    bounds: Bounds = Bounds()


class Board:
    """The nodes of one run. What it decides is in `told`, in order; nodes that need a model are in `entered`."""

    def __init__(self, plan: Plan, inputs: Mapping[str, Any], policy: Policy, past: Past) -> None:
        self._plan = plan
        self._bounds = policy.bounds
        self.started = dict(past.started)
        """When nodes started."""
        self.nodes = {node.id: node for node in plan.workflow.nodes}
        self._users = users_of(plan.workflow.nodes)
        self._spared = spared(plan, self._users)
        self._left = {node.id: len(node.depends_on) for node in plan.workflow.nodes}
        self._fresh: deque[str] = deque()
        self._stale = False
        self._accepted: dict[str, set[str]] = {}
        self._bytes = 0
        self.collecting: dict[str, float] = {}
        """When joins go on with what there is."""
        self.lanes = Lanes(plan.workflow.max_parallelism or policy.nodes)
        self.entered: deque[str] = deque()
        self.told: list[Decision] = []
        self.final: RunState | None = None
        self.states: dict[str, NodeState] = dict.fromkeys(self.nodes, NodeState.PENDING)
        self.values: dict[str, Any] = {}
        self.faults: dict[str, Fault] = {}
        self.scope = Scope(nodes=self.nodes, values=self.values, inputs=inputs, bounds=policy.bounds)

    def begin(self, settled: tuple[Settled, ...], at: float) -> None:
        """Lets the nodes enter that need nothing, after what had ended before."""
        for each in settled:
            self._recall(each)
        for name in list(self.started):
            self._watch(name)
        for name in self.nodes:
            if not self._left[name] and self.open(name):
                self._enter(name, at)

    def open(self, name: str) -> bool:
        """Whether a node of a run that has not ended has not ended."""
        return self.final is None and self.states[name] in OPEN

    def step(self, at: float) -> bool:
        """Lets the end of one node have its effect; False if each end has had its own."""
        if self.final is not None:
            return False
        if self._fresh:
            self._spread(self._fresh.popleft(), at)
        elif self._stale:
            self._sweep()
        else:
            return False
        return True

    def finish(self) -> None:
        """Ends a run all of whose nodes have ended."""
        if self.final is not None or any(state in OPEN for state in self.states.values()):
            return
        try:
            outputs = outputs_of(self._plan.workflow.outputs, self.scope)
            self.end(RunState.SUCCEEDED, RunSucceeded(outputs, packed(outputs, self._bounds)))
        except Broken as broken:
            self.end(RunState.FAILED, RunFailed(broken.fault))

    def start(self, name: str, at: float) -> None:
        """A node starts, unless it had before."""
        if name not in self.started:
            self.told.append(NodeStarted(name))
            self.started[name] = at
            self._watch(name)

    def succeed(self, name: str, value: Any) -> None:
        """Raises `Broken` if the value is too large."""
        json = packed(value, self._bounds)
        self._bytes += len(json)
        if self._bytes > self._bounds.run_bytes:
            reason = f"The values of the run are larger than {self._bounds.run_bytes} bytes of JSON."
            raise Broken(Cause.VALUE_TOO_LARGE, reason)
        self.values[name] = value
        self._settle(name, NodeState.SUCCEEDED)
        self.told.append(NodeSucceeded(name, value, json))

    def fail(self, name: str, fault: Fault) -> None:
        """A node fails, and with it the run, unless the run can do without."""
        self.faults[name] = fault
        self._settle(name, NodeState.FAILED)
        self.told.append(NodeFailed(name, fault))
        self._stale = True
        if name not in self._spared:
            self._fail_run(name, fault)

    def end(self, state: RunState, last: Decision) -> None:
        self.final = state
        self.collecting.clear()
        self.told += map(Stop, self.lanes.close_all())
        for name, each in self.states.items():
            if each in OPEN:
                self.states[name] = NodeState.CANCELED
        self.told.append(last)

    def pass_on(self, name: str, at: float) -> None:
        """A join goes on with the branches that it has accepted; nobody may need the others any more."""
        accepted = self._accepted.get(name, set())
        branches = [each for each in self.nodes[name].depends_on if each in accepted]
        self._make(name, at, lambda: joined(branches, self.scope))
        self._stale = True

    def _recall(self, settled: Settled) -> None:
        """A node that had ended before."""
        name = settled.node
        self.states[name] = settled.state
        self._fresh.append(name)
        self._stale = True
        if settled.state is NodeState.SUCCEEDED:
            self.values[name] = settled.value
        elif settled.fault is not None:
            self.faults[name] = settled.fault
            if settled.state is NodeState.FAILED and name not in self._spared and self.final is None:
                self._fail_run(name, settled.fault)

    def _spread(self, name: str, at: float) -> None:
        """Lets the users of a node know that it has ended."""
        for user in self._users[name]:
            if self.states[user] is not NodeState.PENDING:
                continue
            self._left[user] -= 1
            node = self.nodes[user]
            if isinstance(node, JoinAny | JoinCollect):
                self._offer(node, name, at)
            elif self.states[name] is not NodeState.SUCCEEDED:
                self._cancel(user)
            elif not self._left[user]:
                self._enter(user, at)

    def _offer(self, node: JoinAny | JoinCollect, branch: str, at: float) -> None:
        """A branch of a join has ended."""
        accepted = self._accepted.setdefault(node.id, set())
        if self.states[branch] is NodeState.SUCCEEDED and holds(node.predicate, self.values[branch]):
            accepted.add(branch)
        enough = 1 if isinstance(node, JoinAny) else node.limit
        last = not self._left[node.id]
        if len(accepted) == enough or (last and isinstance(node, JoinCollect)):
            self.pass_on(node.id, at)
        elif last:
            self.start(node.id, at)
            reason = "No branch succeeded and was accepted, and none is left."
            self.fail(node.id, Fault(code=Cause.NO_BRANCH_ACCEPTED.value, message=reason))

    def _enter(self, name: str, at: float) -> None:
        """All that a node needs is there."""
        node = self.nodes[name]
        if isinstance(node, JoinAll):
            self._make(name, at, lambda: joined(node.depends_on, self.scope))
        elif isinstance(node, Transform):
            self._make(name, at, lambda: transformed(node, self.scope))
        elif isinstance(node, Llm | Fanout):
            self.entered.append(name)

    def _make(self, name: str, at: float, value: Callable[[], Any]) -> None:
        """A node whose value takes no time."""
        self.start(name, at)
        try:
            self.succeed(name, value())
        except Broken as broken:
            self.fail(name, broken.fault)

    def _watch(self, name: str) -> None:
        """A node has started: from now on the joins wait that take what there is after a time."""
        for user in self._users[name]:
            node = self.nodes[user]
            if isinstance(node, JoinCollect) and node.timeout_ms and self.states[user] is NodeState.PENDING:
                due = self.started[name] + node.timeout_ms / 1000
                self.collecting[user] = min(due, self.collecting.get(user, due))

    def _cancel(self, name: str) -> None:
        self._settle(name, NodeState.CANCELED)
        self.told.append(NodeCanceled(name))
        self._stale = True

    def _settle(self, name: str, state: NodeState) -> None:
        self.states[name] = state
        self.collecting.pop(name, None)
        self.told += map(Stop, self.lanes.close(name))
        self._fresh.append(name)

    def _sweep(self) -> None:
        """Cancels what nobody needs any more."""
        for name in needless(self._plan, self._users, self.open):
            self._cancel(name)
        self._stale = False

    def _fail_run(self, name: str, fault: Fault) -> None:
        self.end(RunState.FAILED, RunFailed(Fault(code=fault.code, message=f"Node `{name}` failed: {fault.message}")))

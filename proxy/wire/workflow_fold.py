"""Folds the events of a workflow run into what is told of it: how far it is, what was called, what is still open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.wire.workflow import (
    FINAL,
    Event,
    Head,
    NodeFailed,
    NodeLlmCall,
    NodeStarted,
    NodeSucceeded,
    NodeToolCall,
    NodeToolResult,
    NodeWaiting,
    RunCanceled,
    RunCompiled,
    RunCompleted,
    RunFailed,
    read,
)
from proxy.wire.workflow_body import PendingNode, PendingTools, Status, ToolOutput, ToolResults
from proxy.wire.workflow_parts import Call, LlmCall, Problem, Provider, ToolResult, Waiting
from proxy.wire.workflow_run import (
    TYPES,
    NodeError,
    NodeResult,
    NodeStatus,
    NodeStep,
    NodeSteps,
    Snapshot,
    Spent,
    Step,
    Steps,
    Summary,
    cost_summary,
    pending,
)

DEFAULT_PROVIDER: Provider = "openai"
"""What a model's provider counts as where its call does not say; some clients know four providers alone."""


class Progress:
    """One node."""

    def __init__(self, started_at: str) -> None:
        self.status: NodeStatus = "running"
        self.started_at = started_at
        self.ended_at: str | UnsetType = UNSET
        self.error: Problem | None = None


class Taken:
    """One step of a node."""

    def __init__(self, node_id: str, step: int, request_id: str) -> None:
        self.node_id = node_id
        self.step = step
        self.request_id = request_id
        self.llm_call: LlmCall | None = None
        self.calls: list[Call] = []
        self.results: list[ToolResult] = []
        self.waiting: Waiting | None = None
        self.open: list[Call] = []
        """Calls that wait for the caller's results."""


class Extras(Struct, frozen=True, kw_only=True):
    """What a snapshot shows that events do not hold. `nodes` are ids and types, in the order of the spec; `values` and
    `outputs` are JSON; `cents` is by model."""

    nodes: tuple[tuple[str, str], ...]
    values: Mapping[str, Raw] = {}
    outputs: Raw = Raw(b"{}")
    cents: Mapping[str, int] = {}
    steps: bool = False
    parent_run_id: str | UnsetType = UNSET


class RunFold:
    """Feed it a run's events, all of them and in order."""

    def __init__(self) -> None:
        self.run_id = ""
        self.plan_hash = ""
        self.seq = 0
        self.final: Status | None = None
        self.nodes: dict[str, Progress] = {}
        self.taken: dict[tuple[str, int], Taken] = {}
        self.spent: dict[tuple[Provider, str], Spent] = {}

    def feed(self, line: bytes) -> None:
        head, event = read(line)
        self.run_id, self.seq = head.run_id, head.seq
        self._fold(head, event)
        if isinstance(event, FINAL):
            self._close(head.ts)

    @property
    def status(self) -> Status:
        waits = any(node.status == "waiting" for node in self.nodes.values())
        return self.final or ("waiting" if waits else "running")

    def pending(self) -> PendingTools:
        found = (
            PendingNode(node_id=each.node_id, step=each.step, request_id=each.request_id, tool_calls=pending(each.open))
            for each in self.taken.values()
            if each.open
        )
        return PendingTools(run_id=self.run_id, pending=tuple(found))

    def refusal(self, asked: ToolResults) -> tuple[int, str] | None:
        """Why these results cannot be taken, as an HTTP status and a text; None if all of them can."""
        found = [each for each in self.taken.values() if each.node_id == asked.node_id and each.open]
        if not found:
            return 404, f"Node `{asked.node_id}` waits for no tool results; GET pending-tools lists what is open."
        request = (asked.step, str(asked.request_id))
        steps = [each for each in found if (each.step, each.request_id) == request]
        if not steps:
            return 409, f"Node `{asked.node_id}` does not wait at step {asked.step} of that request_id."
        left = [call.id for call in steps[0].open]
        for result in asked.results:
            if result.tool_call.id not in left:
                return 409, f"No call `{result.tool_call.id[:64]}` is open there; it may be answered already."
            left.remove(result.tool_call.id)
        return None

    def steps(self) -> Steps:
        found = (
            Step(
                node_id=each.node_id,
                step=each.step,
                request_id=each.request_id,
                llm_call=each.llm_call or UNSET,
                tool_calls=pending(each.calls) or UNSET,
                tool_results=_outputs(each) or UNSET,
            )
            for each in self.taken.values()
        )
        return Steps(steps=tuple(found))

    def snapshot(self, extras: Extras) -> Snapshot:
        costs = cost_summary(self.spent, extras.cents)
        taken = self.taken.values()
        return Snapshot(
            run_id=self.run_id,
            status=self.status,
            plan_hash=self.plan_hash,
            cost_summary=costs,
            nodes=tuple(self._result(name, kind, extras.values) for name, kind in extras.nodes),
            outputs=extras.outputs if self.status == "succeeded" else Raw(b"{}"),
            summary=Summary(
                total_steps=len(taken),
                total_llm_calls=sum(each.requests for each in self.spent.values()),
                total_tool_calls=sum(len(each.calls) for each in taken),
                total_input_tokens=sum(each.input_tokens for each in self.spent.values()),
                total_output_tokens=sum(each.output_tokens for each in self.spent.values()),
                total_cost_cents=costs.total_usd_cents,
            ),
            parent_run_id=extras.parent_run_id,
            steps=self._by_node(name for name, _ in extras.nodes) if extras.steps else UNSET,
        )

    def _fold(self, head: Head, event: Event) -> None:
        match event:
            case NodeLlmCall(node_id=name, llm_call=call):
                self._at(name, call.step, call.request_id).llm_call = call
                self._spend(call)
            case NodeToolCall(node_id=name, tool_call=called):
                self._at(name, called.step, called.request_id).calls.append(called.tool_call)
            case NodeWaiting(node_id=name, waiting=waiting):
                taken = self._at(name, waiting.step, waiting.request_id)
                taken.waiting = waiting
                taken.open = [each.tool_call for each in waiting.pending_tool_calls]
                self.nodes[name].status = "waiting"
            case NodeToolResult(node_id=name, tool_result=result):
                self._answer(name, result)
            case NodeStarted(node_id=name):
                self.nodes[name] = Progress(head.ts)
            case NodeSucceeded(node_id=name):
                self._end(name, "succeeded", head.ts)
            case NodeFailed(node_id=name, error=error):
                self._end(name, "failed", head.ts).error = error
            case RunCompiled(plan_hash=plan_hash):
                self.plan_hash = plan_hash
            case RunCompleted():
                self.final = "succeeded"
            case RunFailed():
                self.final = "failed"
            case RunCanceled():
                self.final = "canceled"
            case _:
                pass

    def _at(self, name: str, step: int, request_id: str) -> Taken:
        """The step; one that is taken again after a restart begins anew."""
        found = self.taken.get((name, step))
        if found is None or found.request_id != request_id:
            found = self.taken[name, step] = Taken(name, step, request_id)
        return found

    def _spend(self, call: LlmCall) -> None:
        key = (call.provider or DEFAULT_PROVIDER, call.model or "")
        before, usage = self.spent.get(key, Spent()), call.usage
        tokens_in = usage.input_tokens or 0 if usage else 0
        tokens_out = usage.output_tokens or 0 if usage else 0
        self.spent[key] = Spent(before.requests + 1, before.input_tokens + tokens_in, before.output_tokens + tokens_out)

    def _answer(self, name: str, result: ToolResult) -> None:
        taken = self._at(name, result.step, result.request_id)
        taken.results.append(result)
        taken.open = [call for call in taken.open if call.id != result.tool_call.id]
        if self.nodes[name].status == "waiting" and not any(
            each.open for each in self.taken.values() if each.node_id == name
        ):
            self.nodes[name].status = "running"

    def _end(self, name: str, status: NodeStatus, at: str) -> Progress:
        node = self.nodes[name]
        node.status, node.ended_at = status, at
        self._forget(name)
        return node

    def _close(self, at: str) -> None:
        """What had not ended is canceled with its run."""
        for name, node in self.nodes.items():
            if node.status in ("running", "waiting"):
                node.status, node.ended_at = "canceled", at
            self._forget(name)

    def _forget(self, name: str) -> None:
        for each in self.taken.values():
            if each.node_id == name:
                each.open = []

    def _result(self, name: str, kind: str, values: Mapping[str, Raw]) -> NodeResult:
        node = self.nodes.get(name)
        kind = TYPES.get(kind, kind)
        if node is None:
            return NodeResult(id=name, type=kind, status="canceled" if self.final else "pending")
        error = node.error
        return NodeResult(
            id=name,
            type=kind,
            status=node.status,
            started_at=node.started_at,
            ended_at=node.ended_at,
            output=values.get(name, UNSET) if node.status == "succeeded" else UNSET,
            error=NodeError(message=error.message, code=error.code) if error else UNSET,
        )

    def _by_node(self, names: Iterable[str]) -> tuple[NodeSteps, ...]:
        steps: dict[str, list[NodeStep]] = {}
        for each in self.taken.values():
            steps.setdefault(each.node_id, []).append(_step(each))
        return tuple(NodeSteps(node_id=name, steps=tuple(steps[name])) for name in names if name in steps)


def _step(each: Taken) -> NodeStep:
    return NodeStep(
        step=each.step,
        request_id=each.request_id,
        llm_call=each.llm_call or UNSET,
        tool_calls=pending(each.calls) or UNSET,
        tool_results=_outputs(each) or UNSET,
        waiting=(each.waiting or UNSET) if each.open else UNSET,
    )


def _outputs(each: Taken) -> tuple[ToolOutput, ...]:
    return tuple(
        ToolOutput(tool_call=result.tool_call, output=result.output, error=result.error) for result in each.results
    )

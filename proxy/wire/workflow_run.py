"""What is told of a workflow run besides its events: the snapshot, its steps, its open tool calls, its costs.

All of it is a fold of the events. A step is one call of a model; the calls of tools that it asked for, and their
results, belong to it.
Source: the snapshot parsers of the ModelRelay SDKs (Rust's is the strictest), and the API's OpenAPI document 0.7.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from proxy.wire.workflow_body import PendingTool, Status, ToolDetail, ToolOutput
from proxy.wire.workflow_parts import Call, LlmCall, Provider, Waiting

NodeStatus = Literal["pending", "running", "waiting", "succeeded", "failed", "canceled"]
Cents = Annotated[int, Meta(ge=0)]
TYPES = {"llm": "llm.responses"}
"""Types of nodes that have another name in a snapshot."""
UNKNOWN_MODEL = "unknown"


class LineItem(Struct, frozen=True, kw_only=True):
    """What one model cost; there is one item for each."""

    provider_id: Provider
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    usd_cents: Cents


class CostSummary(Struct, frozen=True, kw_only=True):
    total_usd_cents: Cents
    line_items: tuple[LineItem, ...]


class Summary(Struct, frozen=True, kw_only=True):
    total_steps: int
    total_llm_calls: int
    total_tool_calls: int
    total_input_tokens: int
    total_output_tokens: int
    total_cost_cents: Cents


class NodeError(Struct, frozen=True, kw_only=True):
    message: str
    code: str | UnsetType = UNSET


class NodeResult(Struct, frozen=True, kw_only=True):
    """How far a node is; times are RFC 3339 in UTC."""

    id: str
    type: str
    status: NodeStatus
    started_at: str | UnsetType = UNSET
    ended_at: str | UnsetType = UNSET
    output: Raw | UnsetType = UNSET
    error: NodeError | UnsetType = UNSET


class NodeStep(Struct, frozen=True, kw_only=True):
    step: int
    request_id: str
    llm_call: LlmCall | UnsetType = UNSET
    tool_calls: tuple[PendingTool, ...] | UnsetType = UNSET
    tool_results: tuple[ToolOutput, ...] | UnsetType = UNSET
    waiting: Waiting | UnsetType = UNSET


class NodeSteps(Struct, frozen=True, kw_only=True):
    node_id: str
    steps: tuple[NodeStep, ...]


class Step(Struct, frozen=True, kw_only=True):
    """One step in the list of all."""

    node_id: str
    step: int
    request_id: str
    llm_call: LlmCall | UnsetType = UNSET
    tool_calls: tuple[PendingTool, ...] | UnsetType = UNSET
    tool_results: tuple[ToolOutput, ...] | UnsetType = UNSET


class Steps(Struct, frozen=True, kw_only=True):
    steps: tuple[Step, ...]


class Snapshot(Struct, frozen=True, kw_only=True):
    run_id: str
    status: Status
    plan_hash: str
    cost_summary: CostSummary
    nodes: tuple[NodeResult, ...]
    outputs: Raw
    summary: Summary
    parent_run_id: str | UnsetType = UNSET
    steps: tuple[NodeSteps, ...] | UnsetType = UNSET


class Spent(Struct, frozen=True):
    """Calls and tokens of one model."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


Models = Mapping[tuple[Provider, str], Spent]


def cost_summary(spent: Models, cents: Mapping[str, int]) -> CostSummary:
    """`cents` by model; a model without a price costs nothing."""
    items = tuple(
        LineItem(
            provider_id=provider,
            model=model[:128] or UNKNOWN_MODEL,
            requests=each.requests,
            input_tokens=each.input_tokens,
            output_tokens=each.output_tokens,
            usd_cents=cents.get(model, 0),
        )
        for (provider, model), each in spent.items()
    )
    return CostSummary(total_usd_cents=sum(item.usd_cents for item in items), line_items=items)


def tool_detail(steps: Iterable[Step], step: int, tool_id: str) -> ToolDetail | None:
    """The first call of that id in a step of that number, of whatever node; None if there is none."""
    for each in steps:
        for call in each.tool_calls or () if each.step == step else ():
            if call.tool_call.id == tool_id:
                results = [found for found in each.tool_results or () if found.tool_call.id == tool_id]
                return ToolDetail(
                    node_id=each.node_id,
                    step=step,
                    tool_call=call.tool_call,
                    tool_result=results[0] if results else UNSET,
                )
    return None


def pending(calls: Iterable[Call]) -> tuple[PendingTool, ...]:
    return tuple(PendingTool(tool_call=call) for call in calls)

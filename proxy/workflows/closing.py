"""How nodes and runs end in the log."""

from __future__ import annotations

import msgspec
from msgspec import Raw

import proxy.wire.workflow as wire
from proxy.wire.workflow_parts import Problem
from proxy.workflows.compile import Plan
from proxy.workflows.faults import Fault
from proxy.workflows.ledger import Ledger, artifact
from proxy.workflows.memory import OUTPUTS
from proxy.workflows.tasks import RunCanceled, RunFailed, RunSucceeded
from proxy.workflows.values import Scope, spoken

VALUES = "node_output.v0"
ALL_OUTPUTS = "run_outputs.v0"


def give(ledger: Ledger, node: str, json: bytes) -> None:
    """A node has its value."""
    ledger.keep(node, json)
    ledger.add(wire.NodeOutput(node_id=node, output=artifact(VALUES, json)), json)
    ledger.add(wire.NodeSucceeded(node_id=node))


def end(ledger: Ledger, plan: Plan, scope: Scope, decision: RunSucceeded | RunFailed | RunCanceled) -> None:
    """The run has ended; one that succeeded says its outputs in its session."""
    match decision:
        case RunSucceeded(json=json):
            text = spoken(plan.workflow.outputs, scope)
            ledger.say(Raw(msgspec.json.encode([{"type": "text", "text": text}])))
            ledger.keep(OUTPUTS, json)
            ledger.add(wire.RunCompleted(plan_hash=plan.hash, outputs=artifact(ALL_OUTPUTS, json)), json)
        case RunFailed(fault=fault):
            ledger.add(wire.RunFailed(plan_hash=plan.hash, error=problem(fault)))
        case RunCanceled(fault=fault):
            ledger.add(wire.RunCanceled(plan_hash=plan.hash, error=problem(fault)))


def problem(fault: Fault) -> Problem:
    return Problem(message=fault.message or "The node failed.", code=fault.code or "failed")

"""Which model each node of a plan gets: what the caller of a run says beats what the spec says."""

from __future__ import annotations

from collections.abc import Container, Mapping

from msgspec import Struct
from msgspec.structs import replace

from proxy.workflows.compile import NO_MODEL, Plan, talkers
from proxy.workflows.issues import Code, Faults, InvalidWorkflow, Path, short
from proxy.workflows.spec import Fanout, Llm, Node, Transform


class Overrides(Struct, frozen=True, kw_only=True):
    """Models by node, by fan-out and subnode, and for all others; "" for what the spec says."""

    nodes: Mapping[str, str] = {}
    subnodes: Mapping[tuple[str, str], str] = {}
    model: str = ""


def with_models(plan: Plan, overrides: Overrides, models: Container[str] | None = None) -> Plan:
    """The plan with a model on each llm node; its hash stays that of the spec.

    `models` are those that there are, None to check none. Raises `InvalidWorkflow` where a node has no model, or one
    that does not exist, or where an override names no llm node.
    """
    faults = Faults()
    _check(plan, overrides, faults)
    nodes = []
    for index, node in enumerate(plan.workflow.nodes):
        chosen = _chosen(node, overrides, plan.workflow.model)
        for path, talker in talkers(chosen, ("nodes", index)):
            if not talker.model:
                faults.add(Code.MISSING_MODEL, (*path, "model"), NO_MODEL)
            elif models is not None and talker.model not in models:
                cure = f"there is no model `{short(talker.model)}`; GET /models lists those that there are"
                faults.add(Code.UNKNOWN_MODEL, (*path, "model"), cure)
        nodes.append(chosen)
    if faults:
        raise InvalidWorkflow(faults.listed(None))
    return replace(plan, workflow=replace(plan.workflow, nodes=tuple(nodes)))


def _chosen(node: Node, overrides: Overrides, otherwise: str) -> Node:
    match node:
        case Llm():
            model = overrides.nodes.get(node.id) or overrides.model or node.model or otherwise
            return replace(node, model=model)
        case Fanout(subnode=Llm() as inner):
            own = overrides.subnodes.get((node.id, inner.id))
            model = own or overrides.model or inner.model or otherwise
            return replace(node, subnode=replace(inner, model=model))
    return node


def _check(plan: Plan, overrides: Overrides, faults: Faults) -> None:
    found = {node.id: node for node in plan.workflow.nodes}
    for name in overrides.nodes:
        if not isinstance(found.get(name), Llm):
            _wrong(("model_overrides", "nodes", name), f"there is no llm node `{short(name)}`", faults)
    for index, (parent, name) in enumerate(overrides.subnodes):
        node = found.get(parent)
        if not isinstance(node, Fanout) or isinstance(node.subnode, Transform) or node.subnode.id != name:
            reason = f"there is no llm subnode `{short(name)}` in a fan-out `{short(parent)}`"
            _wrong(("model_overrides", "fanout_subnodes", index), reason, faults)


def _wrong(path: Path, reason: str, faults: Faults) -> None:
    faults.add(Code.UNKNOWN_NODE, path, f"{reason}; override the model of nodes that the plan has")

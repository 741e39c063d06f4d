"""Which nodes a run can do without: those whose values serve joins that go on without all their branches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from proxy.workflows.compile import Plan
from proxy.workflows.spec import Node, Racing


def users_of(nodes: Iterable[Node]) -> dict[str, list[str]]:
    """By node: the nodes that depend on it, in the order of the document."""
    nodes = list(nodes)
    users: dict[str, list[str]] = {node.id: [] for node in nodes}
    for node in nodes:
        for name in node.depends_on:
            users[name].append(node.id)
    return users


def spared(plan: Plan, users: Mapping[str, list[str]]) -> frozenset[str]:
    """The nodes whose failure costs a `join.any` or `join.collect` a branch and no more.

    A branch is the node that the join names and all before it that serves this branch alone.
    """
    nodes = {node.id: node for node in plan.workflow.nodes}
    told = {output.from_ for output in plan.workflow.outputs}
    found = set[str]()
    for name in reversed(plan.order):
        serves = users[name]
        if name not in told and serves and all(isinstance(nodes[user], Racing) or user in found for user in serves):
            found.add(name)
    return frozenset(found)


def needless(plan: Plan, users: Mapping[str, list[str]], is_open: Callable[[str], bool]) -> list[str]:
    """The nodes under way, or still to come, whose values nobody waits for any more."""
    told = {output.from_ for output in plan.workflow.outputs}
    needed = set[str]()
    found = []
    for name in reversed(plan.order):
        if not is_open(name):
            continue
        if name in told or not users[name] or any(user in needed for user in users[name]):
            needed.add(name)
        else:
            found.append(name)
    return found

"""What a node needs: the nodes that its parts name, besides its `depends_on`; and whether that goes round in circles.

A name in a placeholder is the item (within a fan-out's subnode), else a node, else an input of the run. The `from` of
a subnode's transform may be `item` too. Outputs make no dependency.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct

from proxy.workflows.issues import Path
from proxy.workflows.spec import ITEM, Fanout, Llm, Node, Transform
from proxy.workflows.templates import holes


class Reference(Struct, frozen=True):
    """A name that a part of a node mentions; `strict` ones must be nodes, others may be inputs."""

    name: str
    path: Path
    strict: bool


def references(node: Node) -> Iterator[Reference]:
    """All that a node names; paths are relative to the node."""
    yield from _listed(node, ())
    yield from _mentioned(node, ())
    if isinstance(node, Fanout):
        if node.items_from:
            yield Reference(node.items_from, ("items_from",), True)
        inner = (*_listed(node.subnode, ("subnode",)), *_mentioned(node.subnode, ("subnode",)))
        yield from (each for each in inner if each.name != ITEM or each.path[1] == "depends_on")


def inputs_named(node: Node, nodes: Collection[str]) -> Iterator[str]:
    """The inputs of the run that a node cannot do without, if these are all nodes."""
    yield from (each.name for each in references(node) if not each.strict and each.name not in nodes)
    if isinstance(node, Fanout) and node.items_from_input:
        yield node.items_from_input


def _listed(node: Node, place: Path) -> Iterator[Reference]:
    for index, name in enumerate(node.depends_on):
        yield Reference(name, (*place, "depends_on", index), True)


def _mentioned(node: Node, place: Path) -> Iterator[Reference]:
    match node:
        case Llm():
            for path, text in texts(node):
                yield from (Reference(name, (*place, *path), False) for name, _ in holes(text))
        case Transform():
            for key, value in (node.object or {}).items():
                yield Reference(value.from_, (*place, "object", key, "from"), True)
            for index, value in enumerate(node.merge):
                yield Reference(value.from_, (*place, "merge", index, "from"), True)


def texts(node: Llm) -> Iterator[tuple[Path, str]]:
    """The texts of a node that may have placeholders."""
    yield ("system",), node.system
    yield ("user",), node.user
    for index, item in enumerate(node.input):
        for number, part in enumerate(item.content):
            yield ("input", index, "content", number, "text"), part.text


def marks(nodes: Iterable[Node]) -> int:
    """How many placeholders there can be in the texts of these nodes."""
    found = (node.subnode if isinstance(node, Fanout) else node for node in nodes)
    return sum(text.count("{{") for node in found if isinstance(node, Llm) for _, text in texts(node))


def cycles(needs: Mapping[str, Collection[str]]) -> Iterator[list[str]]:
    """Circles of nodes, none of which shares a node with another: each as its nodes, from one that comes first."""
    left = {name: [each for each in others if each in needs and each != name] for name, others in needs.items()}
    places = {name: place for place, name in enumerate(needs)}
    while left := _tangled(left):
        way: dict[str, None] = {}
        name = next(iter(left))
        while name not in way:
            way[name] = None
            name = left[name][0]
        circle = list(way)[list(way).index(name) :]
        first = min(circle, key=places.__getitem__)
        turn = circle.index(first)
        yield [*circle[turn:], *circle[:turn]]
        gone = set(circle)
        left = {
            name: [each for each in others if each not in gone] for name, others in left.items() if name not in gone
        }


def ordered(needs: Mapping[str, Collection[str]]) -> list[str]:
    """All nodes that stand in no circle and need none that does, each after those that it needs."""
    waits = {name: len(set(others)) for name, others in needs.items()}
    users: dict[str, list[str]] = {name: [] for name in needs}
    for name, others in needs.items():
        for other in set(others):
            users[other].append(name)
    order = [name for name, count in waits.items() if not count]
    for name in order:
        for user in users[name]:
            waits[user] -= 1
            if not waits[user]:
                order.append(user)
    return order


def _tangled(needs: dict[str, list[str]]) -> dict[str, list[str]]:
    """What is left when all has been taken away that waits for no circle."""
    done = set(ordered(needs))
    return {name: [each for each in others if each not in done] for name, others in needs.items() if name not in done}

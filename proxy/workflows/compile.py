"""Checks a spec and makes a plan of it; or tells all that is wrong with it.

Where the sources are silent: the plan is the spec in its normal form (see `spec`), with each node's dependencies
complete, and sorted where their order means nothing; its JSON keeps the order of the caller's fields, which models
heed in schemas, and the hash is over the JSON with sorted keys; a spec in the compiled form `workflow.v1` is refused;
an `items_path` is a pointer, or JSONPath if it starts with `$`; a subnode's `depends_on` counts for its fan-out;
ids of subnodes need only differ from their fan-out's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from proxy.workflows.drafts import Draft, draft
from proxy.workflows.graph import cycles, marks, ordered, references
from proxy.workflows.issues import Code, Faults, InvalidWorkflow, Path
from proxy.workflows.reading import like, told
from proxy.workflows.schemas import examine, size
from proxy.workflows.spec import ITEM, Bounds, Fanout, JoinAll, JoinAny, JoinCollect, Llm, Node, Workflow

_plain = msgspec.json.Encoder()
_sorted = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Workflow)


class Plan(Struct, frozen=True):
    """A workflow that can run. `order` are the ids of all nodes, each after those that it needs."""

    workflow: Workflow
    hash: str
    order: tuple[str, ...]

    @property
    def json(self) -> bytes:
        """As it is kept and shown; `load` makes the same plan of it."""
        return _plain.encode(self.workflow)


def compile_workflow(
    document: object, *, bounds: Bounds | None = None, tools: Collection[str] | None = None, models: bool = True
) -> Plan:
    """The plan of a spec, given as plain JSON values.

    `tools` are the names of the server's own, None to check none; `models` says whether each llm node must have a
    model already, or may get it from an override. Raises `InvalidWorkflow` with every fault there is.
    """
    faults = Faults()
    plan = _plan(document, faults, bounds or Bounds(), tools, models)
    if faults or plan is None:
        raise InvalidWorkflow(faults.listed(document))
    return plan


def load(json: bytes) -> Plan:
    """The plan of a plan's JSON, which is trusted."""
    return planned(_decoder.decode(json))


def planned(workflow: Workflow) -> Plan:
    """The plan of a workflow in normal form."""
    digest = hashlib.sha256(_sorted.encode(workflow)).hexdigest()
    return Plan(workflow, digest, tuple(ordered({each.id: each.depends_on for each in workflow.nodes})))


def _plan(document: object, faults: Faults, bounds: Bounds, tools: Collection[str] | None, models: bool) -> Plan | None:
    found = draft(document, faults, bounds)
    if found is None:
        return None
    if marks(found.workflow.nodes) > bounds.placeholders:
        faults.add(Code.TOO_LARGE, ("nodes",), f"the texts have more than {bounds.placeholders} placeholders")
        return None
    for path, each in zip(found.paths, found.workflow.nodes, strict=True):
        _check_names(each, path, found.known, faults)
        for place, inner in talkers(each, path):
            if models and not (inner.model or found.workflow.model):
                faults.add(Code.MISSING_MODEL, (*place, "model"), NO_MODEL)
            if tools is not None and inner.mode != "client":
                _check_tools(inner, place, tools, faults)
    for index, output in enumerate(found.workflow.outputs):
        if output.from_ and found.known and output.from_ not in found.known:
            _unknown(output.from_, ("outputs", index, "from"), found.known, faults)
    _check_schemas(found, faults, bounds)
    _check_circles(found, faults, bounds)
    return None if faults else planned(normal(found.workflow))


NO_MODEL = "no model is given: name one here, or for all nodes in `$.model`"


def talkers(node: Node, path: Path) -> list[tuple[Path, Llm]]:
    """The llm nodes in a node: itself, or its subnode."""
    if isinstance(node, Fanout):
        return talkers(node.subnode, (*path, "subnode"))
    return [(path, node)] if isinstance(node, Llm) else []


def _check_names(node: Node, path: Path, known: frozenset[str], faults: Faults) -> None:
    for reference in references(node):
        place = (*path, *reference.path)
        if faults.full:
            return
        if reference.name == node.id and node.id:
            cure = f"node `{node.id}` needs its own value; name another node, or rename the input that is meant"
            faults.add(Code.SELF_DEPENDENCY, place, cure)
        elif reference.strict and reference.name and reference.name not in known:
            _unknown(reference.name, place, known, faults)
    if isinstance(node, Fanout) and node.id and node.subnode.id == node.id:
        cure = f"the subnode has the id of its fan-out, {told(node.id)}; rename it"
        faults.add(Code.DUPLICATE_NODE_ID, (*path, "subnode", "id"), cure)


def _unknown(name: str, path: Path, known: frozenset[str], faults: Faults) -> None:
    hint = like(name, sorted(known) if faults.few else ()).replace("; take it out", "; name a node of this workflow")
    if name == ITEM:
        hint = "; an item is known within the subnode of a map.fanout alone"
    faults.add(Code.UNKNOWN_NODE, path, f"there is no node {told(name)}{hint}")


def _check_tools(node: Llm, path: Path, tools: Collection[str], faults: Faults) -> None:
    for index, tool in enumerate(node.tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else tool
        if isinstance(name, str) and name != "user_ask" and name not in tools:
            cure = f'the server has no tool {told(name)}; to run it yourself set tool_execution to {{"mode": "client"}}'
            faults.add(Code.UNKNOWN_TOOL, (*path, "tools", index), cure)


def _check_schemas(found: Draft, faults: Faults, bounds: Bounds) -> None:
    """Schemas of answers; those beyond what a spec may have are not looked at."""
    left = bounds.schemas
    for path, each in zip(found.paths, found.workflow.nodes, strict=True):
        for place, inner in talkers(each, path):
            wanted = inner.output_format.json_schema if inner.output_format is not None else None
            if wanted is None or not wanted.schema:
                continue
            at = (*place, "output_format", "json_schema", "schema")
            left -= size(wanted.schema)
            if left < 0:
                faults.add(Code.TOO_LARGE, at, f"the schemas have more than {bounds.schemas} objects; simplify them")
                return
            examine(wanted.schema, at, faults)


def _check_circles(found: Draft, faults: Faults, bounds: Bounds) -> None:
    needs = {each.id: needed(each, found.known) for each in found.workflow.nodes if each.id}
    if sum(map(len, needs.values())) > bounds.edges:
        cure = f"the nodes have more than {bounds.edges} dependencies; put a join between them"
        faults.add(Code.TOO_LARGE, ("nodes",), cure)
        return
    places = dict(zip((each.id for each in found.workflow.nodes), found.paths, strict=True))
    read = {name: [each for each in others if each in needs] for name, others in needs.items()}
    for circle in cycles(read):
        shown = [*circle[:8], "..."] if len(circle) > 8 else circle
        way = " needs ".join((*shown, circle[0]))
        cure = f"nodes wait for each other: {way}; take one of these dependencies out"
        faults.add(Code.CYCLE, (*places[circle[0]], "depends_on"), cure)


def needed(node: Node, known: Collection[str]) -> tuple[str, ...]:
    """The ids of all nodes that a node needs: for a join in its own order, else sorted."""
    found = dict.fromkeys(each.name for each in references(node) if each.name in known)
    return tuple(found) if isinstance(node, JoinAll | JoinAny | JoinCollect) else tuple(sorted(found))


def normal(workflow: Workflow) -> Workflow:
    """The normal form of a workflow without faults."""
    known = {each.id for each in workflow.nodes}
    return replace(workflow, nodes=tuple(_complete(each, known) for each in workflow.nodes))


def _complete(node: Node, known: Collection[str]) -> Node:
    whole = replace(node, depends_on=needed(node, known))
    return replace(whole, subnode=replace(whole.subnode, depends_on=())) if isinstance(whole, Fanout) else whole

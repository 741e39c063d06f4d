"""Reads a spec as far as it can be read: its parts one by one, whatever they name."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain

from msgspec import Struct

from proxy.workflows.inputs import INPUT_TYPES, fits
from proxy.workflows.issues import Code, Faults, Path
from proxy.workflows.nodes import node, pointed
from proxy.workflows.reading import Fields, told
from proxy.workflows.spec import KIND, Bounds, Input, Node, Output, Workflow


class Draft(Struct, frozen=True):
    """A workflow as far as it could be read. `ids` are those of all nodes, `known` also of those not read."""

    workflow: Workflow
    paths: tuple[Path, ...]
    known: frozenset[str]


def draft(document: object, faults: Faults, bounds: Bounds) -> Draft | None:
    """What can be read of a spec; None if it is none."""
    if not isinstance(document, dict):
        faults.add(Code.INVALID_TYPE, (), f"a spec must be an object; it is {told(document)}")
        return None
    if excess := oversized(document, bounds):
        faults.add(Code.TOO_LARGE, (), excess)
        return None
    fields = Fields(document, (), faults)
    if not _is_workflow(fields):
        return None
    name, model = fields.text("name"), fields.text("model", most=128).strip()
    parallel, inputs = fields.whole("max_parallelism"), _inputs(fields, bounds)
    paths, nodes, known = _nodes(fields, bounds)
    outputs = _outputs(fields, bounds)
    fields.close()
    workflow = Workflow(
        kind=KIND, name=name, model=model, max_parallelism=parallel, inputs=inputs, nodes=nodes, outputs=outputs
    )
    return Draft(workflow, paths, known)


def oversized(document: object, bounds: Bounds) -> str:
    """What is too much about a document, "" if nothing is."""
    level, count = [document], 0
    for _ in range(bounds.depth):
        level = list(chain.from_iterable(_children(each) for each in level))
        count += len(level)
        if count > bounds.values:
            return f"the spec has more than {bounds.values} names and values; split the workflow"
        if not level:
            return ""
    return f"the spec is nested deeper than {bounds.depth} levels; make it flatter"


def _children(value: object) -> Collection[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _is_workflow(fields: Fields) -> bool:
    """Whether it is worth reading on; a misspelt kind does not hide other faults."""
    kind = fields.any("kind")
    if kind == KIND:
        return True
    compiled = isinstance(kind, str) and kind.startswith("workflow.")
    reason = "the compiled form is not taken here" if compiled else f"it is {told(kind)}"
    fields.fault(Code.INVALID_KIND, "kind", f'`kind` must be "{KIND}"; {reason}')
    return not compiled


def _inputs(fields: Fields, bounds: Bounds) -> tuple[Input, ...]:
    found: dict[str, Input] = {}
    for index, inner in enumerate(fields.objects("inputs")):
        if index >= bounds.inputs:
            fields.fault(Code.TOO_LARGE, "inputs", f"a workflow has at most {bounds.inputs} inputs")
            break
        declared = Input(
            name=inner.text("name", required="give the input a name", most=128),
            type=inner.word("type", INPUT_TYPES, "json", Code.INVALID_INPUT_TYPE),
            required=inner.flag("required"),
            description=inner.text("description"),
            default=inner.any("default"),
        )
        inner.close()
        if declared.default is not None and not fits(declared.default, declared.type):
            cure = f"`default` must be of the input's type {declared.type}; it is {told(declared.default)}"
            inner.fault(Code.INVALID_DEFAULT, "default", cure)
        if declared.name in found:
            inner.fault(Code.DUPLICATE_INPUT, "name", f"there is an input {told(declared.name)} already; rename one")
        found.setdefault(declared.name, declared)
    return tuple(found.values())


def _nodes(fields: Fields, bounds: Bounds) -> tuple[tuple[Path, ...], tuple[Node, ...], frozenset[str]]:
    if not fields.has("nodes"):
        fields.fault(Code.MISSING_FIELD, "nodes", "`nodes` is missing: a workflow has one node at least")
    paths, nodes, known = list[Path](), list[Node](), set[str]()
    if isinstance(given := fields.given.get("nodes"), list) and len(given) > bounds.nodes:
        cure = f"a workflow has at most {bounds.nodes} nodes, and this one {len(given)}; split it"
        fields.fault(Code.TOO_LARGE, "nodes", cure)
        fields.any("nodes")
        return (), (), frozenset()
    for inner in fields.objects("nodes"):
        found = node(inner, bounds)
        name = inner.given.get("id")
        if isinstance(name, str) and name in known:
            inner.fault(Code.DUPLICATE_NODE_ID, "id", f"there is a node {told(name)} already; rename one")
        elif found is not None:
            paths.append(inner.path)
            nodes.append(found)
        if isinstance(name, str) and name:
            known.add(name)
    return tuple(paths), tuple(nodes), frozenset(known)


def _outputs(fields: Fields, bounds: Bounds) -> tuple[Output, ...]:
    if not fields.has("outputs"):
        fields.fault(Code.MISSING_FIELD, "outputs", "`outputs` is missing: name one value at least that the run gives")
    found: dict[str, Output] = {}
    for index, inner in enumerate(fields.objects("outputs")):
        if index >= bounds.outputs:
            fields.fault(Code.TOO_LARGE, "outputs", f"a workflow has at most {bounds.outputs} outputs")
            break
        output = Output(
            name=inner.text("name", required="give the output a name", most=128),
            from_=inner.text("from", required="name the node that the output comes from"),
            pointer=pointed(inner, "pointer"),
        )
        inner.close()
        if output.name in found:
            inner.fault(Code.DUPLICATE_OUTPUT, "name", f"there is an output {told(output.name)} already; rename one")
        found.setdefault(output.name or f"#{index}", output)
    return tuple(found.values())

"""What is allowed in a spec and yet is hardly meant; found also where the spec does not compile.

Schemas that say `strict` are held to what models ask of these: each object closed, and all its properties required.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proxy.workflows.drafts import draft, oversized
from proxy.workflows.graph import inputs_named, marks, references
from proxy.workflows.issues import Code, Faults, Issue, Path, short
from proxy.workflows.spec import Bounds, Workflow

NESTED = ("items", "not", "additionalProperties")
BY_NAME = ("properties", "$defs", "definitions")
ALTERNATIVES = ("anyOf", "oneOf", "allOf")


def lint(document: object, bounds: Bounds | None = None) -> tuple[Issue, ...]:
    """The warnings about a spec, in the order of the document."""
    bounds, faults = bounds or Bounds(), Faults()
    if oversized(document, bounds):
        return ()
    for path, schema in _strict_schemas(document):
        for place, each in _objects(schema, path):
            _check(each, place, faults)
    found = draft(document, Faults(), bounds)
    if found is not None and marks(found.workflow.nodes) <= bounds.placeholders:
        _unused(found.workflow, found.paths, faults)
    return faults.listed(document)


def _strict_schemas(document: object) -> Iterator[tuple[Path, dict[str, Any]]]:
    nodes = document.get("nodes") if isinstance(document, dict) else None
    for index, node in enumerate(nodes if isinstance(nodes, list) else ()):
        for path, each in ((("nodes", index), node), (("nodes", index, "subnode"), _inner(node, "subnode"))):
            wrapped = _inner(_inner(each, "output_format"), "json_schema")
            schema = _inner(wrapped, "schema")
            if schema and wrapped.get("strict") is True:
                yield (*path, "output_format", "json_schema", "schema"), schema


def _inner(value: Any, name: str) -> dict[str, Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _objects(schema: dict[str, Any], path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each schema of an object, this one and those within."""
    waiting: list[tuple[Path, Any]] = [(path, schema)]
    while waiting:
        place, each = waiting.pop()
        if not isinstance(each, dict):
            continue
        if each.get("type") == "object" or "properties" in each:
            yield place, each
        waiting += [((*place, name), each.get(name)) for name in NESTED]
        for name in BY_NAME:
            waiting += [((*place, name, key), value) for key, value in _inner(each, name).items()]
        for name in ALTERNATIVES:
            found = each.get(name)
            waiting += [((*place, name, i), value) for i, value in enumerate(found if isinstance(found, list) else ())]


def _check(schema: dict[str, Any], path: Path, faults: Faults) -> None:
    if schema.get("additionalProperties") is not False:
        cure = "a strict schema closes each object: set `additionalProperties` to false"
        faults.add(Code.STRICT_ADDITIONAL_PROPERTIES, (*path, "additionalProperties"), cure)
    required = schema.get("required")
    named = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set[str]()
    if absent := [name for name in _inner(schema, "properties") if name not in named]:
        names = ", ".join(f"`{short(name)}`" for name in absent[:5]) + (" and more" if len(absent) > 5 else "")
        cure = f"a strict schema requires all its properties: add {names} to `required`"
        faults.add(Code.STRICT_REQUIRED, (*path, "required"), cure)


def _unused(workflow: Workflow, paths: tuple[Path, ...], faults: Faults) -> None:
    nodes = {node.id for node in workflow.nodes}
    inputs = {name for node in workflow.nodes for name in inputs_named(node, nodes)}
    for index, declared in enumerate(workflow.inputs):
        if declared.name in nodes:
            cure = f"a placeholder `{declared.name}` is the node of that name; rename the input"
            faults.add(Code.SHADOWED_INPUT, ("inputs", index, "name"), cure)
        elif declared.name not in inputs:
            cure = f"no node uses input `{short(declared.name)}`; take it out, or write it as a placeholder"
            faults.add(Code.UNUSED_INPUT, ("inputs", index, "name"), cure)
    used = {each.name for node in workflow.nodes for each in references(node)}
    used |= {output.from_ for output in workflow.outputs}
    for path, node in zip(paths, workflow.nodes, strict=True):
        if node.id and node.id not in used:
            cure = f"nothing uses the value of node `{node.id}`; name it in an output or another node, or take it out"
            faults.add(Code.UNUSED_NODE, (*path, "id"), cure)

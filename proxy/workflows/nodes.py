"""Reads the nodes of a spec, each by its type.

Where the sources are silent: `input` messages stand between `system` and `user`; the content of a message may be a
plain text; tool calls of a message may have their name and arguments flat or under `function`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, get_args

from proxy.workflows.conditions import pattern
from proxy.workflows.issues import Code
from proxy.workflows.paths import either, path, pointer
from proxy.workflows.reading import Fields, like, told
from proxy.workflows.spec import (
    Bounds,
    Condition,
    Fanout,
    JoinAll,
    JoinAny,
    JoinCollect,
    Llm,
    Node,
    NodeType,
    Scalar,
    Transform,
    Value,
)
from proxy.workflows.talk import llm

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
SOURCES: tuple[Literal["node_output", "node_status"], ...] = ("node_output", "node_status")
OPS: tuple[Literal["equals", "matches", "exists"], ...] = ("equals", "matches", "exists")
OWN = {
    **dict.fromkeys(
        ("model", "system", "user", "input", "stream", "tools", "tool_execution", "retry", "max_output_tokens"),
        "llm nodes",
    ),
    **dict.fromkeys(("output_format", "stop"), "llm nodes"),
    "predicate": "join.any and join.collect nodes",
    "limit": "join.collect nodes",
    "timeout_ms": "join.collect nodes",
    **dict.fromkeys(
        ("items_from", "items_from_input", "items_pointer", "items_path", "subnode", "max_parallelism"),
        "map.fanout nodes",
    ),
    "object": "transform.json nodes",
    "merge": "transform.json nodes",
}
"""Whose fields these are."""


def node(fields: Fields, bounds: Bounds) -> Node | None:
    """The node, as far as it can be read; None if its type is not known."""
    name, depends_on = node_id(fields), dependencies(fields)
    types: list[str] = [*READERS, "map.fanout"]
    given = fields.any("type")
    if not isinstance(given, str) or given not in types:
        known = f"; it is one of {', '.join(types)}"
        if given in (None, ""):
            fields.fault(Code.MISSING_FIELD, "type", f"`type` is missing{known}")
        else:
            hint = like(given, types) if isinstance(given, str) else ""
            fields.fault(Code.UNKNOWN_NODE_TYPE, "type", f"{told(given)} is no type of node{hint}{known}")
        return None
    if given == "map.fanout":
        found: Node = fanout(fields, name, depends_on, bounds)
    else:
        found = READERS[given](fields, name, depends_on, bounds)
    fields.close(OWN)
    return found


def node_id(fields: Fields) -> str:
    """The node's id, "" if it has none that may stand."""
    given = fields.text("id", required="give the node a name, as in `summarize`")
    if not given or NAME.fullmatch(given):
        return given
    cure = "it must start with a small letter, and have small letters, digits and _ alone, 64 at most"
    fields.fault(Code.INVALID_NODE_ID, "id", f"{told(given)} cannot be the id of a node: {cure}")
    return ""


def dependencies(fields: Fields) -> tuple[str, ...]:
    """In the order of the document; an empty name stands where none can be read."""
    found = {path[-1]: name for path, name in fields.texts("depends_on", "the id of a node")}
    return tuple(found.get(index, "") for index in range(max((int(each) for each in found), default=-1) + 1))


def join_all(fields: Fields, name: str, depends_on: tuple[str, ...], bounds: Bounds) -> JoinAll:
    branches(fields)
    return JoinAll(id=name, depends_on=depends_on)


def join_any(fields: Fields, name: str, depends_on: tuple[str, ...], bounds: Bounds) -> JoinAny:
    branches(fields)
    return JoinAny(id=name, depends_on=depends_on, predicate=condition(fields, bounds))


def join_collect(fields: Fields, name: str, depends_on: tuple[str, ...], bounds: Bounds) -> JoinCollect:
    branches(fields)
    return JoinCollect(
        id=name,
        depends_on=depends_on,
        predicate=condition(fields, bounds),
        limit=fields.whole("limit"),
        timeout_ms=fields.whole("timeout_ms"),
    )


def branches(fields: Fields) -> None:
    if not fields.has("depends_on"):
        fields.fault(Code.MISSING_FIELD, "depends_on", "a join needs branches: name them in `depends_on`")


def condition(fields: Fields, bounds: Bounds) -> Condition | None:
    inner = fields.inner("predicate")
    if inner is None:
        return None
    wrong = Code.INVALID_CONDITION
    for required in ("source", "op"):
        if not inner.has(required):
            inner.fault(wrong, required, f"`{required}` is missing: a predicate has a source and an op")
    found = Condition(
        source=inner.word("source", SOURCES, "node_output", wrong),
        op=inner.word("op", OPS, "exists", wrong),
        path=inner.text("path") or "$",
        value=scalar(inner),
    )
    compared(inner, found, bounds)
    inner.close()
    return found


def scalar(inner: Fields) -> Scalar:
    value = inner.any("value")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    inner.fault(Code.INVALID_CONDITION, "value", "`value` must be a text, a number, true, false or null")
    return None


def compared(inner: Fields, found: Condition, bounds: Bounds) -> None:
    """Notes what the parts of a condition do not allow of each other."""
    wrong = Code.INVALID_CONDITION
    try:
        path(found.path)
    except ValueError as error:
        inner.fault(wrong, "path", f"`path` cannot be read: {error}")
    if found.source == "node_status" and found.path != "$":
        inner.fault(wrong, "path", "a status has no parts: take `path` out, or use the source node_output")
    if found.op == "exists" and found.value is not None and inner.given.get("op") == "exists":
        inner.fault(wrong, "value", "`exists` compares with nothing: take `value` out")
    if found.op == "matches":
        expression(inner, found.value, bounds)


def expression(inner: Fields, value: Scalar, bounds: Bounds) -> None:
    wrong = Code.INVALID_CONDITION
    if not isinstance(value, str) or not value:
        inner.fault(wrong, "value", "`matches` needs a regular expression as its `value`")
    elif len(value) > bounds.pattern:
        inner.fault(wrong, "value", f"a regular expression has at most {bounds.pattern} characters")
    else:
        try:
            pattern(value)
        except ValueError as error:
            inner.fault(wrong, "value", f"`value` is no regular expression (RE2): {error}")


def transform(fields: Fields, name: str, depends_on: tuple[str, ...], bounds: Bounds) -> Transform:
    wrong = Code.INVALID_TRANSFORM
    found: dict[str, Value] = {}
    for key in fields.typed("object", dict, wrong) or {}:
        inner = Fields(fields.given["object"], (*fields.path, "object"), fields.faults).inner(key)
        if inner is not None:
            found[key] = value_from(inner)
        elif fields.given["object"][key] is None:
            fields.faults.add(wrong, (*fields.path, "object", key), "a value of a transform is {from, pointer?}")
    merged = tuple(value_from(inner) for inner in fields.objects("merge"))
    if fields.has("object") == fields.has("merge"):
        place = "merge" if fields.has("merge") else "object"
        fields.fault(wrong, place, "a transform has either `object` or `merge`, and it must not be empty")
    return Transform(id=name, depends_on=depends_on, object=found or None, merge=merged)


def value_from(inner: Fields) -> Value:
    found = Value(
        from_=inner.text("from", required="name the node that the value comes from"),
        pointer=pointed(inner, "pointer"),
    )
    inner.close()
    return found


def pointed(fields: Fields, name: str, read: Callable[[str], Any] = pointer) -> str:
    given = fields.text(name)
    try:
        read(given)
    except ValueError as error:
        fields.fault(Code.INVALID_POINTER, name, f"`{name}` cannot be read: {error}")
        return ""
    return given


def fanout(fields: Fields, name: str, depends_on: tuple[str, ...], bounds: Bounds) -> Fanout:
    if fields.has("items_from") == fields.has("items_from_input"):
        place = "items_from_input" if fields.has("items_from") else "items_from"
        cure = "say where the items come from by either `items_from` (a node) or `items_from_input` (an input)"
        fields.fault(Code.INVALID_ITEMS_SOURCE, place, cure)
    return Fanout(
        id=name,
        depends_on=depends_on,
        subnode=subnode(fields, bounds),
        items_from=fields.text("items_from"),
        items_from_input=fields.text("items_from_input"),
        items_pointer=pointed(fields, "items_pointer"),
        items_path=pointed(fields, "items_path", either),
        max_parallelism=fields.whole("max_parallelism"),
    )


def subnode(fields: Fields, bounds: Bounds) -> Llm | Transform:
    nothing = Transform(id="")
    if not fields.has("subnode"):
        fields.any("subnode")
        cure = "`subnode` is missing: give the llm or transform.json node that each item runs through"
        fields.fault(Code.MISSING_SUBNODE, "subnode", cure)
        return nothing
    inner = fields.inner("subnode")
    if inner is None:
        return nothing
    found = node(inner, bounds) if inner.given.get("type") in ("llm", "transform.json", None, "") else None
    if isinstance(found, Llm | Transform):
        return found
    if inner.has("type"):
        inner.fault(Code.INVALID_SUBNODE, "type", "a subnode is an llm or a transform.json node")
    return nothing


Reader = Callable[[Fields, str, tuple[str, ...], Bounds], Node]
READERS: dict[str, Reader] = {
    "llm": llm,
    "join.all": join_all,
    "join.any": join_any,
    "join.collect": join_collect,
    "transform.json": transform,
}
assert {*READERS, "map.fanout"} == {*get_args(NodeType)}

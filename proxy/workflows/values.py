"""What nodes give, and what is made of it: plain JSON values in, plain JSON values out.

The value of an llm node is the whole response; what text there is in it is `text_of`. Values that a workflow makes
are bound in size and depth, since values of values could double with each node.
Where the sources are silent: JSON that a model wrote between code fences is read; what is merged must be objects.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from proxy.workflows.faults import Broken, Cause
from proxy.workflows.paths import Missing, Steps, either, pointer, walk
from proxy.workflows.spec import ITEM, Bounds, Fanout, Llm, Node, Output, Source, Transform

DEPTH = 200
FENCE = "```"
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_OTHER = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_encode = msgspec.json.Encoder().encode


class Scope(Struct, frozen=True, kw_only=True):
    """What a node can see: the nodes of its workflow, values of those that have one, the run's inputs, its item."""

    nodes: Mapping[str, Node]
    values: Mapping[str, Any]
    inputs: Mapping[str, Any]
    item: tuple[Any] | None = None
    """In a fan-out's subnode: the item, which may be null."""
    bounds: Bounds = Bounds()


class Digest(Struct, frozen=True):
    """Size and SHA-256 of a value's compact JSON."""

    bytes: int
    sha256: str


def packed(value: Any, bounds: Bounds) -> bytes:
    """Compact JSON of a value, its fields as they came. Raises `Broken` if it is too large or too deep."""
    try:
        json = _encode(value)
    except RecursionError:
        raise Broken(Cause.VALUE_TOO_LARGE, f"The value is nested deeper than {DEPTH} levels.") from None
    if len(json) > bounds.value_bytes:
        raise Broken(Cause.VALUE_TOO_LARGE, f"The value is larger than {bounds.value_bytes} bytes of JSON.")
    if json.count(b"[") + json.count(b"{") > DEPTH and depth(json) > DEPTH:
        raise Broken(Cause.VALUE_TOO_LARGE, f"The value is nested deeper than {DEPTH} levels.")
    return json


def depth(json: bytes) -> int:
    """How deep arrays and objects are nested."""
    steps = _STRINGS.sub(b"", json).translate(_STEPS, _OTHER)
    return max(accumulate(memoryview(steps).cast("b")), default=0)


def bounded(values: Iterable[Any], bounds: Bounds) -> None:
    """Raises `Broken` if the values are too large together; looks at no more of them than need be."""
    total = 0
    for value in values:
        total += len(packed(value, bounds))
        if total > bounds.value_bytes:
            raise Broken(Cause.VALUE_TOO_LARGE, f"The value is larger than {bounds.value_bytes} bytes of JSON.")


def digest(json: bytes) -> Digest:
    return Digest(len(json), hashlib.sha256(json).hexdigest())


def text_of(value: Any) -> str:
    """The assistant's text in the response of a model."""
    return "".join(
        part["text"]
        for message in _dicts(value, "output")
        if message.get("role") == "assistant"
        for part in _dicts(message, "content")
        if part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _dicts(value: Any, name: str) -> list[dict[str, Any]]:
    found = value.get(name) if isinstance(value, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def shown(value: Any, bounds: Bounds) -> str:
    """A value in a text: a text as it is, all else as compact JSON."""
    return value if isinstance(value, str) else packed(value, bounds).decode()


def read(source: Source, scope: Scope) -> Any:
    """What a source points at. Raises `Broken` if there is nothing."""
    if source.from_ == ITEM and scope.item is not None:
        return stepped(scope.item[0], pointer(source.pointer), "the item")
    return stepped(scope.values[source.from_], pointer(source.pointer), f"node `{source.from_}`")


def stepped(value: Any, steps: Steps, name: str) -> Any:
    try:
        return walk(value, steps)
    except Missing as error:
        raise Broken(Cause.MISSING_VALUE, f"In the value of {name}, {error}.") from None


def transformed(node: Transform, scope: Scope) -> dict[str, Any]:
    """The object of a transform; of objects that are merged, later ones win."""
    if node.object is not None:
        made = {key: read(value, scope) for key, value in node.object.items()}
        bounded(made.values(), scope.bounds)
        return made
    merged: dict[str, Any] = {}
    for source in node.merge:
        part = read(source, scope)
        if not isinstance(part, dict):
            reason = f"Only objects can be merged; what `{source.from_}` gives at `{source.pointer}` is none."
            raise Broken(Cause.INVALID_VALUE, reason)
        merged |= part
    bounded(merged.values(), scope.bounds)
    return merged


def joined(branches: Iterable[str], scope: Scope) -> dict[str, Any]:
    """The value of a join over the branches that it passes on."""
    made = {name: scope.values[name] for name in branches}
    bounded(made.values(), scope.bounds)
    return made


def items_of(node: Fanout, scope: Scope) -> list[Any]:
    """The items of a fan-out. Raises `Broken` if they are no array, or too many."""
    name = f"node `{node.items_from}`" if node.items_from else f"input `{node.items_from_input}`"
    value = scope.values[node.items_from] if node.items_from else scope.inputs[node.items_from_input]
    if node.items_pointer:
        value = stepped(value, pointer(node.items_pointer), name)
    elif isinstance(scope.nodes.get(node.items_from), Llm):
        value = text_of(value)
    if isinstance(value, str):
        value = parsed(value, f"The items must be a JSON array, but {name} gave a text that is no JSON.", scope.bounds)
    value = stepped(value, either(node.items_path), name)
    if not isinstance(value, list):
        raise Broken(Cause.INVALID_ITEMS, f"The items must be an array, but {name} gave {_kind(value)}.")
    if len(value) > scope.bounds.items:
        reason = f"A fan-out takes at most {scope.bounds.items} items, but {name} gave {len(value)}."
        raise Broken(Cause.TOO_MANY_ITEMS, reason)
    return value


def parsed(text: str, otherwise: str, bounds: Bounds) -> Any:
    """The JSON in a text. Raises `Broken` with the message `otherwise`."""
    try:
        value = msgspec.json.decode(unfenced(text))
        packed(value, bounds)
    except (msgspec.MsgspecError, RecursionError, ValueError, Broken):
        raise Broken(Cause.INVALID_ITEMS, otherwise) from None
    return value


def unfenced(text: str) -> str:
    """What stands between code fences, if the whole text does; else the text."""
    inner = text.strip()
    if not (inner.startswith(FENCE) and inner.endswith(FENCE)):
        return text
    _, _, rest = inner.partition("\n")
    return rest.removesuffix(FENCE)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def unfolded(node: Transform, items: Iterable[Any], scope: Scope) -> list[dict[str, Any]]:
    """What a transform makes of each item of a fan-out."""
    made = (transformed(node, replace(scope, item=(item,))) for item in items)
    found, total = [], 0
    for value in made:
        found.append(value)
        total += len(packed(value, scope.bounds))
        if total > scope.bounds.value_bytes:
            raise Broken(Cause.VALUE_TOO_LARGE, f"The value is larger than {scope.bounds.value_bytes} bytes of JSON.")
    return found


def collected(results: list[Any], bounds: Bounds) -> dict[str, Any]:
    """The value of a fan-out."""
    bounded(results, bounds)
    return {"results": results}


def outputs_of(outputs: Iterable[Output], scope: Scope) -> dict[str, Any]:
    """The outputs of a run all of whose nodes have ended."""
    made = {}
    for output in outputs:
        try:
            made[output.name] = read(output, scope)
        except Broken as broken:
            raise Broken(Cause.MISSING_VALUE, f"Output `{output.name}` is missing. {broken.fault.message}") from None
    bounded(made.values(), scope.bounds)
    return made


def spoken(outputs: Iterable[Output], scope: Scope) -> str:
    """All outputs of a run as one text, for the history of a session: a line each, and of responses their text."""
    return "\n".join(_spoken(output, scope) for output in outputs)


def _spoken(output: Output, scope: Scope) -> str:
    value = read(output, scope)
    if not output.pointer and isinstance(scope.nodes.get(output.from_), Llm):
        return text_of(value)
    return shown(value, scope.bounds)


def lookup(name: str, keys: tuple[str, ...], scope: Scope) -> str:
    """What a placeholder stands for. Raises `Broken` if there is no such thing."""
    if name == ITEM and scope.item is not None:
        return _filling("the item", scope.item[0], keys, scope)
    if name in scope.values:
        value = scope.values[name]
        if not keys and isinstance(scope.nodes.get(name), Llm):
            return text_of(value)
        return _filling(f"node `{name}`", value, keys, scope)
    if name in scope.inputs:
        return _filling(f"input `{name}`", scope.inputs[name], keys, scope)
    raise Broken(Cause.MISSING_VALUE, f"There is no input `{name}`.")


def _filling(name: str, value: Any, keys: tuple[str, ...], scope: Scope) -> str:
    return shown(stepped(value, keys, name), scope.bounds)

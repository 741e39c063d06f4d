"""JSON schemas that specs bring along: whether they can be used, and whether an answer fits one.

They are strangers' work, so what they cost is bound: patterns are RE2's, whose cost grows with the text alone; nothing
is fetched, for a `$ref` stays within its schema; and there is an end to the keywords that are looked at for one answer.
Draft 7 where `$schema` names it or an older one, else 2020-12. A `$schema` or `$id` further down counts for nothing,
`format` is not checked, and `unevaluatedProperties` is not taken beside `patternProperties`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import msgspec
from jsonschema import Draft7Validator, Draft202012Validator, ValidationError  # type: ignore[import-untyped]
from jsonschema.validators import extend  # type: ignore[import-untyped]
from referencing import Registry
from referencing.exceptions import Unresolvable

from proxy.workflows.conditions import pattern
from proxy.workflows.issues import Code, Faults, Path, jsonpath, short

Schema = dict[str, Any]
Check = Callable[[Any, Any, Any, Any], Iterator[ValidationError]]

MOST = 50_000
"""Keywords, or as much work, that one answer may take; some tenths of a second."""
REFERRED = 8
"""Following a reference takes as much work as so many other keywords."""
MOST_FAULTS = 20
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_plain = msgspec.json.Encoder().encode
_keyed = msgspec.json.Encoder(order="sorted").encode


class Unusable(Exception):
    """The schema, or the answer, is more than can be looked at; the text says why."""


class Meter:
    """What may still be spent on one answer."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise Unusable("it takes too long to look at")


_meter: ContextVar[Meter] = ContextVar("meter")


def size(schema: Schema) -> int:
    """How many objects there are in a schema, itself one of them."""
    return sum(1 for _ in _objects(schema, ()))


def examine(schema: Schema, path: Path, faults: Faults) -> None:
    """Notes what keeps a schema from being used; `path` is its place."""
    try:
        for place, reason in _wrong_in(_plain(schema)):
            faults.add(Code.INVALID_SCHEMA, (*path, *place), reason)
    except RecursionError:
        faults.add(Code.TOO_LARGE, path, "the schema is nested too deep; make it flatter")


@lru_cache(maxsize=256)
def _wrong_in(json: bytes) -> tuple[tuple[Path, str], ...]:
    schema: Schema = msgspec.json.decode(json)
    found = [((*place, name), reason) for place, each in _objects(schema, ()) for name, reason in _unusable(each)]
    for error in islice(Draft7Validator(_META[_base(schema)]).iter_errors(schema), MOST_FAULTS):
        reason = f"this is no JSON schema: `{error.validator}` of the schema of schemas does not allow it"
        found.append((tuple(error.absolute_path), reason))
    return tuple(found)


def mismatch(schema: Schema, value: Any) -> str:
    """Where and by which keyword a value breaks a schema, "" if it fits. Raises `Unusable`."""
    try:
        error = _first_error(schema, value)
    except RecursionError:
        raise Unusable("it is nested too deep, or refers to itself in a circle") from None
    except Unresolvable:
        raise Unusable("it refers to a part that is not there") from None
    except (ArithmeticError, ValueError, TypeError, AttributeError):
        raise Unusable("it has values that cannot be compared") from None
    if error is None:
        return ""
    return f"at {short(jsonpath(tuple(error.absolute_path)))} it breaks `{error.validator or 'false'}`"


def _first_error(schema: Schema, value: Any) -> ValidationError | None:
    token = _meter.set(Meter(MOST))
    try:
        return next(_METERED[_base(schema)](_stripped(schema), registry=Registry()).iter_errors(value), None)
    finally:
        _meter.reset(token)


def _base(schema: Schema) -> Any:
    return Draft7Validator if "draft-0" in str(schema.get("$schema", "")) else Draft202012Validator


def _objects(value: Any, path: Path) -> Iterator[tuple[Path, Schema]]:
    """Every object within a schema, be it a schema itself or not: a reference may lead to any."""
    waiting = [(path, value)]
    while waiting:
        place, each = waiting.pop()
        if isinstance(each, dict):
            yield place, each
            waiting += [((*place, name), inner) for name, inner in each.items()]
        elif isinstance(each, list):
            waiting += [((*place, index), inner) for index, inner in enumerate(each)]


def _unusable(schema: Schema) -> Iterator[tuple[str, str]]:
    """Keywords of one schema that cannot be honoured, and why."""
    for name in REFERENCES:
        target = schema.get(name)
        if isinstance(target, str) and not target.startswith("#"):
            yield name, f"`{name}` must begin with #: nothing outside of the schema is read"
    patterns = schema.get("patternProperties")
    named = patterns if isinstance(patterns, dict) else {}
    if named and "unevaluatedProperties" in schema:
        yield "unevaluatedProperties", "it is not taken beside `patternProperties`; use `additionalProperties`"
    if isinstance(own := schema.get("pattern"), str) and (reason := _unreadable(own)):
        yield "pattern", reason
    for each in named:
        if reason := _unreadable(each):
            yield "patternProperties", reason


def _unreadable(text: str) -> str:
    try:
        pattern(text)
    except ValueError as error:
        return f"`{short(text)}` is no regular expression (RE2): {error}"
    return ""


def _stripped(value: Any) -> Any:
    """Without what would lead away from this schema and its draft."""
    if isinstance(value, dict):
        lost = [name for name in ("$schema", "$id") if isinstance(value.get(name), str)]
        return {name: _stripped(inner) for name, inner in value.items() if name not in lost}
    return [_stripped(each) for each in value] if isinstance(value, list) else value


def _found(text: str, subject: str) -> bool:
    _meter.get().spend(1 + len(subject) // 64)
    return pattern(text).search(subject) is not None


def _matches(validator: Any, text: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _found(text, instance):
        yield ValidationError("pattern")


def _by_pattern(validator: Any, patterns: Schema, instance: Any, schema: Any) -> Iterator[ValidationError]:
    for text, inner in patterns.items() if isinstance(instance, dict) else ():
        for name, value in instance.items():
            if _found(text, name):
                yield from validator.descend(value, inner, path=name, schema_path=text)


def _additional(validator: Any, inner: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items() if isinstance(instance, dict) else ():
        if name not in known and not any(_found(text, name) for text in patterns):
            if inner is False:
                yield ValidationError("additionalProperties", path=(name,))
            else:
                yield from validator.descend(value, inner, path=name)


def _unique(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if wanted and isinstance(instance, list) and len({_key(each) for each in instance}) < len(instance):
        yield ValidationError("uniqueItems")


def _one_of(validator: Any, values: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    found = _key(instance)
    if all(_key(each) != found for each in values):
        yield ValidationError("enum")


def _constant(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if _key(value) != _key(instance):
        yield ValidationError("const")


def _key(value: Any) -> bytes:
    """The same bytes for what is equal in JSON."""
    key: bytes = _keyed(_numbered(value))
    _meter.get().spend(1 + len(key) // 64)
    return key


def _numbered(value: Any) -> Any:
    """With 1.0 as 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _numbered(each) for name, each in value.items()}
    return [_numbered(each) for each in value] if isinstance(value, list) else value


def _metered(
    check: Check, price: int, validator: Any, wanted: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    meter = _meter.get()
    meter.spend(price + (len(wanted) if isinstance(wanted, dict | list) else 0))
    for error in check(validator, wanted, instance, schema) or ():
        meter.spend(len(error.message) // 64)  # some tell the whole value
        yield error


def _drafted(base: Any) -> Any:
    own: dict[str, Check] = {
        "pattern": _matches,
        "patternProperties": _by_pattern,
        "additionalProperties": _additional,
        "uniqueItems": _unique,
        "enum": _one_of,
        "const": _constant,
    }
    checks = {**base.VALIDATORS, **own}
    prices = dict.fromkeys(checks, 1) | dict.fromkeys(REFERENCES, REFERRED)
    return extend(base, {name: partial(_metered, check, prices[name]) for name, check in checks.items()})


_METERED = {base: _drafted(base) for base in (Draft7Validator, Draft202012Validator)}


def _meta() -> Schema:
    """What a schema of 2020-12 has to be like, in draft 7: its own says the same at ten times the cost."""
    known: Schema = Draft7Validator.META_SCHEMA
    whole, several = {"$ref": "#"}, {"type": "object", "additionalProperties": {"$ref": "#"}}
    newer = {
        "$defs": several,
        "dependentSchemas": several,
        "dependentRequired": {"type": "object", "additionalProperties": {"$ref": "#/definitions/stringArray"}},
        "items": whole,
        "prefixItems": {"$ref": "#/definitions/schemaArray"},
        "unevaluatedItems": whole,
        "unevaluatedProperties": whole,
        "minContains": {"$ref": "#/definitions/nonNegativeInteger"},
        "maxContains": {"$ref": "#/definitions/nonNegativeInteger"},
    }
    return {**known, "properties": {**known["properties"], **newer}}


_META: dict[Any, Schema] = {Draft7Validator: Draft7Validator.META_SCHEMA, Draft202012Validator: _meta()}

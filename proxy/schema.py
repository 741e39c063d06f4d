"""Fits plain values into structs, and says in our words where they do not fit.

For whoever reads what a user wrote: the loading of the config, the adapters' options, and the bodies of requests.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec
from msgspec import inspect

from proxy.errors import ConfigError

T = TypeVar("T")

FAULT = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?", re.DOTALL)
FIELD = re.compile(r"Object (?P<fault>contains unknown|missing required) field `(?P<name>.*)`", re.DOTALL)
ENUM = re.compile(r"Invalid enum value (?P<value>.*)", re.DOTALL)
STEP = re.compile(r"\.(?P<field>[^.\[]+)|\[[^\]]*\]")
WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


def fit(value: object, shape: type[T], place: str) -> T:
    """`value` as a `shape`, where "8000" will do for a number and "true" for a bool.

    `place` says where the value stands, as in `$.agents.gpt`. Raises `ConfigError`, which names the exact place.
    """
    try:
        return msgspec.convert(value, shape, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_explained(str(error), shape, place)) from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: empty if no known name is like it."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def choices(shape: type, path: str) -> list[str]:
    """The words that may stand at a path like `.agents.gpt.adapter` or `[0].mode`; none where any may."""
    return list(_words(_kinds_at(inspect.type_info(shape), path)))


def listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _explained(message: str, shape: type, place: str) -> str:
    match = FAULT.fullmatch(message)
    what, path = (match["what"], match["path"] or "") if match else (message, "")
    kinds = list(_kinds_at(inspect.type_info(shape), path))
    if (field := FIELD.fullmatch(what)) is None:
        what = _value_fault(what, kinds)
    elif field["fault"] == "missing required":
        what = f"missing field `{field['name']}`"
    else:
        known = [each.encode_name for kind in kinds if isinstance(kind, inspect.StructType) for each in kind.fields]
        what = f"unknown field `{field['name']}`{did_you_mean(field['name'], known)}"
    return f"{what} - at `{place}{path}`"


def _value_fault(what: str, kinds: list[inspect.Type]) -> str:
    if (enum := ENUM.fullmatch(what)) is not None:
        return f"{enum['value']} is not one of {listed(_words(kinds))}"
    plain = re.sub(r"`([a-z| ]+)`", lambda types: " or ".join(WORDS.get(t, t) for t in types[1].split(" | ")), what)
    return plain[:1].lower() + plain[1:]


def _words(kinds: Iterable[inspect.Type]) -> Iterator[str]:
    for kind in kinds:
        if isinstance(kind, inspect.LiteralType):
            yield from map(str, kind.values)
        elif isinstance(kind, inspect.EnumType):
            yield from (str(member.value) for member in kind.cls)


def _kinds_at(root: inspect.Type, path: str) -> Iterator[inspect.Type]:
    """What may stand at a path like `.server.api_keys[0]`: several kinds in a union."""
    kinds = list(_alternatives(root))
    for step in STEP.finditer(path):
        kinds = [inner for kind in kinds for found in _inside(kind, step["field"]) for inner in _alternatives(found)]
    yield from kinds


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    match kind:
        case inspect.Metadata(type=inner):
            yield from _alternatives(inner)
        case inspect.UnionType(types=types):
            for each in types:
                yield from _alternatives(each)
        case _:
            yield kind


def _inside(kind: inspect.Type, field: str | None) -> Iterator[inspect.Type]:
    match kind:
        case inspect.StructType(fields=fields):
            yield from (each.type for each in fields if each.encode_name == field)
        case inspect.DictType(value_type=inner):
            yield inner
        case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner):
            yield inner

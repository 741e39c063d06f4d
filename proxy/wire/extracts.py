"""Values deep inside of a record, by paths as `values.messages[-1].content`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

STEP = re.compile(r"\.([^.\[\]]+)|\[(-?\d{1,9})\]")
ROOTS = ("config", "interrupts", "metadata", "values")
"""The fields that a path may begin with."""
LONGEST = 500
"""Characters of a path."""

Path = tuple[str | int, ...]
"""Names of fields and numbers of elements, from the outside in."""


def path_of(text: str) -> Path:
    """Raises `ValueError` for what is no path."""
    steps: list[str | int] = []
    rest = f".{text}"
    end = 0
    while end < len(rest) <= LONGEST:
        step = STEP.match(rest, end)
        if step is None:
            break
        steps.append(int(step[2]) if step[1] is None else step[1])
        end = step.end()
    if end < len(rest):
        raise ValueError(f"`{text[:100]}` is no path; one is written as `values.messages[-1].content`")
    if steps[0] not in ROOTS:
        raise ValueError(f"`{text[:100]}` begins with none of {', '.join(ROOTS)}")
    return tuple(steps)


def extracted(record: Struct, paths: Mapping[str, Path]) -> dict[str, Any]:
    """What stands there, by the names of the paths; null where there is nothing."""
    fields: dict[str | int, Any] = {}
    for field in msgspec.structs.fields(record):
        value = getattr(record, field.name)
        if value is not UNSET and any(path[0] == field.encode_name for path in paths.values()):
            fields[field.encode_name] = _plain(value)
    return {name: _at(fields, path) for name, path in paths.items()}


def narrowed(values: Raw, keys: Iterable[str]) -> dict[str, Raw]:
    """Only these keys of a state."""
    try:
        known = msgspec.json.decode(values, type=dict[str, Raw])
    except msgspec.ValidationError:
        return {}
    wanted = frozenset(keys)
    return {key: value for key, value in known.items() if key in wanted}


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _at(value: Any, path: Path) -> Any:
    for step in path:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value

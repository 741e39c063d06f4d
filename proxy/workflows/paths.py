"""Ways into a JSON value: RFC 6901 pointers, and as much of JSONPath as names one place (`$`, `.name`, `['name']`,
`[n]`)."""

from __future__ import annotations

import re
from typing import Any

LONGEST = 1000
"""Characters of a pointer or path."""

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_TILDE = re.compile(r"~(?![01])")
_STEP = re.compile(
    r"\.(?P<name>[A-Za-z_\u0080-\U0010ffff][\w\u0080-\U0010ffff-]*)"
    r"|\[(?P<index>0|[1-9][0-9]{0,8})\]"
    r"|\['(?P<quoted>(?:[^'\\]|\\['\\])*)'\]"
    r'|\["(?P<double>(?:[^"\\]|\\["\\])*)"\]',
    re.ASCII,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

Steps = tuple[str | int, ...]


class Missing(Exception):
    """There is nothing at that place; the text says how far the way led."""


def pointer(text: str) -> Steps:
    """The steps of a pointer. Raises `ValueError`, whose text says what it must be like."""
    if len(text) > LONGEST:
        raise ValueError(f"a pointer has at most {LONGEST} characters")
    if not text:
        return ()
    if not text.startswith("/"):
        raise ValueError("a pointer is empty or starts with /, as in /output/0/content/0/text")
    if _TILDE.search(text):
        raise ValueError("in a pointer ~ is written ~0, and / within a name ~1")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))


def path(text: str) -> Steps:
    """The steps of a JSONPath. Raises `ValueError`, whose text says what it must be like."""
    if len(text) > LONGEST:
        raise ValueError(f"a path has at most {LONGEST} characters")
    if not text.startswith("$"):
        raise ValueError("a path starts with $, as in $.output[0].content[0].text")
    steps: list[str | int] = []
    at = 1
    while at < len(text):
        if (match := _STEP.match(text, at)) is None:
            raise ValueError("a path is made of $, .name, ['name'] and [0] alone")
        steps.append(_read(match))
        at = match.end()
    return tuple(steps)


def _read(match: re.Match[str]) -> str | int:
    if match["index"] is not None:
        return int(match["index"])
    if match["name"] is not None:
        return match["name"]
    return _ESCAPED.sub(r"\1", match["double"] if match["quoted"] is None else match["quoted"])


def either(text: str) -> Steps:
    """The steps of a pointer or, if it starts with $, of a JSONPath."""
    return path(text) if text.startswith("$") else pointer(text)


def walk(value: Any, steps: Steps) -> Any:
    """What stands at the end of the steps. Raises `Missing`."""
    for done, step in enumerate(steps):
        if isinstance(value, dict) and isinstance(step, str) and step in value:
            value = value[step]
        elif isinstance(value, list) and (index := _index(step)) is not None and index < len(value):
            value = value[index]
        else:
            raise Missing(_told(value, steps[:done], step))
    return value


def _index(step: str | int) -> int | None:
    if isinstance(step, int):
        return step
    return int(step) if _INDEX.fullmatch(step) else None


def _told(value: Any, way: Steps, step: str | int) -> str:
    place = "".join(f"/{each}" for each in way)[-200:] or "the root"
    if isinstance(value, dict):
        return f"the object at {place} has no `{str(step)[:64]}`"
    if isinstance(value, list):
        return f"the array at {place} has {len(value)} elements and no `{str(step)[:64]}`"
    return f"what stands at {place} is neither an object nor an array, so it has no `{str(step)[:64]}`"

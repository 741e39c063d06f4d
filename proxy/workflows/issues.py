"""What is wrong with a workflow: all of it at once, each fault with its place and its cure."""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec import Struct

from proxy.errors import BadRequest

Path = tuple[str | int, ...]
MOST = 500
"""Faults that are told of at once."""
FEW = 20
LONGEST = 64
_PLAIN = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class Code(StrEnum):
    """The kinds of faults; the names are part of the interface."""

    INVALID_KIND = "invalid_kind"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    INVALID_TYPE = "invalid_type"
    INVALID_VALUE = "invalid_value"
    INVALID_NODE_ID = "invalid_node_id"
    DUPLICATE_NODE_ID = "duplicate_node_id"
    UNKNOWN_NODE_TYPE = "unknown_node_type"
    UNKNOWN_NODE = "unknown_node"
    SELF_DEPENDENCY = "self_dependency"
    CYCLE = "cycle"
    MISSING_MODEL = "missing_model"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_TOOL = "unknown_tool"
    DUPLICATE_OUTPUT = "duplicate_output"
    INVALID_POINTER = "invalid_pointer"
    INVALID_CONDITION = "invalid_condition"
    INVALID_LIMIT = "invalid_limit"
    INVALID_ITEMS_SOURCE = "invalid_items_source"
    MISSING_SUBNODE = "missing_subnode"
    INVALID_SUBNODE = "invalid_subnode"
    INVALID_TRANSFORM = "invalid_transform"
    DUPLICATE_INPUT = "duplicate_input"
    INVALID_INPUT_TYPE = "invalid_input_type"
    INVALID_DEFAULT = "invalid_default"
    INVALID_SCHEMA = "invalid_schema"
    TOO_LARGE = "too_large"
    STRICT_ADDITIONAL_PROPERTIES = "strict_additional_properties"
    STRICT_REQUIRED = "strict_required"
    UNUSED_INPUT = "unused_input"
    UNUSED_NODE = "unused_node"
    SHADOWED_INPUT = "shadowed_input"


class Issue(Struct, frozen=True):
    """One fault: `path` is JSONPath from `$`, the root of the spec."""

    code: str
    path: str
    message: str


class InvalidWorkflow(BadRequest):
    """The workflow has faults."""

    def __init__(self, issues: tuple[Issue, ...]) -> None:
        more = f", and {len(issues) - 1} more" if len(issues) > 1 else ""
        super().__init__(f"{issues[0].path}: {issues[0].message}{more}", param=issues[0].path)
        self.issues = issues


class Faults:
    """Collects what is found wrong while a document is read."""

    def __init__(self) -> None:
        self._found: list[tuple[Path, Code, str]] = []

    def add(self, code: Code, path: Path, message: str) -> None:
        if not self.full:
            self._found.append((path, code, message))

    @property
    def full(self) -> bool:
        """Whether more would not be told: who looks for many can stop."""
        return len(self._found) >= MOST

    @property
    def few(self) -> bool:
        """Whether there is still time to look for names that were meant, which takes long."""
        return len(self._found) < FEW

    def __bool__(self) -> bool:
        return bool(self._found)

    def listed(self, document: object) -> tuple[Issue, ...]:
        """In the order of the document, whenever they were found."""
        places = Places(document)
        found = sorted(self._found, key=lambda fault: places.of(fault[0]))
        return tuple(Issue(code.value, jsonpath(path), message) for path, code, message in found)


class Places:
    """Where things stand in a document; what is missing stands before all that is there."""

    def __init__(self, document: object) -> None:
        self._document = document
        self._orders: dict[int, dict[str, int]] = {}

    def of(self, path: Path) -> tuple[int, ...]:
        place: list[int] = []
        value = self._document
        for step in path:
            if isinstance(value, dict) and isinstance(step, str):
                place.append(self._order(value).get(step, -1))
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int):
                place.append(step)
                value = value[step] if step < len(value) else None
        return tuple(place)

    def _order(self, value: dict[str, object]) -> dict[str, int]:
        if id(value) not in self._orders:
            self._orders[id(value)] = {key: index for index, key in enumerate(value)}
        return self._orders[id(value)]


def jsonpath(path: Path) -> str:
    """`("nodes", 0, "id")` as `$.nodes[0].id`."""
    return "$" + "".join(map(_step, path))


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if _PLAIN.fullmatch(step) and len(step) <= LONGEST:
        return f".{step}"
    return "['" + short(step).replace("\\", "\\\\").replace("'", "\\'") + "']"


def short(text: str) -> str:
    """A name of a caller's for a message: on one line, and no longer than it can be read."""
    cut = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    return "".join(each if each.isprintable() else "?" for each in cut)

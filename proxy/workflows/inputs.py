"""What a run is given, against what its workflow declares and uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from proxy.errors import BadRequest
from proxy.workflows.graph import inputs_named
from proxy.workflows.issues import short
from proxy.workflows.spec import InputType, Workflow

INPUT_TYPES: tuple[InputType, ...] = get_args(InputType)
_CHECKS: dict[InputType, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "json": lambda value: True,
}


class InvalidInput(BadRequest):
    """An input is missing or of a wrong type; `faults` has the name of each, and what is wrong."""

    def __init__(self, faults: tuple[tuple[str, str], ...]) -> None:
        super().__init__(" ".join(text for _, text in faults[:5]), param=f"input.{short(faults[0][0])}")
        self.faults = faults


def fits(value: Any, kind: InputType) -> bool:
    return _CHECKS[kind](value)


def resolved(workflow: Workflow, given: Mapping[str, Any]) -> dict[str, Any]:
    """All inputs of a run, with defaults where nothing was given.

    What the workflow does not declare may be given too. Raises `InvalidInput`.
    """
    found, faults = dict(given), dict[str, str]()
    for declared in workflow.inputs:
        name, shown = declared.name, short(declared.name)
        if name not in found and declared.default is not None:
            found[name] = declared.default
        elif name not in found and declared.required:
            faults[name] = f"Input `{shown}` is required: give it as `input.{shown}`."
        elif name in found and not fits(found[name], declared.type):
            faults[name] = f"Input `{shown}` must be of type {declared.type}."
    nodes = {each.id for each in workflow.nodes}
    for node in workflow.nodes:
        for name in inputs_named(node, nodes):
            if name not in found:
                reason = f"Input `{short(name)}` is used by node `{node.id}`, but was not given and has no default."
                faults.setdefault(name, reason)
    if faults:
        raise InvalidInput(tuple(faults.items()))
    return found

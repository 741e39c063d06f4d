"""Conditions on the branches of a join.

`matches` takes RE2's regular expressions, whose cost grows with the length of the text alone; of a text, the first
32,768 characters are searched. A path that leads nowhere satisfies no condition. `exists` means present and not null.
`node_status` compares the word `succeeded`, since only branches that succeeded are offered to a join.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2  # type: ignore[import-untyped]

from proxy.workflows.paths import Missing, path, walk
from proxy.workflows.spec import Condition

LONGEST = 32_768
"""Characters of a text that are searched."""
PROGRAM = 1000
"""Instructions of a regular expression, once compiled."""


@lru_cache(maxsize=256)
def pattern(text: str) -> Any:
    """The regular expression. Raises `ValueError`, whose text says what is wrong with it."""
    options = re2.Options()
    options.log_errors = False
    try:
        found = re2.compile(text, options)
    except re2.error as error:
        detail = error.args[0] if error.args else "it cannot be read"
        raise ValueError(detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)) from None
    if found.programsize > PROGRAM:
        raise ValueError("it is too large; use fewer or smaller repetitions")
    return found


def holds(condition: Condition | None, value: Any, status: str = "succeeded") -> bool:
    """Whether a branch that ended so is accepted; without a condition each is."""
    if condition is None:
        return True
    try:
        found = status if condition.source == "node_status" else walk(value, path(condition.path))
    except Missing:
        return False
    match condition.op:
        case "exists":
            return found is not None
        case "equals":
            return equal(found, condition.value)
        case "matches":
            text = found[:LONGEST] if isinstance(found, str) else None
            return text is not None and pattern(str(condition.value)).search(text) is not None


def equal(one: Any, other: Any) -> bool:
    """As in JSON, where true is not 1, and 1 is 1.0; objects and arrays are equal to no scalar."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)

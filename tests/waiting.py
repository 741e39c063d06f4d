"""Waiting for what other processes do, and tell nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0


def eventually(condition: Callable[[], Any], what: str, *, within: float = PATIENCE) -> Any:
    """What the condition gives once that is neither false nor None. Fails after so many seconds, naming what did not
    come."""
    end = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.01)
    return found

"""How far the model of an `agentic` node may go by itself, in one attempt at one task."""

from __future__ import annotations

from proxy.workflows.faults import Cause, Fault
from proxy.workflows.spec import Mode

MOST_CALLS = 8
"""Calls of the model, those that ask the user and those before a restart included."""
MOST_TOOLS = 16
"""Tools that one of them asks for."""


def overrun(mode: Mode, calls: int, tools: int) -> Fault | None:
    """Why a node fails whose model was called so often, and asks for so many tools now; None if it may."""
    if mode != "agentic":
        return None
    if calls > MOST_CALLS:
        return _fault(f"The model was asked more than {MOST_CALLS} times in a row.")
    if tools > MOST_TOOLS:
        return _fault(f"The model asked for more than {MOST_TOOLS} tools at once.")
    return None


def _fault(message: str) -> Fault:
    return Fault(code=Cause.TOO_MANY_CALLS.value, message=message)

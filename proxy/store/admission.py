"""How a new run is admitted: the limit of its tenant, its place on its thread, its idempotency key.

The rules that all backends share; each applies them within its own transaction.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from proxy.errors import Busy, Conflict, TooMany
from proxy.model import Run, RunStatus

R = TypeVar("R")
CANCELLED_KEY = ""
"""Stands for the run of an idempotency key that was cancelled before there was one."""
Others = Sequence[tuple[RunStatus, float | None, str]]
"""Runs of a thread that have not ended, by status, start and id, the oldest first."""


def is_taken(others: Others) -> bool:
    """Whether a new run has to wait for one of these."""
    now = time.time()
    return any(status is RunStatus.RUNNING or (start or 0.0) <= now for status, start, _ in others)


def placed(run: Run, others: Others) -> Run:
    """A run as its thread takes it. Raises `Busy`."""
    if run.choices.strategy == "reject" and others:
        other = others[0][2]
        raise Busy(f"The thread is busy with run {other}.", run_id=other)
    return msgspec.structs.replace(run, status=RunStatus.PENDING) if is_taken(others) else run


def check_room(taken: int, most: int) -> None:
    """Raises `TooMany` if a tenant has as many runs of an agent as it may have (0: no bound)."""
    if most and taken >= most:
        raise TooMany(f"{most} runs of this agent are under way.", retry_after=1)


def joined(known: R | None, *, same: bool) -> R:
    """The run that an idempotency key was used for before, of an agent or a workflow. Raises `Conflict` if it is gone
    (None), or was asked for something else (not `same`)."""
    if not same:
        raise Conflict("This idempotency key was used for another request.")
    if known is None:
        raise Conflict("The run that this idempotency key was used for has been deleted.")
    return known

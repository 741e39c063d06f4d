"""How many workflow runs a tenant may have under way at once."""

from __future__ import annotations

from collections import Counter

from proxy.errors import TooMany
from proxy.model import Idempotency
from proxy.workflow_model import WorkflowRun

LATER = 5.0
"""Seconds after which it is worth asking again: runs last."""

Key = tuple[str, str]
"""A tenant, and its idempotency key; "" for none."""


class Seats:
    """The runs that are under way here. `most` of 0 is no bound."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: dict[str, Key] = {}
        self._keys: Counter[Key] = Counter()
        self._counts: Counter[str] = Counter()

    def admit(self, run: WorkflowRun, idempotency: Idempotency | None) -> None:
        """Before a run is stored. Raises `TooMany`, unless a run of that idempotency key is under way already."""
        key = (run.tenant, idempotency.key if idempotency is not None else "")
        repeated = bool(key[1]) and self._keys[key] > 0
        if self._most and self._counts[run.tenant] >= self._most and not repeated:
            reason = f"There are {self._most} workflow runs under way already; let some end, or cancel some."
            raise TooMany(reason, retry_after=LATER)
        self.take(run, key[1])

    def take(self, run: WorkflowRun, name: str = "") -> None:
        """A run is under way, however many there are; `name` is its idempotency key."""
        key = self._taken[run.run_id] = (run.tenant, name)
        self._keys[key] += 1
        self._counts[run.tenant] += 1

    def leave(self, run_id: str) -> None:
        """It has ended, or was not made."""
        key = self._taken.pop(run_id)
        self._keys -= Counter([key])
        self._counts -= Counter([key[0]])

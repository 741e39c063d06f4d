"""One slot per thread: which run has it, and which wait for it or for their time."""

from __future__ import annotations

import time

import msgspec

from proxy.model import Run
from proxy.runs.order import Order
from proxy.runs.worker import Execution

Key = tuple[str, str]
"""Tenant and thread."""


def key_of(run: Run) -> Key:
    return run.tenant, run.thread_id


class Waiting(msgspec.Struct, frozen=True, eq=False):
    """A run that has not started yet."""

    execution: Execution
    order: Order


class Queues:
    """The runs of lasting threads that have not ended; hidden threads have one run each, and no queue."""

    def __init__(self) -> None:
        self._running: dict[Key, Execution] = {}
        self._waiting: dict[Key, dict[str, Waiting]] = {}

    @property
    def held(self) -> int:
        """Threads that have a run, or one that waits."""
        return len(self._running.keys() | self._waiting.keys())

    def take(self, execution: Execution) -> None:
        """The run has its thread's slot from now on."""
        self._running[key_of(execution.run)] = execution

    def add(self, waiting: Waiting) -> None:
        run = waiting.execution.run
        self._waiting.setdefault(key_of(run), {})[run.run_id] = waiting

    def others(self, run: Run) -> list[Execution]:
        """All runs of the same thread but this."""
        key = key_of(run)
        found = [waiting.execution for waiting in self._waiting.get(key, {}).values()]
        if (running := self._running.get(key)) is not None:
            found.append(running)
        return [execution for execution in found if execution.run.run_id != run.run_id]

    def waits(self, execution: Execution) -> bool:
        return execution.run.run_id in self._waiting.get(key_of(execution.run), {})

    def next(self, key: Key) -> Waiting | None:
        """Give the slot, if it is free, to the oldest run that is due, and return that."""
        queue = self._waiting.get(key, {})
        if key in self._running:
            return None
        now = time.time()
        due = (waiting for waiting in queue.values() if (waiting.execution.run.not_before or 0.0) <= now)
        waiting = min(due, key=lambda waiting: waiting.execution.run.run_id, default=None)
        if waiting is not None:
            self._drop(key, waiting.execution)
            self._running[key] = waiting.execution
        return waiting

    def leave(self, execution: Execution) -> None:
        """The run has ended, whether it had the slot or waited."""
        key = key_of(execution.run)
        if self._running.get(key) is execution:
            del self._running[key]
        self._drop(key, execution)

    def _drop(self, key: Key, execution: Execution) -> None:
        queue = self._waiting.get(key)
        if queue is not None:
            queue.pop(execution.run.run_id, None)
            if not queue:
                del self._waiting[key]

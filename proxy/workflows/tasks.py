"""The words of the scheduler: what can be started, and what it decides."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from proxy.workflows.faults import Fault
from proxy.workflows.prompts import Call


class NodeState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class RunState(StrEnum):
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


OPEN = frozenset({NodeState.PENDING, NodeState.RUNNING, NodeState.WAITING})
"""States of nodes that have not ended."""


class Task(Struct, frozen=True):
    """One question to a model: a node's, or that of one item of a fan-out; `attempt` counts from 1."""

    node: str
    item: int | None = None
    attempt: int = 1


class Start(Struct, frozen=True):
    """Ask this; then report `succeeded`, `failed` or `waiting`."""

    task: Task
    call: Call


class Resume(Struct, frozen=True):
    """Go on with a task whose answers have come."""

    task: Task


class Stop(Struct, frozen=True):
    """Cancel the task; nothing is waited for, and what is still reported of it is ignored."""

    task: Task


class NodeStarted(Struct, frozen=True):
    node: str


class NodeSucceeded(Struct, frozen=True):
    """`json` is the value as compact JSON."""

    node: str
    value: Any
    json: bytes


class NodeFailed(Struct, frozen=True):
    node: str
    fault: Fault


class NodeCanceled(Struct, frozen=True):
    """Nothing needs the node any more, or it can get no more of what it needs; the run goes on without it."""

    node: str


class RunSucceeded(Struct, frozen=True):
    outputs: dict[str, Any]
    json: bytes


class RunFailed(Struct, frozen=True):
    """What had not ended is canceled, without a word for each."""

    fault: Fault


class RunCanceled(Struct, frozen=True):
    """As after a failure."""

    fault: Fault


Decision = (
    Start
    | Resume
    | Stop
    | NodeStarted
    | NodeSucceeded
    | NodeFailed
    | NodeCanceled
    | RunSucceeded
    | RunFailed
    | RunCanceled
)


class Settled(Struct, frozen=True, kw_only=True):
    """A node that had ended; `value` of one that succeeded."""

    node: str
    state: NodeState
    value: Any = None
    fault: Fault | None = None


class Past(Struct, frozen=True, kw_only=True):
    """What is known of a run that was under way before: where to go on. Times are seconds since 1970."""

    settled: tuple[Settled, ...] = ()
    started: dict[str, float] = {}
    """When nodes started."""
    results: dict[tuple[str, int], Any] = {}
    """Values of items, by fan-out and index."""
    waiting: dict[Task, float] = {}
    """Tasks that wait for a caller's answers, and since when."""

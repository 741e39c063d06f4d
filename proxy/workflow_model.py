"""The records of workflow runs: plans, runs, their events and tool results; sessions and their messages.

Texts that are JSON are kept as bytes, as they were made. All times are seconds since 1970.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Raw

from proxy.events import NULL


class WorkflowStatus(StrEnum):
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


OPEN = frozenset({WorkflowStatus.RUNNING, WorkflowStatus.WAITING})
"""A run of these has not ended; all others are final."""
LAST = frozenset({"run_completed", "run_failed", "run_canceled"})
"""The types of events that end a run; nothing comes after one."""


class SavedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled workflow; `body` is its JSON, `plan_hash` 64 lower-case hexadecimal digits."""

    plan_hash: str
    body: Raw
    tenant: str = "default"


class WorkflowRun(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a plan."""

    run_id: str
    plan_hash: str
    tenant: str = "default"
    status: WorkflowStatus = WorkflowStatus.RUNNING
    created_at: float = 0.0
    updated_at: float = 0.0
    session_id: str | None = None
    stream: bool = False
    """Deltas were asked for on all its nodes."""
    input: Raw = Raw(b"{}")
    overrides: Raw = Raw(b"{}")
    """Which models the caller chose instead of the plan's."""
    summary: Raw = NULL
    """What it has cost so far."""
    last_seq: int = 0
    """Number of its last event."""
    cancel: bool = False
    """Set once somebody asked to cancel it."""
    owner: str | None = None
    """The process that conducts it, or did when it ended; None where any may."""

    @property
    def ended(self) -> bool:
        return self.status not in OPEN


class WorkflowEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a run's log: `body` is the finished envelope, a line with its end."""

    seq: int
    type: str
    body: bytes
    content: bytes | None = None
    """JSON of the payload that the envelope only tells the size and digest of, where that may be asked for."""

    @property
    def final(self) -> bool:
        return self.type in LAST


class TakenResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one tool call of a node's step, as its caller gave it; `body` is whatever the engine keeps."""

    node_id: str
    step: int
    call_id: str
    body: Raw


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation whose history is kept here."""

    session_id: str
    tenant: str = "default"
    customer_id: str | None = None
    metadata: dict[str, Any] = {}
    message_count: int = 0
    size: int = 0
    """Bytes of the contents of its messages."""
    created_at: float = 0.0
    updated_at: float = 0.0


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is to be appended to a session; `content` is a JSON array of parts."""

    role: str
    content: Raw
    run_id: str | None = None
    at: float = 0.0


class SessionMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a session, numbered from 1."""

    message_id: str
    seq: int
    role: str
    content: Raw
    run_id: str | None = None
    created_at: float = 0.0

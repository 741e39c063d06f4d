"""The records: what is known of runs besides their events, and of threads besides their runs."""

from __future__ import annotations

import os
import time
import uuid
from enum import StrEnum
from typing import Any, Literal

import msgspec
from msgspec import Raw

from proxy.events import NULL, Failed, Interrupt, PendingCall, Usage

OnDisconnect = Literal["cancel", "continue"]
Action = Literal["interrupt", "rollback"]
"""What becomes of a run that is cancelled: its thread stays as it is now, or goes back to what it was before."""
Strategy = Literal["reject", "enqueue", "interrupt", "rollback"]
"""What becomes of a new run whose thread is busy: refused, made to wait, or run once the others are cancelled so."""


class RunStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"


ACTIVE = frozenset({RunStatus.PENDING, RunStatus.RUNNING})
ENDED = frozenset({RunStatus.SUCCESS, RunStatus.ERROR, RunStatus.CANCELLED})


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run ended. `usage` sums all its model calls, `cost` is in the currency of the config's prices;
    `first_token` is in seconds after the start."""

    stop_reason: str
    finish_reason: str | None = None
    usage: Usage = Usage()
    model_calls: int = 0
    cost: float = 0.0
    events: int = 0
    first_token: float | None = None
    error: Failed | None = None


class Choices(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the caller chose for this run; kept in its record."""

    metadata: dict[str, Any] = {}
    user: str | None = None
    store: bool = True
    on_disconnect: OnDisconnect = "cancel"
    keepalive: float | None = None
    show: dict[str, str] = {}
    max_steps: int | None = None
    model: str | None = None
    context: dict[str, Any] = {}
    headers: dict[str, str] = {}
    strategy: Strategy = "reject"
    assistant_id: str = ""
    """The assistant that was asked for, where it was not the agent itself."""
    modes: tuple[str, ...] = ()
    """Native modes that the run's log has frames of, if its agent has any."""
    subgraphs: bool = False
    resumable: bool = False
    keep: bool = False
    """Of a run without a thread: its thread lasts."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of an agent. Times are seconds since 1970."""

    run_id: str
    thread_id: str
    agent: str
    tenant: str = "default"
    status: RunStatus = RunStatus.PENDING
    created_at: float = 0.0
    updated_at: float = 0.0
    turn_id: str = ""
    """The first run of the turn: this run, or the one that it resumes, and so on back."""
    resumes: str | None = None
    group: str | None = None
    """Set where one request started several runs (`n`)."""
    temporary: bool = False
    """True: its thread is hidden and goes with the run, unless the run pauses."""
    choices: Choices = Choices()
    input: Raw = NULL
    """The `RunInput` as JSON, or null where content is not kept."""
    outcome: Outcome | None = None
    not_before: float | None = None
    """When a delayed run may start at the earliest, in seconds since 1970."""
    cancel: Action | None = None
    """Set once somebody asked to cancel it."""
    gone_at: float | None = None
    """When it was rolled back: lists leave it out, and its log is readable for a while."""
    webhook: str | None = None
    """The webhook that is still to be called when it has ended."""
    owner: str | None = None
    """The process that has it under way, or that ended it; None while it waits."""
    attempt: int = 1
    """One more for each process that was lost during it, or handed it over."""
    losses: int = 0
    """Processes that were lost during it."""

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def assistant_id(self) -> str:
        """The assistant that was asked for: where none was, the one that the agent is by itself."""
        return self.choices.assistant_id or system_id(self.agent)


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """The open questions of a thread, asked by the run `run_id`; `expires_at` in seconds since 1970."""

    run_id: str
    thread_id: str
    agent: str
    turn_id: str
    tenant: str = "default"
    interrupts: tuple[Interrupt, ...] = ()
    calls: tuple[PendingCall, ...] = ()
    expires_at: float = 0.0
    answered_by: str | None = None


class ThreadStatus(StrEnum):
    IDLE = "idle"
    BUSY = "busy"
    INTERRUPTED = "interrupted"
    ERROR = "error"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Why a thread's last run broke off: the class of the exception, and its text."""

    error: str
    message: str


class Lifetime(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a thread `ttl` minutes after its last change."""

    ttl: float
    strategy: Literal["delete", "keep_latest"] = "delete"


class ThreadOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run, or a change of its state, leaves a thread."""

    status: ThreadStatus = ThreadStatus.IDLE
    """Never busy: that a thread is by having a run under way."""
    values: Raw | None = None
    """The state as JSON; None where it stays as it was."""
    interrupts: dict[str, tuple[Interrupt, ...]] = {}
    """What is asked, by the task that asks it."""
    fault: Fault | None = None


class Thread(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation that callers know by its id. Times are seconds since 1970.

    `status` is busy while a run of it is under way, whatever its `outcome` was before.
    """

    thread_id: str
    tenant: str = "default"
    created_at: float = 0.0
    updated_at: float = 0.0
    state_updated_at: float | None = None
    """When a run or a change of state last left it; None before the first."""
    metadata: dict[str, Any] = {}
    config: dict[str, Any] = {}
    lifetime: Lifetime | None = None
    outcome: ThreadOutcome = ThreadOutcome()
    busy: bool = False

    @property
    def status(self) -> ThreadStatus:
        return ThreadStatus.BUSY if self.busy else self.outcome.status


class SavedState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A thread's state at one moment, of an agent that keeps none itself. `values` is JSON, ids grow with time."""

    thread_id: str
    checkpoint_id: str
    tenant: str = "default"
    parent_id: str | None = None
    run_id: str | None = None
    created_at: float = 0.0
    source: Literal["input", "loop", "update", "fork"] = "loop"
    step: int = -1
    values: Raw = Raw(b"{}")
    next: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    interrupts: tuple[Interrupt, ...] = ()
    error: str | None = None


class Assistant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent with settings of a caller's, in one of its versions. Times are seconds since 1970."""

    assistant_id: str
    agent: str
    tenant: str = "default"
    name: str = ""
    description: str | None = None
    config: dict[str, Any] = {}
    context: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    version: int = 1
    created_at: float = 0.0
    updated_at: float = 0.0


class Cron(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Runs that are made on a schedule. Times are seconds since 1970."""

    cron_id: str
    assistant_id: str
    """As the caller named it: a UUID or a name."""
    schedule: str
    """In cron's form, in the time of `timezone`."""
    tenant: str = "default"
    thread_id: str | None = None
    """None: each run has a thread of its own."""
    timezone: str | None = None
    end_time: float | None = None
    next_at: float | None = None
    """When it makes its next run; None for never again."""
    payload: Raw = Raw(b"{}")
    """The body of the runs that it makes, as JSON."""
    metadata: dict[str, Any] = {}
    keep: bool = False
    """Of runs without a thread: theirs last."""
    enabled: bool = True
    user: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0


class Idempotency(msgspec.Struct, frozen=True, kw_only=True):
    """A caller's name for a request, and the digest of what it asked: the same name must ask the same."""

    key: str
    fingerprint: str


AGENTS = uuid.UUID("417bad22-48d4-4c62-9e46-9504c36f2ed3")


def system_id(agent: str) -> str:
    """The id of the assistant that an agent is by itself: the same for every tenant and after every restart."""
    return str(uuid.uuid5(AGENTS, agent))


class _Growing:
    """The time in nanoseconds, always later than the last: clocks are set back, and two calls may meet in one tick."""

    STEP = 250
    """More than the least that an id can tell apart."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> int:
        self._last = max(time.time_ns(), self._last + self.STEP)
        return self._last


_now = _Growing()


def new_id() -> str:
    """A new UUIDv7, greater than those that this process made before: 48 bits of milliseconds, 12 bits of the fraction,
    the rest random."""
    ms, fraction = divmod(_now(), 1_000_000)
    tail = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
    value = ms << 80 | 0x7 << 76 | (fraction * 4096 // 1_000_000) << 64 | 0x2 << 62 | tail
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

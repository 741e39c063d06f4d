"""What callers ask of runs in LangGraph's API: all fields of the official server's and of DeerFlow's requests.

A field that a caller leaves out is None, so that each dialect can have its own default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from proxy.wire.asked import Body, CheckpointRef, Config, Name

Mode = Literal[
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "custom",
    "events",
    "debug",
    "tasks",
    "checkpoints",
]
Strategy = Literal["reject", "enqueue", "interrupt", "rollback"]
Durability = Literal["sync", "async", "exit"]
Nodes = Literal["*"] | tuple[str, ...]
DEFAULT_MODES = frozenset({"values"})


class Send(Struct, frozen=True, kw_only=True):
    """A node to go on with, and what to give it."""

    node: Name
    input: Raw | UnsetType = UNSET


class Command(Struct, frozen=True, kw_only=True):
    """What to do with a thread in place of an input. A `resume` of null is an answer; none is UNSET."""

    resume: Raw | UnsetType = UNSET
    update: Raw | UnsetType = UNSET
    goto: str | Send | tuple[str | Send, ...] | None = None


class RunFields(Body, frozen=True, kw_only=True):
    """What runs and crons have in common."""

    assistant_id: Name
    """A UUID or a name."""
    input: Raw | UnsetType = UNSET
    metadata: dict[str, Any] | None = None
    config: Config | None = None
    context: dict[str, Any] | None = None
    webhook: str | None = None
    interrupt_before: Nodes | None = None
    interrupt_after: Nodes | None = None
    stream_mode: Mode | tuple[Mode, ...] | None = None
    stream_subgraphs: bool | None = None
    stream_resumable: bool | None = None
    multitask_strategy: Strategy | None = None
    durability: Durability | None = None
    checkpoint_during: bool | None = None
    """The older word for durability: true is `async`, false is `exit`."""

    @property
    def modes(self) -> frozenset[str]:
        asked = (self.stream_mode,) if isinstance(self.stream_mode, str) else self.stream_mode
        return frozenset(asked or DEFAULT_MODES)

    @property
    def durable(self) -> Durability | None:
        """The durability asked for, in either word."""
        if self.durability is not None or self.checkpoint_during is None:
            return self.durability
        return "async" if self.checkpoint_during else "exit"


class RunCreate(RunFields, frozen=True, kw_only=True):
    """A new run, of a thread or of none."""

    command: Command | None = None
    checkpoint: CheckpointRef | None = None
    checkpoint_id: str | None = None
    if_not_exists: Literal["reject", "create"] | None = None
    on_disconnect: Literal["cancel", "continue"] | None = None
    on_completion: Literal["delete", "keep"] | None = None
    after_seconds: Annotated[float, Meta(ge=0)] | None = None
    feedback_keys: tuple[str, ...] | None = None
    strict_resume: bool | None = None

    @property
    def starts_at(self) -> CheckpointRef | None:
        """The checkpoint to start from, in either form; `checkpoint_id` is the weaker one."""
        if self.checkpoint is not None or self.checkpoint_id is None:
            return self.checkpoint
        return CheckpointRef(checkpoint_id=self.checkpoint_id)

    @property
    def own_thread(self) -> str | None:
        """The thread that a stateless request names in its config."""
        named = (self.config.configurable or {}).get("thread_id") if self.config else None
        return named if isinstance(named, str) and named else None


class RunsCancel(Body, frozen=True, kw_only=True):
    """Which runs to cancel: some of one thread, or all in a status. We also take a caller's name for a request."""

    thread_id: UUID | None = None
    run_ids: tuple[UUID, ...] | None = None
    status: Literal["pending", "running", "all"] | None = None
    idempotency_key: Name | None = None

"""What callers ask of threads in LangGraph's API."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from proxy.model import Lifetime, ThreadStatus
from proxy.wire.asked import Body, CheckpointRef, IfExists, Limit, Name, Offset, Order
from proxy.wire.runs_body import Command

Minutes = Annotated[float, Meta(gt=0)]


def lifetime_of(ttl: Lifetime | float | None) -> Lifetime | None:
    """A bare number is minutes after which the thread is deleted."""
    return ttl if ttl is None or isinstance(ttl, Lifetime) else Lifetime(ttl=ttl)


class Update(Struct, frozen=True, kw_only=True):
    """One write of a superstep."""

    values: Raw | UnsetType = UNSET
    command: Command | None = None
    as_node: Name


class Superstep(Struct, frozen=True, kw_only=True):
    """Writes that happen at once, and make one checkpoint."""

    updates: tuple[Update, ...]


class ThreadCreate(Body, frozen=True, kw_only=True):
    thread_id: UUID | None = None
    metadata: dict[str, Any] | None = None
    if_exists: IfExists | None = None
    ttl: Lifetime | Minutes | None = None
    supersteps: tuple[Superstep, ...] | None = None
    graph_id: str | None = None


class ThreadPatch(Body, frozen=True, kw_only=True):
    """`metadata` is merged."""

    metadata: dict[str, Any] | None = None
    ttl: Lifetime | Minutes | None = None


class ThreadCount(Body, frozen=True, kw_only=True):
    """Which threads; `metadata` and `values` must be contained in a thread's."""

    metadata: dict[str, Any] | None = None
    values: dict[str, Any] | None = None
    status: ThreadStatus | None = None


class ThreadSearch(ThreadCount, frozen=True, kw_only=True):
    ids: tuple[UUID, ...] | None = None
    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"] | None = None
    sort_order: Order | None = None
    select: tuple[str, ...] | None = None
    extract: Annotated[dict[str, str], Meta(max_length=10)] | None = None
    """Names for paths into a thread, as `values.messages[-1].content`."""


class ThreadPrune(Body, frozen=True, kw_only=True):
    thread_ids: tuple[UUID, ...]
    strategy: Literal["delete", "keep_latest"] = "delete"


class StateUpdate(Body, frozen=True, kw_only=True):
    """`values` as a node would write them; null writes nothing, but makes a checkpoint."""

    values: Raw | UnsetType = UNSET
    as_node: str | None = None
    checkpoint: CheckpointRef | None = None
    checkpoint_id: str | None = None


class StatePatch(Body, frozen=True, kw_only=True):
    """`metadata` is merged into the thread's."""

    metadata: dict[str, Any] | None = None


class StateAt(Body, frozen=True, kw_only=True):
    """The state at one checkpoint."""

    checkpoint: CheckpointRef
    subgraphs: bool = False
    select: tuple[str, ...] | None = None


class Before(CheckpointRef, frozen=True, kw_only=True):
    """A checkpoint, or a config that names one."""

    configurable: CheckpointRef | None = None

    @property
    def place(self) -> CheckpointRef | None:
        """None where no checkpoint is named."""
        place = self if self.configurable is None else self.configurable
        return place if place.checkpoint_id else None


class History(Body, frozen=True, kw_only=True):
    """States of a thread, newest first."""

    limit: Limit = 1
    before: Before | None = None
    metadata: dict[str, Any] | None = None
    checkpoint: CheckpointRef | None = None
    select: tuple[str, ...] | None = None

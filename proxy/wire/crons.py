"""Runs on a schedule in LangGraph's API: what is told of them, and what callers ask."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.wire.asked import Body, Config, Limit, Name, Offset, Order
from proxy.wire.runs_body import Durability, Mode, Nodes, RunFields

OnCompletion = Literal["delete", "keep"]


class CronRecord(Struct, frozen=True, kw_only=True):
    """One cron; `payload` is the body of the runs that it makes."""

    cron_id: str
    assistant_id: str
    thread_id: str | None
    schedule: str
    timezone: str | None
    end_time: str | None
    next_run_date: str | None
    payload: dict[str, Any]
    metadata: dict[str, Any]
    on_run_completed: OnCompletion | None
    enabled: bool
    user_id: str | None
    created_at: str
    updated_at: str


class CronCreate(RunFields, frozen=True, kw_only=True):
    """`schedule` in cron's form, in the time of `timezone` (a name of the IANA's; UTC if there is none)."""

    schedule: Name
    timezone: str | None = None
    end_time: datetime | None = None
    on_run_completed: OnCompletion | None = None
    enabled: bool = True


class CronPatch(Body, frozen=True, kw_only=True):
    """What is UNSET stays as it was; null clears `end_time`, `timezone` and `webhook`."""

    schedule: Name | UnsetType = UNSET
    timezone: str | UnsetType | None = UNSET
    end_time: datetime | UnsetType | None = UNSET
    on_run_completed: OnCompletion | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    config: Config | UnsetType = UNSET
    context: dict[str, Any] | UnsetType = UNSET
    webhook: str | UnsetType | None = UNSET
    interrupt_before: Nodes | UnsetType = UNSET
    interrupt_after: Nodes | UnsetType = UNSET
    stream_mode: Mode | tuple[Mode, ...] | UnsetType = UNSET
    stream_subgraphs: bool | UnsetType = UNSET
    stream_resumable: bool | UnsetType = UNSET
    durability: Durability | UnsetType = UNSET


class CronCount(Body, frozen=True, kw_only=True):
    assistant_id: str | None = None
    thread_id: UUID | None = None
    metadata: dict[str, Any] | None = None


class CronSearch(CronCount, frozen=True, kw_only=True):
    enabled: bool | None = None
    limit: Limit = 10
    offset: Offset = 0
    sort_by: (
        Literal["cron_id", "assistant_id", "thread_id", "created_at", "updated_at", "next_run_date", "end_time"] | None
    ) = None
    sort_order: Order | None = None
    select: tuple[str, ...] | None = None

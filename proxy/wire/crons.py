"""Runs on a schedule in LangGraph's API: what is told of them, and what callers ask."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.model import Cron
from proxy.wire.asked import Body, Config, Limit, Name, Offset, Order
from proxy.wire.record import iso
from proxy.wire.runs_body import Durability, Mode, Nodes, RunFields

OnCompletion = Literal["delete", "keep"]

LATEST = 253402300799.0
"""The last second that can be written in ISO 8601."""

encode = msgspec.json.Encoder().encode


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


def cron_record(cron: Cron) -> CronRecord:
    completed: OnCompletion = "keep" if cron.keep else "delete"
    return CronRecord(
        cron_id=cron.cron_id,
        assistant_id=cron.assistant_id,
        thread_id=cron.thread_id,
        schedule=cron.schedule,
        timezone=cron.timezone,
        end_time=None if cron.end_time is None else iso(cron.end_time),
        next_run_date=None if cron.next_at is None else iso(cron.next_at),
        payload=msgspec.json.decode(cron.payload),
        metadata=cron.metadata,
        on_run_completed=completed if cron.thread_id is None else None,
        enabled=cron.enabled,
        user_id=cron.user,
        created_at=iso(cron.created_at),
        updated_at=iso(cron.updated_at),
    )


def payload_of(asked: CronCreate, assistant_id: str) -> Raw:
    """The body of the runs, which reads back as `RunFields`; what was left out is left out."""
    given = {name: getattr(asked, name) for name in RunFields.__struct_fields__}
    return Raw(encode({name: value for name, value in given.items() if _said(value)} | {"assistant_id": assistant_id}))


def patched(payload: Raw, asked: CronPatch) -> Raw:
    """The body of the runs with what a patch says of them: `metadata` is merged, null takes a field out."""
    whole = msgspec.json.decode(payload, type=dict[str, Raw])
    given = {name: getattr(asked, name) for name in RunFields.__struct_fields__ if hasattr(asked, name)}
    changes = {name: value for name, value in given.items() if value is not UNSET}
    if "metadata" in changes and "metadata" in whole:
        changes["metadata"] = msgspec.json.decode(whole["metadata"]) | changes["metadata"]
    return Raw(encode({name: value for name, value in (whole | changes).items() if _said(value)}))


def _said(value: object) -> bool:
    return value is not None and value is not UNSET


def moment(given: datetime) -> float:
    """Seconds since 1970 of a time that is in UTC where it does not say otherwise; ends of time are cut off."""
    at = (given if given.tzinfo is not None else given.replace(tzinfo=UTC)).timestamp()
    return min(max(at, 0.0), LATEST)

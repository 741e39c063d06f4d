"""Threads and their states as LangGraph's clients read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.events import NULL
from proxy.model import Fault, Lifetime, Thread
from proxy.wire.extracts import narrowed
from proxy.wire.frames import Question, questions
from proxy.wire.record import iso

WITHIN = "values."
"""How the name of one key of a state begins, where fields are selected."""


class ThreadRecord(Struct, frozen=True, kw_only=True):
    """One thread. `error` and `interrupts` are absent before its first run, as they are on the official server."""

    thread_id: str
    created_at: str
    updated_at: str
    state_updated_at: str
    """When it was made, before its state first changed."""
    metadata: dict[str, Any]
    status: str
    config: dict[str, Any]
    values: Raw
    error: Fault | UnsetType | None = UNSET
    interrupts: dict[str, list[Question]] | UnsetType = UNSET
    ttl: Lifetime | UnsetType = UNSET


class CheckpointPlace(Struct, frozen=True, kw_only=True):
    """Where a state stands among those of its thread."""

    thread_id: str
    checkpoint_ns: str = ""
    checkpoint_id: str
    checkpoint_map: dict[str, Any] | UnsetType = UNSET


class Configurable(Struct, frozen=True, kw_only=True):
    """The checkpoint that an update made, in the form that a run's config takes."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str


class UpdatedRecord(Struct, frozen=True, kw_only=True):
    """Where an update of a thread's state put it."""

    checkpoint: CheckpointPlace
    configurable: Configurable
    checkpoint_id: str


class Pruned(Struct, frozen=True):
    """How many threads a prune was for."""

    pruned_count: int


def thread_record(thread: Thread) -> ThreadRecord:
    outcome, ran = thread.outcome, thread.state_updated_at is not None
    asked = {task: questions(interrupts) for task, interrupts in outcome.interrupts.items()}
    return ThreadRecord(
        thread_id=thread.thread_id,
        created_at=iso(thread.created_at),
        updated_at=iso(thread.updated_at),
        state_updated_at=iso(thread.created_at if thread.state_updated_at is None else thread.state_updated_at),
        metadata=thread.metadata,
        status=thread.status,
        config=thread.config,
        values=NULL if outcome.values is None else outcome.values,
        error=outcome.fault if ran else UNSET,
        interrupts=asked if ran else UNSET,
        ttl=UNSET if thread.lifetime is None else thread.lifetime,
    )


def updated_record(place: CheckpointPlace) -> UpdatedRecord:
    return UpdatedRecord(
        checkpoint=place,
        configurable=Configurable(
            thread_id=place.thread_id, checkpoint_ns=place.checkpoint_ns, checkpoint_id=place.checkpoint_id
        ),
        checkpoint_id=place.checkpoint_id,
    )


def selected(record: Struct, names: Iterable[str]) -> dict[str, Any]:
    """Only these fields of a record, in its own order; names that it does not have are left out.

    `values.<key>` is the field `values` with only that key of it.
    """
    wanted = frozenset(names)
    fields = ((field.encode_name, getattr(record, field.name)) for field in msgspec.structs.fields(record))
    found = {name: value for name, value in fields if name in wanted and value is not UNSET}
    keys = [name.removeprefix(WITHIN) for name in wanted if name.startswith(WITHIN)]
    values = getattr(record, "values", None)
    if keys and "values" not in found and isinstance(values, Raw):
        return {"values": narrowed(values, keys), **found}
    return found

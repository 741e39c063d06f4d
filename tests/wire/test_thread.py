from __future__ import annotations

from typing import Any, get_type_hints

import msgspec
import pytest
from langgraph_sdk import schema
from msgspec import Raw

from proxy.events import Interrupt
from proxy.model import Fault, Lifetime, Thread, ThreadOutcome, ThreadStatus
from proxy.wire.assistants import AssistantRecord, SchemasRecord
from proxy.wire.crons import CronRecord
from proxy.wire.items import ItemRecord
from proxy.wire.thread import (
    CheckpointPlace,
    selected,
    thread_record,
    updated_record,
)
from tests.wire.entries import AT, raw

NEW = Thread(thread_id="t-1", created_at=AT, updated_at=AT, metadata={"k": "v"})
PLACE = CheckpointPlace(thread_id="t-1", checkpoint_id="c-2")


def told(record: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(record))


def test_a_new_thread() -> None:
    assert told(thread_record(NEW)) == {
        "thread_id": "t-1",
        "created_at": "2023-11-14T22:13:20.250000+00:00",
        "updated_at": "2023-11-14T22:13:20.250000+00:00",
        "state_updated_at": "2023-11-14T22:13:20.250000+00:00",
        "metadata": {"k": "v"},
        "status": "idle",
        "config": {},
        "values": None,
    }


def test_a_thread_that_waits_for_an_answer() -> None:
    outcome = ThreadOutcome(
        status=ThreadStatus.INTERRUPTED,
        values=Raw(b'{"n":1}'),
        interrupts={"task": (Interrupt(id="i", value=raw("ok?")), Interrupt(id="j"))},
    )
    thread = msgspec.structs.replace(NEW, state_updated_at=AT + 1, outcome=outcome, lifetime=Lifetime(ttl=5.0))
    found = told(thread_record(thread))
    assert (found["status"], found["values"], found["error"]) == ("interrupted", {"n": 1}, None)
    assert found["state_updated_at"] == "2023-11-14T22:13:21.250000+00:00"
    assert found["interrupts"] == {
        "task": [
            {"value": "ok?", "id": "i", "response_schema": None},
            {"value": None, "id": "j", "response_schema": None},
        ]
    }
    assert found["ttl"] == {"ttl": 5.0, "strategy": "delete"}


def test_a_thread_whose_run_broke_off_says_why() -> None:
    outcome = ThreadOutcome(status=ThreadStatus.ERROR, fault=Fault(error="ValueError", message="boom"))
    thread = msgspec.structs.replace(NEW, state_updated_at=AT, outcome=outcome)
    assert told(thread_record(thread))["error"] == {"error": "ValueError", "message": "boom"}
    assert told(thread_record(msgspec.structs.replace(thread, busy=True)))["status"] == "busy"


def test_an_update_says_where_it_put_the_state() -> None:
    place = {"thread_id": "t-1", "checkpoint_ns": "", "checkpoint_id": "c-2"}
    assert told(updated_record(PLACE)) == {"checkpoint": place, "configurable": place, "checkpoint_id": "c-2"}


def test_a_caller_may_select_fields() -> None:
    assert selected(thread_record(NEW), ["status", "thread_id", "interrupts", "unheard"]) == {
        "thread_id": "t-1",
        "status": "idle",
    }


@pytest.mark.parametrize(
    ("record", "official"),
    [
        (AssistantRecord, schema.Assistant),
        (SchemasRecord, schema.GraphSchema),
        (CronRecord, schema.Cron),
        (ItemRecord, schema.SearchItem),
    ],
    ids=lambda shape: shape.__name__,
)
def test_a_record_has_all_fields_of_the_official_one(record: type[msgspec.Struct], official: Any) -> None:
    assert set(get_type_hints(official)) <= {field.encode_name for field in msgspec.structs.fields(record)}

"""What a webhook is told of a run."""

from __future__ import annotations

import json

import msgspec
from msgspec import Raw

from proxy.events import Failed
from proxy.model import Outcome, Run, RunStatus
from proxy.wire.record import record
from proxy.wire.webhook import told

RUN = Run(
    run_id="01a1fc83-4777-71ab-8950-659e83e16794",
    thread_id="01a1fc83-4777-71ab-8950-659f32e814ea",
    agent="agent",
    status=RunStatus.SUCCESS,
    created_at=1_795_237_824.0,
    updated_at=1_795_237_830.5,
    outcome=Outcome(stop_reason="end_turn", finish_reason="stop"),
)


def test_a_finished_run_is_its_record_with_times_and_values() -> None:
    body = json.loads(told(RUN, started_at=1_795_237_825.25, sent_at=1_795_237_831.0, values=Raw(b'{"n": 2}')))
    about = {
        "run_started_at": "2026-11-21T05:10:25.250000+00:00",
        "run_ended_at": "2026-11-21T05:10:30.500000+00:00",
        "webhook_sent_at": "2026-11-21T05:10:31.000000+00:00",
        "values": {"n": 2},
    }
    whole = json.loads(msgspec.json.encode(record(RUN)))
    del whole["error"]
    assert body == whole | about
    assert body["status"] == "success"


def test_a_run_that_never_started_and_kept_nothing_says_null() -> None:
    body = json.loads(told(RUN, started_at=None, sent_at=0.0))
    assert body["run_started_at"] is None
    assert body["values"] is None


def test_a_failed_run_says_why_under_the_names_of_the_official_server() -> None:
    failed = Failed(code="agent_error", message="boom: x", kind="ValueError", status=500)
    run = msgspec.structs.replace(RUN, status=RunStatus.ERROR, outcome=Outcome(stop_reason="error", error=failed))
    body = json.loads(told(run, started_at=1.0, sent_at=2.0))
    assert body["status"] == "error"
    assert body["error"] == {
        "error": "ValueError",
        "message": "boom: x",
        "code": "agent_error",
        "status": 500,
        "retryable": False,
    }

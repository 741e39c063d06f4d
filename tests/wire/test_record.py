from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest
from langgraph_sdk.schema import Run as OfficialRun
from msgspec import Raw

from proxy.adapter import Command, Native, RunInput
from proxy.events import Cancelled, Completed, Custom, Event, Failed, Paused, TextDelta, Usage
from proxy.messages import Message
from proxy.model import Choices, Outcome, Run, RunStatus, system_id
from proxy.wire.record import LogEncoder, group, record
from tests.wire.entries import AT, RUN, log

ASSISTANT = system_id("demo")
PLAIN = Run(run_id=RUN, thread_id="t-1", agent="demo", created_at=AT, updated_at=AT + 1, turn_id=RUN)


def told(run: Run) -> Any:
    return msgspec.json.decode(msgspec.json.encode(record(run)))


def ended(status: RunStatus, **outcome: Any) -> Run:
    return msgspec.structs.replace(PLAIN, status=status, outcome=Outcome(**{"stop_reason": "end_turn", **outcome}))


def lines(*events: Event) -> bytes:
    wire = LogEncoder()
    return b"".join(wire.encode(entry) for entry in log(*events))


def test_the_record_of_a_run_under_way() -> None:
    choices = Choices(metadata={"k": "v"}, user="u", max_steps=3)
    assert told(msgspec.structs.replace(PLAIN, status=RunStatus.RUNNING, choices=choices)) == {
        "run_id": RUN,
        "thread_id": "t-1",
        "assistant_id": ASSISTANT,
        "created_at": "2023-11-14T22:13:20.250000+00:00",
        "updated_at": "2023-11-14T22:13:21.250000+00:00",
        "status": "running",
        "metadata": {"created_by": "system", "k": "v", "graph_id": "demo", "assistant_id": ASSISTANT},
        "kwargs": {
            "input": None,
            "command": None,
            "config": None,
            "stream_mode": [],
            "interrupt_before": None,
            "interrupt_after": None,
            "webhook": None,
            "feedback_keys": None,
            "temporary": False,
            "subgraphs": False,
            "resumable": False,
            "checkpoint_during": None,
            "durability": None,
            "on_disconnect": "cancel",
            "keepalive": None,
            "show": {},
            "max_steps": 3,
            "model": None,
            "context": {},
            "headers": {},
            "user": "u",
            "store": True,
        },
        "multitask_strategy": "reject",
        "state": "running",
        "agent": "demo",
        "turn_id": RUN,
        "resumes": None,
        "group": None,
        "stop_reason": None,
        "finish_reason": None,
        "first_token": None,
        "usage": None,
        "error": None,
    }


def test_a_run_shows_what_it_was_asked_for() -> None:
    asked = RunInput(
        run_id=RUN,
        thread_id="t-1",
        agent="demo",
        input=Raw(b'{"n":1}'),
        max_steps=7,
        native=Native(
            command=Command(resume=Raw(b'"yes"')),
            interrupt_before=("a",),
            durability="exit",
            tags=("x",),
            configurable={"k": 1},
        ),
    )
    choices = Choices(assistant_id="a-1", strategy="rollback", modes=("values", "custom"), subgraphs=True)
    run = told(
        msgspec.structs.replace(
            PLAIN, input=Raw(msgspec.json.encode(asked)), choices=choices, webhook="https://hooks.example.com/1"
        )
    )
    kwargs = run["kwargs"]
    assert (run["assistant_id"], run["metadata"]["assistant_id"]) == ("a-1", "a-1")
    assert run["multitask_strategy"] == "rollback"
    assert (kwargs["input"], kwargs["command"]) == ({"n": 1}, {"resume": "yes"})
    assert kwargs["config"] == {"tags": ["x"], "recursion_limit": 7, "configurable": {"k": 1}}
    assert (kwargs["stream_mode"], kwargs["subgraphs"]) == (["values", "custom"], True)
    assert (kwargs["interrupt_before"], kwargs["interrupt_after"]) == (["a"], None)
    assert (kwargs["durability"], kwargs["checkpoint_during"]) == ("exit", False)
    assert kwargs["webhook"] == "https://hooks.example.com/1"


def test_a_chat_run_shows_its_conversation() -> None:
    asked = RunInput(run_id=RUN, thread_id="t-1", agent="demo", messages=(Message(role="user", content="Hi"),))
    run = told(msgspec.structs.replace(PLAIN, input=Raw(msgspec.json.encode(asked))))
    assert run["kwargs"]["input"] == {"messages": [{"role": "user", "content": "Hi"}]}


def test_the_record_has_every_field_of_the_official_client_and_times_it_can_read() -> None:
    run = told(PLAIN)
    assert OfficialRun.__annotations__.keys() - {"cancel_reason"} <= run.keys()
    assert datetime.datetime.fromisoformat(run["created_at"]).timestamp() == AT


def test_the_end_shows_what_was_spent_and_why_it_ended() -> None:
    usage = Usage(model="gpt", input_tokens=10, output_tokens=5, cached_tokens=2, reasoning_tokens=1)
    run = told(ended(RunStatus.SUCCESS, finish_reason="stop", usage=usage, model_calls=2, first_token=0.5))
    assert (run["stop_reason"], run["finish_reason"], run["first_token"]) == ("end_turn", "stop", 0.5)
    assert run["usage"] == {
        "model": "gpt",
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "cached_tokens": 2,
        "reasoning_tokens": 1,
        "model_calls": 2,
        "cost": 0.0,
        "cost_cents": 0,
    }


@pytest.mark.parametrize(
    ("run", "status", "state"),
    [
        (PLAIN, "pending", "pending"),
        (ended(RunStatus.SUCCESS), "success", "success"),
        (ended(RunStatus.CANCELLED, stop_reason="cancelled"), "interrupted", "cancelled"),
        (ended(RunStatus.ERROR, error=Failed(code="llm_timeout", message="Slow.")), "error", "error"),
        (ended(RunStatus.ERROR, error=Failed(code="run_timeout", message="Long.")), "timeout", "error"),
    ],
)
def test_each_state_has_a_word_in_both_languages(run: Run, status: str, state: str) -> None:
    assert (told(run)["status"], told(run)["state"]) == (status, state)


def test_an_error_is_told_whole() -> None:
    failed = Failed(code="llm_rate_limit", message="Busy.", status=429, retryable=True, retry_after=2.0)
    assert told(ended(RunStatus.ERROR, error=failed))["error"] == {
        "code": "llm_rate_limit",
        "message": "Busy.",
        "status": 429,
        "retryable": True,
        "retry_after": 2.0,
    }


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ((RunStatus.SUCCESS, RunStatus.RUNNING, RunStatus.ERROR), "running"),
        ((RunStatus.SUCCESS, RunStatus.ERROR, RunStatus.CANCELLED), "error"),
        ((RunStatus.SUCCESS, RunStatus.CANCELLED), "interrupted"),
        ((RunStatus.SUCCESS, RunStatus.SUCCESS), "success"),
    ],
)
def test_a_group_is_as_far_as_the_run_that_is_least_far(states: tuple[RunStatus, ...], status: str) -> None:
    runs = [msgspec.structs.replace(PLAIN, status=state) for state in states]
    told = group("g", runs, whole=False)
    assert (told.run_id, told.status, len(told.runs)) == ("g", status, len(states))


def test_a_log_is_a_line_an_entry() -> None:
    at = '"at":"2023-11-14T22:13:20.250000+00:00"'
    assert lines(TextDelta(text="Hi", part="a"), Completed()).decode() == (
        f'{{"seq":1,{at},"event":{{"type":"run_started","run_id":"{RUN}","thread_id":"t-1","agent":"demo"}}}}\n'
        f'{{"seq":2,{at},"event":{{"type":"text_delta","text":"Hi","part":"a"}}}}\n'
        f'{{"seq":3,{at},"event":{{"type":"completed"}}}}\n'
    )


def test_nothing_within_an_entry_ends_its_line() -> None:
    text = "a\nb\r\n\x85c\u2028d\u2029"
    body = lines(TextDelta(text=text), Custom(name="n", data=Raw(b'{\n  "a": 1\r\n}')))
    first, second = [msgspec.json.decode(line) for line in body.decode().splitlines()[1:]]
    assert (first["event"]["text"], second["event"]["data"]) == (text, {"a": 1})


@pytest.mark.parametrize("final", [Completed(), Paused(), Cancelled(), Failed(code="x", message="x")])
def test_a_final_entry_ends_the_log_and_nothing_else_does(final: Event) -> None:
    wire = LogEncoder()
    *others, last = log(TextDelta(text="x"), Usage(), final)
    for entry in others:
        wire.encode(entry)
        assert not wire.ended
    wire.encode(last)
    assert wire.ended
    assert wire.end() == b""


def test_a_heartbeat_is_a_blank_line() -> None:
    assert LogEncoder().heartbeat() == b"\n"


def test_a_log_that_cannot_be_read_on_says_so_in_a_line_of_its_own() -> None:
    wire = LogEncoder()
    body = wire.failure(Failed(code="log_trimmed", message="Gone.", status=410))
    assert body.endswith(b"}\n")
    assert msgspec.json.decode(body)["error"]["code"] == "log_trimmed"
    assert wire.ended

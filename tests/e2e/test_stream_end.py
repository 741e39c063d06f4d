"""Every run has one end, and every stream has it too: then `[DONE]`, and then the body is over."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.callers import Caller, Story, fetch, stories, story
from tests.e2e.house import Server
from tests.waiting import eventually

CRASHES = pytest.mark.parametrize("crash", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError"])


def ended(server: Server, caller: Caller) -> dict[str, Any]:
    """The record of the caller's run, which has exactly one end."""
    return Story(server, caller.run_id).ends()


@pytest.mark.parametrize(
    ("text", "answer", "finish"),
    [
        ("say Hel lo", "Hello", "stop"),
        ("quiet", "", "stop"),
        ("say Hel\nlength\nsay lo", "Hel", "length"),
        ("say Hel\nlength\nfail", "Hel", "length"),
    ],
    ids=["words", "no-word", "words-after-its-end", "failure-after-its-end"],
)
def test_an_agent_that_ends_gives_a_finish_reason_and_done(quick: Server, text: str, answer: str, finish: str) -> None:
    caller = Caller(quick, text).rest()
    assert (caller.answer, caller.ending) == (answer, finish)
    assert ended(quick, caller)["finish_reason"] == finish
    whole = Caller(quick, text, stream=False).rest()
    [choice] = whole.json["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (answer, finish)


@pytest.mark.parametrize("first_byte", ["patient", "prompt"])
def test_a_failure_after_words_is_an_error_and_done(quick: Server, first_byte: str) -> None:
    caller = Caller(quick, "say Hel\nfail", model=first_byte).rest()
    assert (caller.answer, caller.ending) == ("Hel", "internal_error")
    assert "secret" not in caller.text
    record = ended(quick, caller)
    assert (record["state"], record["error"]["code"]) == ("error", "internal_error")


def test_a_failure_before_any_word_is_a_status_or_once_started_an_error_and_done(quick: Server) -> None:
    caller = Caller(quick, "fail", model="patient").rest()
    assert (caller.response.status, caller.json["error"]["code"]) == (500, "internal_error")
    started = Caller(quick, "fail", model="prompt").rest()
    assert (started.response.status, started.ending) == (200, "internal_error")


@CRASHES
def test_an_agent_may_raise_whatever_it_likes(quick: Server, crash: str) -> None:
    caller = Caller(quick, f"say Hel\nraise {crash}").rest()
    assert (caller.answer, caller.ending) == ("Hel", "internal_error")
    assert ended(quick, caller)["error"]["code"] == "internal_error"
    whole = Caller(quick, f"say Hel\nraise {crash}", model="patient", stream=False).rest()
    assert (whole.response.status, whole.json["error"]["code"]) == (500, "internal_error")
    assert fetch(quick, "/ready")[0] == 200


@pytest.mark.parametrize(("agent", "text"), [("brief", "drip 100000"), ("brief", "wait"), ("lively", "say Hel\nwait")])
def test_a_run_that_takes_too_long_or_is_too_silent_is_stopped_with_an_error(
    quick: Server, agent: str, text: str
) -> None:
    caller = Caller(quick, text, model=agent).rest()
    assert caller.ending == "run_timeout"
    assert ended(quick, caller)["error"]["status"] == 504
    eventually(
        lambda: Story(quick, caller.run_id).steps == ["started", "cancelled", "closed"], "the agent's cleaning up"
    )


def test_an_answer_in_one_piece_that_takes_too_long_is_a_gateway_timeout(quick: Server) -> None:
    caller = Caller(quick, "say Hel\nwait", model="brief", stream=False, runwire={"keepalive": False}).rest()
    assert (caller.response.status, caller.json["error"]["code"]) == (504, "run_timeout")
    padded = Caller(quick, "say Hel\nwait", model="brief", stream=False).rest()
    assert padded.text.startswith(" ")
    assert (padded.response.status, padded.json["error"]["code"]) == (200, "run_timeout")


def test_words_keep_a_run_from_being_silent(quick: Server) -> None:
    assert Caller(quick, "drip 1200", model="lively").rest().ending == "stop"


@pytest.mark.parametrize(("model", "end"), [("actor", "stop"), ("brief", "run_timeout")])
def test_an_agent_that_swallows_its_cancel_is_abandoned(quick: Server, model: str, end: str) -> None:
    caller = Caller(quick, "say Hel\nwait\nswallow", model=model).until("Hel")
    if model == "actor":
        status, _ = fetch(quick, f"/runs/{caller.run_id}/cancel?wait=1", "POST")
        assert status == 200
    caller.rest()
    assert (caller.answer, caller.ending) == ("Hel", end)
    told = Story(quick, caller.run_id)
    told.ends()
    assert told.steps == ["started", "cancelled"]
    assert any("abandoned" in line and told.run_id in line for line in quick.log.splitlines())


def test_an_agent_that_fails_on_being_cancelled_is_cancelled_all_the_same(quick: Server) -> None:
    caller = Caller(quick, "say Hel\nspoil").until("Hel")
    fetch(quick, f"/runs/{caller.run_id}/cancel", "POST")
    assert caller.rest().ending == "stop"
    assert ended(quick, caller)["state"] == "cancelled"


def test_the_failure_of_one_of_several_choices_ends_them_all(quick: Server) -> None:
    caller = Caller(quick, "say Hel\nfail", n=3).rest()
    assert caller.ending == "internal_error"
    for told in stories(quick, caller.mark):
        told.ends()


def test_deleting_a_run_under_way_ends_its_stream(quick: Server) -> None:
    caller = Caller(quick, "say Hel\nwait").until("Hel")
    assert fetch(quick, f"/runs/{caller.run_id}", "DELETE")[0] == 204
    assert caller.rest().ending == "stop"
    assert "cancelled" in story(quick, caller.mark).steps
    assert fetch(quick, f"/runs/{caller.run_id}")[0] == 404


def test_a_stream_leaves_the_connection_usable(quick: Server) -> None:
    caller = Caller(quick, "say Hello")
    caller.until("[DONE]")
    assert caller.take(1) == b""
    again = caller.again("say Bye")
    assert (again.answer, again.ending) == ("Bye", "stop")


@pytest.mark.parametrize(("text", "pieces"), [("drip 100\nwait", 100), ("flood 3000\nwait", 3000)])
def test_all_that_was_said_arrives_though_only_silence_follows(quick: Server, text: str, pieces: int) -> None:
    caller = Caller(quick, text, model="mute", buffer=4096)
    eventually(lambda: len(Story(quick, caller.run_id).events) == pieces + 1, "the last piece")
    caller.until('"delta":{"content":"', times=pieces)
    caller.close()

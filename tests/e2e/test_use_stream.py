"""React's `useStream`, the classic one and that of the event protocol, in a real browser against a real server.

With `PEER=1` in the environment the scenes are played on the official development server, to see that they are right.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import pytest
from langgraph_sdk import get_sync_client

from tests.e2e.browser import HOOKS, Stage, stage
from tests.peer.house import Place, official, runwire
from tests.waiting import eventually

QUESTION = '{"question":"ok?"}'
every_hook = pytest.mark.parametrize("hook", HOOKS)
classic = pytest.mark.parametrize("hook", ["classic", "reconnecting"])
lasting = pytest.mark.parametrize("hook", [name for name in HOOKS if name != "classic"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    serve = official if os.environ.get("PEER") else runwire
    with serve(tmp_path_factory.mktemp("place")) as running:
        yield running


@pytest.fixture(scope="module")
def shown() -> Iterator[Stage]:
    with stage() as it:
        yield it


def sent(report: dict[str, Any], ending: str) -> list[Any]:
    return [request for request in report["requests"] if request["path"].endswith(ending)]


class Kept:
    """What the server keeps of the thread."""

    def __init__(self, place: Place, thread: str) -> None:
        self._client = get_sync_client(url=place.url, api_key=place.headers.get("x-api-key"))
        self._thread = thread

    @property
    def status(self) -> str:
        return self._client.threads.get(self._thread)["status"]

    @property
    def runs(self) -> list[str]:
        """The statuses of its runs, the oldest first."""
        return [run["status"] for run in self._client.runs.list(self._thread)][::-1]

    def comes_to(self, status: str, *runs: str) -> None:
        try:
            eventually(lambda: (self.status, self.runs) == (status, [*runs]), "")
        except AssertionError:
            assert (self.status, self.runs) == (status, [*runs])

    def stopped(self) -> None:
        """Its only run was broken off, and it is free for the next."""
        eventually(lambda: self.runs == ["interrupted"] and self.status != "busy", f"{self.status} {self.runs}")


@every_hook
def test_tokens_are_shown_as_they_come(place: Place, shown: Stage, hook: str) -> None:
    report = shown.play(place, "tokens", hook)
    assert report["answers"] == ["Hel", "Hel lo", "Hel lo world"]
    Kept(place, report["thread"]).comes_to("idle", "success")


@every_hook
def test_stop_ends_the_run(place: Place, shown: Stage, hook: str) -> None:
    report = shown.play(place, "stop", hook)
    assert report["error"] in ("", "CancelledError()")
    assert len(sent(report, "/cancel")) == (hook != "classic"), "the classic hook only leaves"
    Kept(place, report["thread"]).stopped()


@every_hook
def test_a_question_is_shown_and_answered(place: Place, shown: Stage, hook: str) -> None:
    report = shown.play(place, "interrupt", hook)
    assert report["asked"] == QUESTION
    assert report["texts"] == ["plan", "draft of plan", "verdict: yes"]
    Kept(place, report["thread"]).comes_to("idle", "success", "success")


@every_hook
def test_a_question_is_still_there_after_a_reload(place: Place, shown: Stage, hook: str) -> None:
    report = shown.play(place, "interruptReopened", hook)
    assert report["asked"] == QUESTION
    assert report["texts"] == ["plan", "draft of plan", "verdict: no"]


@every_hook
def test_several_questions_are_answered_at_once(place: Place, shown: Stage, hook: str) -> None:
    report = shown.play(place, "severalInterrupts", hook)
    assert report["asked"] == ["left?", "right?"]
    assert report["answers"] == ["left? yes to left?", "right? yes to right?"]


@every_hook
def test_an_answer_is_made_again_and_a_message_edited(place: Place, shown: Stage, hook: str) -> None:
    report = shown.play(place, "branches", hook)
    (asked, first), (again, second), (edited, third) = report["first"], report["second"], report["edited"]
    assert (asked, again, edited) == ("first #", "first #", "second #")
    assert len({first, second, third}) == 3
    # The official server takes the checkpoint that such a fork began with for the state of the thread.
    status = "interrupted" if place.name == "official" and HOOKS[hook]["hook"] == "events" else "idle"
    Kept(place, report["thread"]).comes_to(status, "success", "success", "success")


@classic
def test_one_can_go_back_to_a_branch(place: Place, shown: Stage, hook: str) -> None:
    report = shown.play(place, "switching", hook)
    assert report["counts"] == [2, 2]
    assert (report["back"], report["again"]) == (report["second"], report["edited"])


@lasting
def test_a_reload_in_mid_stream_goes_on(place: Place, shown: Stage, hook: str) -> None:
    report = shown.play(place, "reload", hook)
    assert report["texts"] == ["Hel @one lo @two world", "Hel lo world"]
    if hook == "reconnecting":
        [join] = [request for request in report["after"] if request["path"].endswith("/stream")]
        assert (join["method"], join["query"]) == ("GET", "?cancel_on_disconnect=0")
    Kept(place, report["thread"]).comes_to("idle", "success")


@lasting
def test_a_stream_that_the_network_cuts_goes_on_by_itself(place: Place, shown: Stage, hook: str) -> None:
    if place.name == "official" and hook == "reconnecting":
        pytest.skip("the official server hides `location` from pages, and repeats what was shown")
    report = shown.play(place, "cut", hook)
    assert report["answers"] == ["Hel", "Hel lo", "Hel lo world"]
    assert report["error"] == ""
    assert not [request for request in report["after"] if "assistant_id" in str(request["body"])], "no second run"
    Kept(place, report["thread"]).comes_to("idle", "success")


def test_a_page_that_is_left_ends_its_run(place: Place, shown: Stage) -> None:
    report = shown.play(place, "left", "classic")
    [run] = sent(report, "/runs/stream")
    assert run["body"]["on_disconnect"] == "cancel"
    Kept(place, run["path"].split("/")[2]).stopped()


@every_hook
def test_a_thread_that_is_opened_again_shows_its_messages(place: Place, shown: Stage, hook: str) -> None:
    report = shown.play(place, "reopened", hook)
    assert report["texts"] == ["one", "one", "two", "two"]
    assert any(request["path"].endswith("/history") for request in report["after"])
    Kept(place, report["thread"]).comes_to("idle", "success", "success")


@every_hook
def test_a_failure_is_shown(place: Place, shown: Stage, hook: str) -> None:
    report = shown.play(place, "failure", hook)
    assert report["error"] == "boom"
    Kept(place, report["thread"]).comes_to("error", "error")


@every_hook
def test_an_unknown_assistant_is_told_and_not_tried_again(place: Place, shown: Stage, hook: str) -> None:
    report = shown.play(place, "unknown", hook)
    assert "nobody" in report["error"]
    starts = [request for request in report["requests"] if "assistant_id" in str(request["body"])]
    assert len(starts) == 1


@every_hook
def test_custom_events_arrive_as_they_are_sent(place: Place, shown: Stage, hook: str) -> None:
    report = shown.play(place, "custom", hook)
    assert report["early"] == [{"said": "one"}]
    assert report["custom"] == [{"said": "one"}, {"said": "two"}]


@pytest.mark.skipif(bool(os.environ.get("PEER")), reason="the official server has no such dialect")
@pytest.mark.parametrize("scene", ["tokens", "interrupt", "switching", "reload"])
def test_the_classic_hook_works_in_deerflows_dialect(place: Place, shown: Stage, scene: str) -> None:
    report = shown.play(dataclasses.replace(place, url=f"{place.url}/api"), scene, "reconnecting")
    told = {"tokens": "answers", "reload": "texts", "interrupt": "texts", "switching": "again"}
    said = {"interrupt": "verdict: yes", "switching": report.get("edited", [""])[-1]}
    assert report[told[scene]][-1] == said.get(scene, "Hel lo world")
    assert all(request["path"].startswith("/api/") for request in report["requests"])

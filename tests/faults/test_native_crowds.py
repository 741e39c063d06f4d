"""Many callers want the same thing at once: one thread, one key, one answer, one log."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.natives import ENDED, UNKNOWN, Caller, steps, together
from tests.waiting import eventually

STRATEGIES = ("reject", "enqueue", "interrupt", "rollback")
WAYS = ("threads/{}/runs", "threads/{}/runs/stream", "threads/{}/runs/wait", "runs/wait")
"""The four kinds of route that make runs; the last names its thread in its config."""
AT_ONCE = 20


def asks(native: Caller, way: str, thread: str, strategy: str, number: int = 0) -> Any:
    body: dict[str, Any] = {
        "assistant_id": "walking",
        "input": {"n": 0, "log": [f"tab {number}"]},
        "multitask_strategy": strategy,
    }
    if not way.startswith("threads"):
        body["config"] = {"configurable": {"thread_id": thread}}
    return native.post("/" + way.format(thread), body)


def runs_of(native: Caller, thread: str) -> list[dict[str, Any]]:
    found = native.get(f"/api/threads/{thread}/runs?limit=100").json()
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_u60_never_are_two_runs_on_a_thread(native: Caller, strategy: str, way: str) -> None:
    thread = native.thread()
    replies = together(lambda number: asks(native, way, thread, strategy, number), range(AT_ONCE))
    told = [reply.status_code for reply in replies]
    known = {run["run_id"] for run in runs_of(native, thread)}
    for run in known:
        native.ended(thread, run)
    seen = steps(native.server, thread)
    assert "crowd" not in seen
    assert "enter" in seen
    refused = [reply for reply in replies if reply.status_code == 409]
    if strategy == "reject":
        assert set(told) == {200, 409}
        for reply in refused:
            blocking = reply.headers["x-run-id"]
            assert blocking in reply.json()["detail"]
            assert native.get(f"/threads/{thread}/runs/{blocking}").status_code == 200
    else:
        assert set(told) == {200}
    ends = sorted(native.status(thread, run) for run in known)
    done = ends.count("success")
    if strategy == "enqueue":
        assert ends == ["success"] * AT_ONCE
    assert done >= 1
    state = native.state(thread)
    assert state["next"] == []
    tabs = [word for word in state["values"]["log"] if word.startswith("tab")]
    assert len(tabs) == len(set(tabs))
    if strategy != "interrupt":
        assert state["values"] == {"n": 4 * done, "log": [w for tab in tabs for w in (tab, "a", "b", "c", "d")]}
    native.idle(thread)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_u60_the_ways_mixed_are_one_admission(native: Caller, strategy: str) -> None:
    thread = native.thread()
    together(lambda number: asks(native, WAYS[number % 4], thread, strategy, number), range(AT_ONCE))
    for run in runs_of(native, thread):
        assert native.ended(thread, run["run_id"]) in ENDED
    assert "crowd" not in steps(native.server, thread)
    native.idle(thread)


@pytest.mark.parametrize("way", [*WAYS, "api"])
def test_u61_a_refusal_names_the_run_that_blocks(native: Caller, way: str) -> None:
    thread = native.thread()
    run = native.run(thread, "slow", {"n": 0})
    if way == "api":
        reply = native.post(f"/api/threads/{thread}/runs", {"assistant_id": "walking", "input": {"n": 0}})
    else:
        reply = asks(native, way, thread, "reject")
    assert reply.status_code == 409
    assert run in reply.json()["detail"]
    assert reply.headers["x-run-id"] == run
    update = native.post(f"/threads/{thread}/state", {"values": {"n": 1}, "as_node": "a"})
    assert (update.status_code, update.headers.get("x-run-id")) == (409, run)
    assert native.cancel(thread, run) == 200


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_c15_two_tabs_on_one_thread_do_not_mix(native: Caller, strategy: str) -> None:
    """Each turn of a tab stands in the history as a whole, or not at all, or is the last words of a run cut short."""
    thread = native.thread()

    def tab(name: int) -> list[Any]:
        return [asks(native, WAYS[1], thread, strategy, 100 * name + turn) for turn in range(4)]

    replies = [reply for replies in together(tab, range(2)) for reply in replies]
    for run in runs_of(native, thread):
        native.ended(thread, run["run_id"])
    log = native.state(thread)["values"].get("log", [])
    turns: list[list[str]] = []
    for word in log:
        if word.startswith("tab"):
            turns.append([])
        else:
            turns[-1].append(word)
    for turn in turns if strategy == "interrupt" else []:
        assert turn == ["a", "b", "c", "d"][: len(turn)]
    if strategy != "interrupt":
        assert all(turn == ["a", "b", "c", "d"] for turn in turns), log
    if strategy == "enqueue":
        assert len(turns) == len(replies) == 8
    assert "crowd" not in steps(native.server, thread)


# --- R04, R05


@pytest.mark.parametrize(
    "way", ["threads/{}/runs", "threads/{}/runs/stream", "threads/{}/runs/wait", "runs", "runs/wait"]
)
def test_r04_one_key_fifty_times_at_once_is_one_run(native: Caller, way: str) -> None:
    thread = native.thread()
    key = f"fifty-{way}-{thread}"
    body = {"assistant_id": "walking", "input": {"n": 0}}
    path = "/" + way.format(thread)
    replies = together(lambda _: native.post(path, body, idempotency_key=key), range(50))
    assert {reply.status_code for reply in replies} == {200}, {
        reply.text for reply in replies if reply.status_code != 200
    }
    assert len({reply.headers["x-run-id"] for reply in replies}) == 1
    if way.startswith("threads"):
        assert len(runs_of(native, thread)) == 1
        assert steps(native.server, thread).count("enter") == 4


def test_r05_a_key_with_another_body_or_path_is_a_conflict(native: Caller) -> None:
    thread, other = native.thread(), native.thread()
    body = {"assistant_id": "walking", "input": {"n": 0}}
    first = native.made(f"/threads/{thread}/runs", body, idempotency_key="k-1")
    assert native.made(f"/threads/{thread}/runs", body, idempotency_key="k-1")["run_id"] == first["run_id"]
    for path, sent in [
        (f"/threads/{thread}/runs", {**body, "input": {"n": 1}}),
        (f"/threads/{other}/runs", body),
        ("/runs", body),
        (f"/threads/{thread}/runs", {**body, "assistant_id": "nested"}),
    ]:
        assert native.post(path, sent, idempotency_key="k-1").status_code == 409, path
    assert len(runs_of(native, thread)) == 1
    assert runs_of(native, other) == []


def test_r03_a_key_that_is_cancelled_before_its_run_keeps_it_from_starting(native: Caller) -> None:
    thread = native.thread()
    assert native.post("/runs/cancel", {"idempotency_key": "never"}).status_code == 202
    reply = native.post(
        f"/threads/{thread}/runs", {"assistant_id": "walking", "input": {"n": 0}}, idempotency_key="never"
    )
    assert reply.status_code == 200, reply.text
    assert native.ended(thread, reply.json()["run_id"]) == "interrupted"
    assert steps(native.server, thread) == []


# --- R06


def asked(native: Caller) -> tuple[str, str]:
    """A thread that waits for an answer, and the id of its question."""
    thread = native.thread()
    return thread, native.wait(thread, "asking", {"n": 0})["__interrupt__"][0]["id"]


def said(native: Caller, thread: str) -> list[str]:
    return [word for word in native.state(thread)["values"]["log"] if word.startswith("said")]


@pytest.mark.parametrize("by_id", [False, True])
def test_r06_an_answer_given_twice_counts_once(native: Caller, by_id: bool) -> None:
    thread, question = asked(native)
    for number in range(2):
        answer = {question: f"yes {number}"} if by_id else f"yes {number}"
        reply = native.post(f"/threads/{thread}/runs/wait", {"assistant_id": "asking", "command": {"resume": answer}})
        assert reply.status_code in (200, 404, 409, 422), reply.text
    assert said(native, thread) == ["said yes 0"]


@pytest.mark.parametrize("strategy", ["enqueue", "reject"])
def test_r06_of_two_that_answer_at_once_the_first_wins(native: Caller, strategy: str) -> None:
    thread, _ = asked(native)

    def answer(number: int) -> int:
        body = {"assistant_id": "asking", "command": {"resume": f"yes {number}"}, "multitask_strategy": strategy}
        return native.post(f"/threads/{thread}/runs/wait", body).status_code

    told = together(answer, range(6))
    assert 200 in told
    assert set(told) <= {200, 404, 409}
    assert len(said(native, thread)) == 1
    assert steps(native.server, thread).count("enter") == 2
    assert native.get(f"/threads/{thread}").json()["status"] == "idle"


def test_r06_an_answer_with_a_wrong_id_answers_nothing(native: Caller) -> None:
    thread, _ = asked(native)
    for wrong in ({"0" * 32: "yes"}, {UNKNOWN: "yes"}):
        native.post(f"/threads/{thread}/runs/wait", {"assistant_id": "asking", "command": {"resume": wrong}})
    assert "said yes" not in said(native, thread)


def test_r06_an_answer_after_a_cancel_finds_the_question_as_it_was(native: Caller) -> None:
    thread, question = asked(native)
    before = len(steps(native.server, thread))
    run = native.run(thread, "slow", {"n": 0})
    eventually(lambda: len(steps(native.server, thread)) > before, "the start of another agent's run")
    assert native.cancel(thread, run, "rollback") == 200
    assert native.get(f"/threads/{thread}").json()["interrupts"]
    command = {"resume": {question: "yes"}}
    assert native.wait(thread, "asking", command=command)["n"] == 2
    assert said(native, thread) == ["said yes"]


def test_all_of_it_left_the_server_well(native: Caller) -> None:
    assert "crowd" not in steps(native.server)
    native.well()

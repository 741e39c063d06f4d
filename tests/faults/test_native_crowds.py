"""Many callers want the same thing at once: one thread, one key, one answer, one log."""

from __future__ import annotations

import json
import random
import socket
from typing import Any

import pytest

from tests.e2e.callers import address
from tests.faults.attacker import KEYS
from tests.faults.natives import ENDED, UNKNOWN, Caller, eventually, one_end, steps, together

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
    run = native.run(thread, "slow", {"n": 0})
    assert native.cancel(thread, run, "rollback") == 200
    assert native.get(f"/threads/{thread}").json()["interrupts"]
    command = {"resume": {question: "yes"}}
    assert native.wait(thread, "asking", command=command)["n"] == 2
    assert said(native, thread) == ["said yes"]


# --- C12 - C14


def test_c12_ten_tail_one_run_and_a_slow_one_delays_nobody(native: Caller) -> None:
    thread = native.thread()
    given = {"messages": "gate c12\nflood 300\nsay end"}
    run = native.run(thread, "actor", given, stream_mode=["messages-tuple"])
    path = f"/threads/{thread}/runs/{run}/stream"
    host, port = address(native.server)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((host, port))
    slow.sendall(
        f"GET {path} HTTP/1.1\r\nhost: x\r\nlast-event-id: -1\r\nauthorization: Bearer {KEYS['a']}\r\n\r\n".encode()
    )
    assert slow.recv(16).startswith(b"HTTP/1.1 200")

    def tail(number: int) -> list[Any]:
        with native.stream("GET", path, last_event_id="-1") as stream:
            stream.until("event: metadata")
            if number == 0:
                native.wait(native.thread(), "actor", {"messages": "open c12"})
            return stream.rest()

    heard = together(tail, range(9))
    slow.close()
    assert all(events == heard[0] for events in heard)
    assert heard[0][-1].data[0]["content"] == "end" or "end" in json.dumps(heard[0][-1].data)
    assert [entry["event"]["type"] for entry in native.log(run)].count("run_started") == 1


@pytest.mark.parametrize("agent", ["nested", "actor"])
def test_c13_a_hundred_resumes_at_random_places_make_up_the_log(native: Caller, agent: str) -> None:
    thread = native.thread()
    given = {"n": 0} if agent == "nested" else {"messages": "say a b c d e\ntool\nsay f g"}
    body = {"assistant_id": agent, "input": given, "stream_mode": ["values", "updates", "messages-tuple"]}
    with native.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
        whole = stream.rest()
    path = f"/threads/{thread}/runs/{stream.run}/stream"
    ids = [event.id for event in whole]
    assert len(set(ids)) == len(ids) > 5
    places = random.Random(13)

    def resumed(_: int) -> None:
        at = places.randrange(len(ids))
        with native.stream("GET", path, last_event_id=ids[at]) as rest:
            assert rest.rest() == whole[at + 1 :]

    together(resumed, range(100))


def test_c13_a_reader_that_leaves_after_each_event_misses_none(native: Caller) -> None:
    thread = native.thread()
    body = {"assistant_id": "actor", "input": {"messages": "drip 40"}, "stream_mode": ["messages-tuple"]}
    run = native.made(f"/threads/{thread}/runs", body)["run_id"]
    path, last, seen = f"/threads/{thread}/runs/{run}/stream", "-1", []
    for _ in range(200):
        with native.stream("GET", path, last_event_id=last) as stream:
            stream.until("\r\n\r\n", 2)
            events = [event for event in stream.events if event.id]
        if not events:
            break
        seen += events
        last = events[-1].id
    with native.stream("GET", path, last_event_id="-1") as stream:
        assert seen == stream.rest()


CURSORS = [
    "-2",
    "x",
    "1.5.5",
    "9" * 400,
    "1e3",
    "0x1",
    "١",
    "-1; x",
    "null",
    "[]",
    "1795215538373-0",
    "7:7",
    "NaN",
    "%00",
]


@pytest.mark.parametrize("cursor", CURSORS)
@pytest.mark.parametrize("live", [False, True])
def test_c14_a_cursor_of_garbage_is_refused_or_the_end(native: Caller, cursor: str, live: bool) -> None:
    thread = native.thread()
    run = native.run(thread, "slow" if live else "walking", {"n": 0})
    if not live:
        native.ended(thread, run)
    where = [f"/threads/{thread}/runs/{run}/stream", f"/runs/{run}/stream", f"/api/threads/{thread}/runs/{run}/join"]
    for path in [*where, f"/threads/{thread}/stream", f"/api/threads/{thread}/stream"]:
        reply = native.http.get(path, headers={"last-event-id": cursor.encode()})
        assert reply.status_code == 422, (path, reply.text)
        assert reply.json().keys() == {"detail"}
        assert len(reply.text) < 400
    for query in (
        "after_seq=-1",
        "after_seq=x",
        f"after_seq={'9' * 30}",
        "limit=0",
        "limit=x",
        "types=x",
        "wait=maybe",
    ):
        assert native.get(f"/threads/{thread}/runs/{run}/events?{query}").status_code == 422, query
    if live:
        native.cancel(thread, run)


def test_c14_a_cursor_of_the_future_or_of_another_run_does_not_hang(native: Caller) -> None:
    thread = native.thread()
    ended, live = native.run(thread, "walking", {"n": 0}), ""
    native.ended(thread, ended)
    with native.stream("GET", f"/threads/{thread}/runs/{ended}/stream", last_event_id="100000") as stream:
        assert stream.rest() == []
    live = native.run(thread, "slow", {"n": 0})
    assert native.get(f"/threads/{thread}/runs/{live}/stream", last_event_id="100000").status_code == 422
    other = native.run(native.thread(), "walking", {"n": 0})
    for place in (f"{UNKNOWN}:1", f"{other}:1", "x:1", f"{ended}:x"):
        assert native.get(f"/threads/{thread}/stream", last_event_id=place).status_code in (404, 422), place
    assert native.get(f"/threads/{thread}/runs/{live}/stream?stream_mode=nonsense").status_code == 422
    assert native.cancel(thread, live) == 200


# --- R10 - R12 through these routes


@pytest.mark.parametrize(
    "words", ["fail", "say a\nfail", "raise SystemExit", "say a\nraise KeyboardInterrupt", "spoil"]
)
def test_r12_an_agent_that_breaks_ends_in_one_error(native: Caller, words: str) -> None:
    thread = native.thread()
    body = {"assistant_id": "actor", "input": {"messages": words}}
    with native.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
        if words == "spoil":
            stream.until("event: ")
            assert native.cancel(thread, stream.run) == 200
        events = stream.rest()
    names = [event.name for event in events]
    assert names.count("error") == (0 if words == "spoil" else 1)
    assert one_end(native.log(stream.run)) == ("cancelled" if words == "spoil" else "failed")
    assert words == "spoil" or names[-1] == "error"
    native.idle(thread)
    assert native.wait(thread, "actor", {"messages": "say b"})["messages"][-1]["content"] == "b"


def test_r10_an_agent_that_swallows_its_cancel_is_left_behind(native: Caller) -> None:
    thread = native.thread()
    run = native.run(thread, "actor", {"messages": "say a\nwait swallow"})
    eventually(lambda: len(native.get(f"/runs/{run}/events").text.splitlines()) > 1, "its first word")
    assert native.cancel(thread, run) == 200
    assert one_end(native.log(run)) == "cancelled"
    assert native.wait(thread, "actor", {"messages": "say b"})["messages"][-1]["content"] == "b"


def test_all_of_it_left_the_server_well(native: Caller) -> None:
    assert "crowd" not in steps(native.server)
    native.well()

"""Readers of a log: many, slow, coming and going, lost; and agents that break under them."""

from __future__ import annotations

import json
import random
import socket
from typing import Any

import pytest

from tests.e2e.callers import address
from tests.faults.attacker import KEYS
from tests.faults.natives import UNKNOWN, Caller, one_end, steps, together
from tests.waiting import eventually


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

"""Stop means stop: a client that leaves, at whatever moment and in whatever way, and a cancel by the runs API."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import pytest

from tests.e2e.callers import (
    KEY,
    Caller,
    Story,
    asked,
    dialled,
    fetch,
    open_gate,
    reset,
    stories,
    story,
    traced,
)
from tests.e2e.house import Server
from tests.fakes.upstream import Upstream
from tests.waiting import eventually

Leave = Callable[[Caller], None]
LEAVING = pytest.mark.parametrize("leave", [Caller.reset, Caller.half_close, Caller.close], ids=["rst", "fin", "close"])
FILLING = 8000
"""Kilobytes: more than the sockets take for a client that reads nothing."""


@LEAVING
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_leaving_before_the_headers_cancels(quick: Server, leave: Leave, stream: bool) -> None:
    caller = Caller(quick, "wait", model="patient", stream=stream)
    told = story(quick, caller.mark)
    leave(caller)
    told.ends_cancelled()


@LEAVING
def test_leaving_before_the_first_token_cancels(quick: Server, leave: Leave) -> None:
    caller = Caller(quick, "wait")
    told = Story(quick, caller.run_id)
    leave(caller)
    told.ends_cancelled()


@LEAVING
def test_leaving_while_an_answer_in_one_piece_is_awaited_cancels(quick: Server, leave: Leave) -> None:
    caller = Caller(quick, "say Hel\nwait", stream=False).until(" ")
    told = Story(quick, caller.run_id)
    leave(caller)
    told.ends_cancelled()
    assert told.text == "Hel"


@LEAVING
def test_leaving_in_a_silence_cancels_and_the_log_keeps_what_was_said(quick: Server, leave: Leave) -> None:
    caller = Caller(quick, "say Hel\nwait").until("Hel").until(": ping")
    told = Story(quick, caller.run_id)
    leave(caller)
    told.ends_cancelled()
    assert told.text == "Hel"


@LEAVING
def test_leaving_between_chunks_cancels(quick: Server, leave: Leave) -> None:
    caller = Caller(quick, "drip 100000").until('"content"', times=3)
    told = Story(quick, caller.run_id)
    leave(caller)
    told.ends_cancelled()


@LEAVING
def test_leaving_while_the_server_waits_in_send_cancels(server: Server, leave: Leave) -> None:
    caller = Caller(server, f"flood {FILLING}\nwait", buffer=4096)
    told = Story(server, caller.run_id)
    eventually(lambda: len(fetch(server, f"/runs/{told.run_id}/events?after_seq={FILLING}")[1]), "the whole flood")
    leave(caller)
    told.ends_cancelled()


@LEAVING
def test_leaving_at_the_last_chunk_leaves_an_answer_or_a_cancel_but_one_end(quick: Server, leave: Leave) -> None:
    for _ in range(5):
        caller = Caller(quick, "say Hel lo").until("lo")
        told = Story(quick, caller.run_id)
        leave(caller)
        assert told.ends()["state"] in ("success", "cancelled")


def test_leaving_during_the_upload_starts_nothing(quick: Server) -> None:
    body = asked("say Hello", mark := "mark-upload")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nx-request-id: {mark}"
    for leave in (reset, lambda sock: sock.close()):
        sock = dialled(quick)
        sock.sendall(f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body[:-5])
        leave(sock)
    eventually(lambda: quick.log.count(mark) == 2, "the end of both requests")
    assert not stories(quick, mark)


def test_several_choices_are_cancelled_together(quick: Server) -> None:
    caller = Caller(quick, "say Hel\nwait", n=3).until("Hel", times=3)
    told = stories(quick, caller.mark)
    assert len(told) == 3
    caller.reset()
    for one in told:
        one.ends_cancelled()


def test_a_synchronous_agent_stops_at_its_next_word(quick: Server) -> None:
    caller = Caller(quick, "word " * 1000, model="threaded").until("word", times=3)
    told = Story(quick, caller.run_id)
    caller.reset()
    assert told.ends()["state"] == "cancelled"
    eventually(lambda: "closed" in told.steps, "the generator's `finally`")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("case", ["U01", "U02", "U17"], ids=["silent", "hanging", "speaking"])
def test_leaving_closes_the_call_to_the_upstream(quick: Server, upstream: Upstream, case: str, stream: bool) -> None:
    text = f"{time.monotonic()} case={case}"
    caller = Caller(quick, text, model="gpt", stream=stream)
    assert upstream.wait(lambda: any(request.text == text for request in upstream.requests))
    caller.reset()
    assert upstream.wait(lambda: any(request.text == text for request in upstream.stopped))


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({}, {"model": "stays"}),
        ({}, {"runwire": {"on_disconnect": "continue"}}),
        ({}, {"runwire": {"background": True}}),
        ({"x-runwire-on-disconnect": "continue"}, {}),
        ({"x-runwire-background": "true"}, {}),
    ],
    ids=["config", "field", "background", "header", "background-header"],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_run_that_shall_continue_does_and_its_answer_is_kept(
    quick: Server, headers: dict[str, str], fields: dict[str, Any], stream: bool
) -> None:
    gate = f"gate-{time.monotonic()}"
    headers = headers | {"x-request-id": gate}
    caller = Caller(quick, f"say Hel\ngate {gate}\nsay lo", headers=headers, stream=stream, **fields)
    told = story(quick, caller.mark)
    caller.reset()
    eventually(lambda: gate in quick.log, "the end of the request")
    open_gate(quick, gate)
    assert told.ends()["state"] == "success"
    assert told.text == "Hello"
    assert told.steps == ["started", "ended", "closed"]


def test_a_request_may_cancel_where_the_agent_would_continue(quick: Server) -> None:
    caller = Caller(quick, "wait", model="stays", runwire={"on_disconnect": "cancel"})
    told = Story(quick, caller.run_id)
    caller.reset()
    told.ends_cancelled()


def test_a_cancelled_stream_ends_with_what_was_sent_a_finish_chunk_and_done(quick: Server) -> None:
    caller = Caller(quick, "usage 5 7\nsay Hel\nwait").until("Hel")
    told = Story(quick, caller.run_id)
    status, body = fetch(quick, f"/runs/{told.run_id}/cancel", "POST")
    assert status in (200, 202)
    assert json.loads(body)["run_id"] == told.run_id
    caller.rest()
    assert (caller.answer, caller.ending) == ("Hel", "stop")
    told.ends_cancelled()
    assert (told.record["stop_reason"], told.record["usage"]["total_tokens"]) == ("cancelled", 12)


def test_a_cancelled_answer_in_one_piece_has_what_was_said(quick: Server) -> None:
    caller = Caller(quick, "say Hel\nwait", stream=False).until(" ")
    assert fetch(quick, f"/runs/{caller.run_id}/cancel", "POST")[0] in (200, 202)
    [choice] = caller.rest().json["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hel", "stop")


def test_a_cancel_that_waits_answers_with_the_end(quick: Server) -> None:
    caller = Caller(quick, "wait")
    status, body = fetch(quick, f"/runs/{caller.run_id}/cancel?wait=1", "POST")
    assert (status, json.loads(body)["state"]) == (200, "cancelled")
    assert caller.rest().ending == "stop"


def test_cancelling_a_finished_run_changes_nothing_and_says_its_state(quick: Server) -> None:
    caller = Caller(quick, "say Hello").rest()
    told = Story(quick, caller.run_id)
    before = told.record
    for query in ("", "?wait=1"):
        status, body = fetch(quick, f"/runs/{told.run_id}/cancel{query}", "POST")
        assert (status, json.loads(body)["state"]) == (200, "success")
    assert told.record == before
    assert told.ends()["state"] == "success"


def test_cancelling_a_group_cancels_all_of_it(quick: Server) -> None:
    caller = Caller(quick, "say Hel\nwait", n=2).until("Hel", times=2)
    assert fetch(quick, f"/runs/{caller.run_id}/cancel", "POST")[0] in (200, 202)
    caller.rest()
    assert [event["choices"][0]["finish_reason"] for event in caller.events[-3:-1]] == ["stop", "stop"]
    for one in stories(quick, caller.mark):
        one.ends_cancelled()


def test_the_first_of_many_cancels_counts_and_all_are_told_the_same(quick: Server) -> None:
    run_id = Caller(quick, "wait").run_id
    with ThreadPoolExecutor(10) as pool:
        told = pool.map(lambda _: fetch(quick, f"/runs/{run_id}/cancel?wait=1", "POST"), range(10))
        assert {(status, json.loads(body)["state"]) for status, body in told} == {(200, "cancelled")}
    Story(quick, run_id).ends_cancelled()


def test_hundreds_of_cancels_at_random_moments_leave_one_end_each(quick: Server) -> None:
    before = len(quick.log.splitlines())
    dice = random.Random(4)
    plans = [(dice.uniform(0, 0.06), dice.choice([True, True, False]), dice.choice("rfcr")) for _ in range(400)]

    def meddle(plan: tuple[float, bool, str]) -> str:
        moment, stream, way = plan
        caller = Caller(quick, "say Hel\ndrip 20\nsay lo", stream=stream)
        with suppress(OSError, HTTPException):
            if way == "c":
                run_id = caller.run_id
                time.sleep(moment)
                fetch(quick, f"/runs/{run_id}/cancel", "POST")
                caller.rest()
            else:
                time.sleep(moment)
                (caller.reset if way == "r" else caller.half_close)()
        caller.close()
        return caller.mark

    with ThreadPoolExecutor(16) as pool:
        marks = set(pool.map(meddle, plans))
    runs = {run_id for run_id, step, mark in traced(quick) if step == "started" and mark in marks}
    with ThreadPoolExecutor(4) as pool:
        states = Counter(pool.map(lambda run_id: Story(quick, run_id).ends()["state"], runs))
    assert states["cancelled"] > 100
    assert states.keys() <= {"cancelled", "success"}
    closed = Counter(run_id for run_id, step, mark in traced(quick) if step == "closed" and mark in marks)
    assert closed == Counter(runs)
    lines = [json.loads(line) for line in quick.log.splitlines()[before:]]
    assert max(Counter(line["run_id"] for line in lines if line["event"] == "run ended").values()) == 1
    assert not [line for line in lines if line["level"] == "error"]

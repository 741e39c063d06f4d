"""Silence is filled from the moment a request is taken, in a form that no client takes for an answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.e2e.callers import KEY, Caller, open_gate
from tests.e2e.house import Server
from tests.fakes.upstream import Upstream

PING = ": ping\n"


@pytest.fixture
def gate() -> str:
    return f"gate-{time.monotonic()}"


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def oldest_rule(lines: Iterable[str]) -> Iterator[Any]:
    """How openai-python read events once: a blank line is an event, whatever came before it, and its data is JSON."""
    data: list[str] = []
    for line in lines:
        if not line:
            text = "\n".join(data)
            if text == "[DONE]":
                return
            yield json.loads(text)
            data = []
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))


def test_silence_is_filled_with_comments_of_one_line(quick: Server, gate: str) -> None:
    caller = Caller(quick, f"say Hel\ngate {gate}\nsay lo").until("Hel").until(PING, times=3)
    open_gate(quick, gate)
    caller.rest()
    assert (caller.answer, caller.ending) == ("Hello", "stop")
    assert PING + PING in caller.text
    assert PING + "\n" not in caller.text
    assert {line[:5] for line in caller.text.splitlines()} == {"data:", ": pin", ""}


def test_old_and_new_clients_read_past_the_comments(quick: Server, gate: str) -> None:
    caller = Caller(quick, f"gate {gate}\nsay Hello").until(PING, times=3)
    open_gate(quick, gate)
    caller.rest()
    chunks = list(oldest_rule(caller.text.splitlines()))
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "Hello"


def test_the_official_client_does_not_time_out_in_a_silence_that_is_filled(quick: Server) -> None:
    client = OpenAI(base_url=quick.base_url, api_key=KEY, max_retries=0, timeout=httpx.Timeout(1.0))
    chunks = list(
        client.chat.completions.create(model="actor", messages=user("say Hel\npause 1.5\nsay lo"), stream=True)
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello"


def test_after_first_byte_the_headers_go_out_with_a_ping_however_rare_pings_are(quick: Server) -> None:
    caller = Caller(quick, "wait", runwire={"keepalive": 3600}).until(PING)
    assert caller.answer == ""
    caller.close()


@pytest.mark.parametrize("model", ["actor", "prompt"])
def test_pings_come_from_the_start_though_the_agent_has_not_said_a_word(quick: Server, model: str) -> None:
    caller = Caller(quick, "wait", model=model).until(PING, times=3)
    assert caller.answer == ""
    caller.close()


def test_an_upstream_that_says_nothing_at_all_is_waited_for_under_pings(quick: Server, upstream: Upstream) -> None:
    caller = Caller(quick, "case=U01", model="gpt").until(PING, times=4)
    assert caller.response.status == 200
    caller.close()


def test_pings_may_be_chunks_that_say_nothing(quick: Server, gate: str) -> None:
    caller = Caller(quick, f"gate {gate}\nsay Hel\nsay lo", model="chunks").until('"content":""', times=4)
    open_gate(quick, gate)
    caller.rest()
    assert ": ping" not in caller.text
    assert (caller.answer, caller.ending) == ("Hello", "stop")
    *chunks, _ = caller.events
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks].count("assistant") == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert len({chunk["id"] for chunk in chunks}) == 1


@pytest.mark.parametrize(
    ("model", "headers", "fields"),
    [
        ("mute", {}, {}),
        ("actor", {}, {"runwire": {"keepalive": False}}),
        ("actor", {"x-runwire-keepalive": "off"}, {}),
    ],
    ids=["config", "field", "header"],
)
def test_pings_can_be_switched_off(quick: Server, model: str, headers: dict[str, str], fields: dict[str, Any]) -> None:
    caller = Caller(quick, "say Hel\npause 0.3\nsay lo", model=model, headers=headers, **fields).rest()
    assert "ping" not in caller.text
    assert caller.answer == "Hello"


def test_an_answer_in_one_piece_is_preceded_by_white_space_where_that_is_configured(quick: Server, gate: str) -> None:
    caller = Caller(quick, f"gate {gate}\nsay Hello", stream=False).until(" ", times=3)
    open_gate(quick, gate)
    caller.rest()
    assert caller.text.startswith("   ")
    assert caller.json["choices"][0]["message"]["content"] == "Hello"
    assert caller.response.headers["content-type"] == "application/json"


def test_without_that_nothing_is_sent_before_the_status_is_known(server: Server) -> None:
    caller = Caller(server, "pause 0.3\nfail", stream=False).rest()
    assert (caller.response.status, caller.text[0]) == (500, "{")


def test_several_choices_are_kept_alive_by_one_ping_at_a_time(quick: Server, gate: str) -> None:
    caller = Caller(quick, f"gate {gate}\nsay Hello", n=2).until(PING, times=3)
    open_gate(quick, gate)
    caller.rest()
    *chunks, done = caller.events
    assert done == "[DONE]"
    assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == {0, 1}
    assert PING + "\n" not in caller.text


@pytest.mark.parametrize("encodings", ["gzip", "br, gzip, zstd", "identity;q=0, gzip"])
def test_c10_streams_are_neither_compressed_nor_to_be_buffered(quick: Server, encodings: str) -> None:
    for stream in (True, False):
        caller = Caller(quick, "say Hel\npause 0.2\nsay lo", stream=stream, headers={"accept-encoding": encodings})
        assert "content-encoding" not in caller.response.headers
        assert caller.response.headers["cache-control"] == "no-store"
        assert caller.response.headers["x-accel-buffering"] == "no"
        kind = "text/event-stream" if stream else "application/json"
        assert caller.response.headers["content-type"].startswith(kind)
        assert "Hel" in caller.rest().text

"""Upstreams that misbehave, seen by a client of the whole server: group U of the fault catalogue."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.callers import KEY, Caller, Story, address, asked
from tests.e2e.conftest import config
from tests.e2e.house import Server, serving
from tests.fakes import faults
from tests.fakes.faults import EURO, refused
from tests.fakes.tls import behind_tls, certified
from tests.fakes.upstream import Case, Upstream, normal

SECRET = "sk-upstream-secret"
HASTY = {"idle": 0.4, "timeout_connect": 0.3}
BOTH = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def agents(upstream: str, untrusted: str, closed: int, full: int) -> dict[str, Any]:
    """One model behind the fake upstream under several settings, and some that cannot be reached."""

    def agent(base_url: str = upstream, first_byte: float = 2.0, **options: Any) -> dict[str, Any]:
        given = {"base_url": base_url, "api_key": SECRET, "model": "gpt-4o", **HASTY, **options}
        return {"adapter": "openai", "options": given, "first_byte": first_byte}

    return {
        "gpt": agent(),
        "eager": agent(first_byte=0.05),
        "calm": agent(idle=60.0),
        "brief": agent() | {"timeout": 3.0},
        "nameless": agent("http://no-such-host.invalid/v1"),
        "untrusted": agent(untrusted),
        "closed": agent(f"http://127.0.0.1:{closed}/v1"),
        "full": agent(f"http://127.0.0.1:{full}/v1"),
    }


@contextmanager
def full_host() -> Iterator[int]:
    """The port of a host that accepts nobody: its queue is full."""
    with socket.socket() as host:
        host.bind(("127.0.0.1", 0))
        host.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(host.getsockname())
        yield host.getsockname()[1]
        for one in waiting:
            one.close()


@pytest.fixture(scope="module")
def fake() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def server(fake: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("shaky")
    with full_host() as full, behind_tls(certified(folder)) as untrusted, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        named = agents(fake.url, untrusted.url, unused.getsockname()[1], full)
        chat = {"keepalive": 0.05}
        env = {"no_proxy": "*"}
        with serving(folder, config(agents=named, dialects={"chat": chat}, runs={"timeout": 20.0}), env) as running:
            yield running


def ask(server: Server, text: str, *, stream: bool, model: str = "gpt", **fields: Any) -> Caller:
    return Caller(server, text, model=model, stream=stream, **fields).rest()


def error_of(caller: Caller) -> tuple[int, str]:
    """Status and code of an answer that is an error."""
    assert "secret" not in caller.text
    assert "127.0.0.1" not in caller.text
    return caller.response.status, caller.json["error"]["code"]


def said(caller: Caller, stream: bool) -> tuple[str, str]:
    """Text and finish reason."""
    if stream:
        return caller.answer, caller.ending
    [choice] = caller.json["choices"]
    return choice["message"]["content"], choice["finish_reason"]


def breaks(server: Server, caller: Caller, stream: bool, text: str, status: int, code: str) -> None:
    """The answer broke off after this text: an error, in the stream or as the status, and the log keeps the text."""
    if stream:
        assert "secret" not in caller.text
        assert (caller.answer, caller.ending) == (text, code)
    else:
        assert error_of(caller) == (status, code)
    told = Story(server, caller.run_id)
    assert told.ends()["error"]["code"] == code
    assert told.text == text


@BOTH
def test_u01_silence_ends_at_the_set_timeout(server: Server, fake: Upstream, stream: bool) -> None:
    before = len(fake.requests)
    assert error_of(ask(server, "case=U01", stream=stream)) == (504, "llm_timeout")
    assert len(fake.requests) == before + 1
    assert fake.wait(lambda: fake.busy == 0)


def test_u01_silence_is_filled_with_pings_and_ends_with_an_error_and_done(server: Server) -> None:
    caller = ask(server, "case=U01", stream=True, model="eager")
    assert caller.text.count(": ping") > 2
    assert caller.ending == "llm_timeout"


@BOTH
def test_u02_an_upstream_that_hangs_times_out_and_its_words_are_kept(server: Server, stream: bool) -> None:
    breaks(server, ask(server, "case=U02", stream=stream), stream, "one two three ", 504, "llm_timeout")


@BOTH
@pytest.mark.parametrize("case", [faults.reset_in_json, faults.reset_in_character, faults.cut_in_json])
def test_u03_nothing_half_ever_arrives(server: Server, fake: Upstream, case: Case, stream: bool) -> None:
    fake.then(case)
    breaks(server, ask(server, "hi", stream=stream), stream, "one ", 502, "stream_incomplete")


@BOTH
def test_u03_half_a_character_in_a_whole_event_is_an_error(server: Server, fake: Upstream, stream: bool) -> None:
    fake.then(faults.half_character)
    breaks(server, ask(server, "hi", stream=stream), stream, "one ", 502, "llm_error")


@BOTH
@pytest.mark.parametrize("case", [faults.cut, faults.cut_by_close])
def test_u04_an_end_without_finish_reason_is_no_stop(server: Server, fake: Upstream, case: Case, stream: bool) -> None:
    fake.then(case)
    breaks(server, ask(server, "hi", stream=stream), stream, "one two ", 502, "stream_incomplete")


@BOTH
def test_u05_done_is_the_end_though_the_socket_stays_open(server: Server, fake: Upstream, stream: bool) -> None:
    assert said(ask(server, "case=U05", stream=stream), stream) == ("one ", "stop")
    assert fake.wait(lambda: fake.busy == 0)


@BOTH
def test_u06_a_finish_reason_without_done_is_a_normal_end(server: Server, fake: Upstream, stream: bool) -> None:
    fake.then(faults.finish_and_close, faults.finish_and_reset)
    assert said(ask(server, "hi", stream=stream), stream) == ("one ", "stop")
    assert said(ask(server, "hi", stream=stream), stream) == ("one ", "length")


@BOTH
@pytest.mark.parametrize(("case", "least", "most"), [("U07-absurd", 20, 20), ("U07-date", 1, 15)])
def test_u07_a_wait_beyond_the_budget_is_passed_on(
    server: Server, case: str, least: int, most: int, stream: bool
) -> None:
    model = "gpt" if stream else "brief"
    caller = ask(server, f"case={case}", stream=stream, model=model)
    assert error_of(caller) == (429, "llm_rate_limit")
    assert least <= int(caller.response.headers["retry-after"]) <= most


@BOTH
def test_u07_a_wait_within_the_budget_is_waited_for(server: Server, fake: Upstream, stream: bool) -> None:
    before = len(fake.requests)
    fake.then(faults.limited("0.05"))
    assert said(ask(server, "hi", stream=stream), stream)[1] == "stop"
    assert len(fake.requests) == before + 2


@BOTH
def test_u08_two_failures_and_then_one_answer(server: Server, fake: Upstream, stream: bool) -> None:
    before = len(fake.requests)
    fake.then(refused(500), refused(503))
    text, finish = said(ask(server, "hi", stream=stream), stream)
    assert (text.strip(), finish) == ("You said: hi", "stop")
    assert len(fake.requests) == before + 3


@BOTH
@pytest.mark.parametrize("case", ["U09", "U09-forbidden"])
def test_u09_refused_credentials_are_nowhere_to_be_seen(server: Server, case: str, stream: bool) -> None:
    caller = ask(server, f"case={case}", stream=stream)
    assert error_of(caller) == (502, "llm_authentication")
    assert caller.response.headers["x-should-retry"] == "false"
    Story(server, caller.run_id).ends()
    for file in server.folder.iterdir():
        assert file.name == "config.yaml" or SECRET.encode() not in file.read_bytes(), file


@BOTH
@pytest.mark.parametrize(
    ("case", "text", "code"),
    [
        (faults.html, "", "llm_error"),
        (faults.garbage, "", "llm_error"),
        (faults.error_in_json, "", "llm_error"),
        (faults.error_in_stream, "one ", "llm_error"),
        (faults.error_event, "one ", "llm_error"),
    ],
)
def test_u10_what_is_no_answer_is_a_mapped_error(
    server: Server, fake: Upstream, case: Case, text: str, code: str, stream: bool
) -> None:
    fake.then(*[case] * (1 if text else 3))
    try:
        caller = ask(server, "hi", stream=stream)
        breaks(server, caller, stream and bool(text), text, 502, code)
    finally:
        fake.forget()


@BOTH
@pytest.mark.parametrize(("case", "text"), [("U11", f"one {EURO} two"), ("U11-bytes", f"one {EURO}")])
def test_u11_every_form_of_event_stream_gives_the_same(server: Server, case: str, text: str, stream: bool) -> None:
    assert said(ask(server, f"case={case}", stream=stream), stream) == (text, "stop")


@BOTH
def test_u12_a_single_huge_line_is_refused_in_bounded_memory(server: Server, stream: bool) -> None:
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    breaks(server, ask(server, "case=U12", stream=stream), stream, "one ", 502, "llm_error")
    assert process.memory_info().rss - before < 60_000_000


@BOTH
def test_u12_a_million_empty_deltas_leave_no_trace(server: Server, stream: bool) -> None:
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    caller = ask(server, "case=U12-empty", stream=stream)
    assert said(caller, stream) == ("one", "stop")
    assert process.memory_info().rss - before < 60_000_000
    assert len(Story(server, caller.run_id).events) < 10


def calls_of(caller: Caller, stream: bool) -> dict[str, tuple[str, str]]:
    """Name and arguments of the tool calls by their ids, put together as a client does."""
    if not stream:
        made = caller.json["choices"][0]["message"]["tool_calls"]
        return {call["id"]: (call["function"]["name"], call["function"]["arguments"]) for call in made}
    found: dict[int, dict[str, str]] = {}
    for event in caller.events[:-1]:
        for choice in event["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                piece = {"id": call.get("id") or "", **call["function"]}
                known = found.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
                found[call["index"]] = {name: known[name] + (piece.get(name) or "") for name in known}
    return {call["id"]: (call["name"], call["arguments"]) for call in found.values()}


@BOTH
def test_u13_tangled_tool_calls_are_put_together(server: Server, stream: bool) -> None:
    caller = ask(server, "case=U13", stream=stream)
    calls = calls_of(caller, stream)
    assert sorted(calls.values()) == [("a", '{"x":1}'), ("b", '{"y":2}')]
    assert calls["call_b"] == ("b", '{"y":2}')
    assert all(calls)
    assert said(caller, stream)[1] == "tool_calls"


@BOTH
def test_u13_a_call_without_a_name_is_a_clean_error(server: Server, fake: Upstream, stream: bool) -> None:
    fake.then(faults.nameless_call)
    caller = ask(server, "hi", stream=stream, model="gpt")
    assert error_of(caller) == (502, "llm_error")


@BOTH
@pytest.mark.parametrize(
    ("model", "status", "code", "words"),
    [
        ("nameless", 502, "llm_error", "resolved"),
        ("untrusted", 502, "llm_error", "TLS certificate"),
        ("closed", 502, "llm_error", "refused the connection"),
        ("full", 504, "llm_timeout", "did not accept the connection in time"),
    ],
)
def test_u14_an_upstream_that_cannot_be_reached_is_told_apart(
    server: Server, model: str, status: int, code: str, words: str, stream: bool
) -> None:
    caller = ask(server, "hi", stream=stream, model=model)
    assert error_of(caller) == (status, code)
    assert words in caller.json["error"]["message"], caller.text


@BOTH
def test_u15_a_redirect_is_not_followed(server: Server, fake: Upstream, stream: bool) -> None:
    with Upstream() as other:
        fake.then(refused(307, headers={"location": f"{other.url}/chat/completions"}))
        caller = ask(server, "hi", stream=stream)
        assert error_of(caller) == (502, "llm_error")
        assert caller.response.headers["x-should-retry"] == "false"
        assert not other.requests


@BOTH
def test_u16_nothing_is_asked_again_after_the_first_word(server: Server, fake: Upstream, stream: bool) -> None:
    before = len(fake.requests)
    fake.then(faults.reset_in_json, normal)
    breaks(server, ask(server, "hi", stream=stream), stream, "one ", 502, "stream_incomplete")
    assert len(fake.requests) == before + 1
    assert said(ask(server, "hi", stream=stream), stream)[1] == "stop"


def test_u17_a_thousand_cancelled_requests_leave_no_connection(server: Server, fake: Upstream) -> None:
    before, stopped = fake.open, len(fake.stopped)
    host, port = address(server)
    body = asked("case=U02", "mark-u17", model="calm")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    async def leave() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request)
        await reader.readuntil(b"three")
        writer.transport.abort()

    async def all_leave() -> None:
        for _ in range(5):
            await asyncio.gather(*(leave() for _ in range(200)))

    asyncio.run(all_leave())
    assert fake.wait(lambda: len(fake.stopped) == stopped + 1000 and fake.busy == 0)
    assert fake.wait(lambda: fake.open <= before)
    assert said(ask(server, "hi", stream=True, model="calm"), True)[1] == "stop"


def test_all_of_it_left_the_server_well(server: Server, fake: Upstream) -> None:
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert not [line for line in lines if line["level"] == "error"]
    assert server.stop() == 0

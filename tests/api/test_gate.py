from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from proxy.settings import Key, RequestLimits
from proxy.settings import Server as ServerSettings
from tests.api.scripted import KEYS, OTHER, House, visit
from tests.api.serving import KEY, Answer, Probe, answers, ask, gated, head, opened, rest, served, settings

AUTH = {"authorization": f"Bearer {KEY}"}
KEPT = {"connection": "keep-alive"}
"""Closing at once behind an early answer resets the connection, and the answer may be lost on the way."""


@pytest.fixture(scope="module")
def probe() -> Probe:
    return Probe()


@pytest.fixture(scope="module")
def port(probe: Probe) -> Iterator[int]:
    with served(gated(probe, settings())) as port:
        yield port


def is_openai(answer: Answer, code: str) -> bool:
    error = answer.json["error"]
    return set(error) == {"message", "type", "param", "code"} and error["code"] == code


def test_a_request_with_a_key_arrives_with_its_caller_and_id(port: int, probe: Probe) -> None:
    answer = ask(port, "GET", "/v1/models")
    assert (answer.status, answer.body) == (200, b"ok")
    assert probe.states[-1]["caller"].tenant == "default"
    assert answer.headers["x-request-id"] == probe.states[-1]["request_id"]


def test_two_answers_never_share_a_request_id(port: int) -> None:
    assert len({ask(port, "GET", "/health").headers["x-request-id"] for _ in range(5)}) == 5


def test_a_sane_request_id_is_kept_and_any_other_replaced(port: int) -> None:
    assert ask(port, "GET", "/v1/x", {"X-Request-Id": "trace:7-a"}).headers["x-request-id"] == "trace:7-a"
    for bad in ("", "a b", "x" * 129, "<script>", "é"):
        answer = ask(port, "GET", "/v1/x", {"X-Request-Id": bad})
        assert answer.status == 200
        assert answer.headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/chat/completions", "/runs/x", "/nothing", "/health/", "//", "/%2e"]
)
def test_every_path_but_the_public_ones_needs_a_key(port: int, probe: Probe, path: str) -> None:
    before = len(probe.seen)
    assert ask(port, "GET", path, key="").status == 401
    assert len(probe.seen) == before


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/health?x=1"])
def test_public_paths_need_none(port: int, path: str) -> None:
    assert ask(port, "GET", path, key="").status == 200


def test_a_body_over_the_limit_is_refused_before_it_is_read(port: int, probe: Probe) -> None:
    before = len(probe.seen)
    answer = ask(port, "POST", "/v1/chat/completions", KEPT, b"{" + b" " * 200_000 + b"}")
    assert answer.status == 413
    assert is_openai(answer, "request_too_large")
    assert len(probe.seen) == before


def test_a_chunked_body_is_counted_while_it_comes(port: int) -> None:
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    answer = ask(port, "POST", "/runs", {**KEPT, "transfer-encoding": "chunked"}, chunk * 40 + b"0\r\n\r\n")
    assert answer.status == 413
    assert set(answer.json) == {"detail"}


def test_a_chunked_body_within_the_limit_is_read(port: int) -> None:
    body = b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n'
    assert ask(port, "POST", "/v1/x", {"transfer-encoding": "chunked"}, body=body).json == ["a"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_compressed_bodies_are_refused(port: int, encoding: str) -> None:
    answer = ask(port, "POST", "/v1/x", {"content-encoding": encoding}, body=b"\x1f\x8b\x08")
    assert answer.status == 415
    assert is_openai(answer, "unsupported_media_type")


def test_an_identity_encoding_is_none(port: int) -> None:
    assert ask(port, "POST", "/v1/x", {"content-encoding": "identity"}, body=b"{}").status == 200


def test_large_headers_are_refused_whether_they_come_at_once_or_drop_by_drop(port: int) -> None:
    answer = ask(port, "GET", "/v1/x", {"x-large": "y" * 70_000})
    assert answer.status == 431
    assert is_openai(answer, "headers_too_large")
    with opened(port) as sock:
        sock.sendall(b"GET /v1/x HTTP/1.1\r\nhost: x\r\n")
        with suppress(ConnectionResetError, BrokenPipeError):
            for number in range(40):
                sock.sendall(f"x-{number}: {'y' * 10_000}\r\n".encode())
        assert rest(sock)[:12] in (b"HTTP/1.1 431", b"")


def test_a_crash_is_a_500_that_tells_only_the_request_id() -> None:
    with capture_logs() as lines, served(gated(Probe(), settings())) as port:
        answer = ask(port, "GET", "/v1/crash")
    assert answer.status == 500
    assert is_openai(answer, "internal_error")
    assert answer.headers["x-request-id"] in answer.json["error"]["message"]
    assert b"secret" not in answer.body
    assert answer.headers["x-should-retry"] == "false"
    (logged,) = [line for line in lines if line["log_level"] == "error"]
    assert logged["request_id"] == answer.headers["x-request-id"]
    assert logged["exc_info"]


def test_a_crash_after_the_start_cuts_the_connection(port: int) -> None:
    with opened(port) as sock:
        sock.sendall(head("GET", "/v1/break", AUTH))
        wire = rest(sock)
    assert wire.startswith(b"HTTP/1.1 200")
    assert wire.endswith(b"\r\n\r\n")


def test_an_error_has_the_form_of_its_path(port: int) -> None:
    assert is_openai(ask(port, "GET", "/v1/x", key="wrong"), "invalid_api_key")
    assert set(ask(port, "GET", "/threads/x", key="wrong").json) == {"detail"}
    assert set(ask(port, "POST", "/completion", key="wrong").json) == {"error", "detail", "timestamp"}


def test_new_work_is_refused_while_draining_but_probes_are_not() -> None:
    with served(gated(Probe(), settings(), draining=lambda: True)) as port:
        answer = ask(port, "POST", "/v1/chat/completions", body=b"{}")
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-should-retry"] == "true"
        assert is_openai(answer, "server_shutting_down")
        assert ask(port, "GET", "/health", key="").status == 200
        assert ask(port, "GET", "/v1/models", key="wrong").status == 401


def test_each_request_is_one_line_without_query_or_key() -> None:
    with capture_logs() as lines, served(gated(Probe(), settings(api_keys=(Key(name="b", key=KEY),)))) as port:
        ask(port, "GET", "/v1/models?token=hidden", {"x-request-id": "r1"})
        ask(port, "GET", "/health", key="")
        ask(port, "GET", "/v1/models", key="wrong")
    requests = [line for line in lines if line["event"] == "request"]
    first, probe, refused = requests
    assert first.pop("ms") >= 0
    assert first == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "path": "/v1/models",
        "status": 200,
        "request_id": "r1",
        "tenant": "b",
        "run_id": "run-1",
    }
    assert probe["log_level"] == "debug"
    assert (refused["status"], refused["tenant"]) == (401, None)
    assert "hidden" not in json.dumps(lines)
    assert KEY not in json.dumps(lines)


def test_a_root_path_is_no_part_of_the_decision() -> None:
    app = gated(Probe(), settings(root_path="/proxy"))

    async def mounted(scope: dict[str, object], receive: object, send: object) -> None:
        await app({**scope, "root_path": "/proxy", "path": f"/proxy{scope['path']}"}, receive, send)  # type: ignore[arg-type]

    with served(mounted) as port:
        assert ask(port, "GET", "/health", key="").status == 200
        assert set(ask(port, "GET", "/runs/x", key="").json) == {"detail"}


def test_browsers_of_other_origins_are_kept_out_by_default(port: int) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    preflight = ask(port, "OPTIONS", "/v1/chat/completions", asked, key="")
    assert preflight.status == 401
    assert not any(name.startswith("access-control") for name in preflight.headers)
    plain = ask(port, "GET", "/v1/models", {"origin": "https://evil.example"})
    assert not any(name.startswith("access-control") for name in plain.headers)


def test_a_listed_origin_may_call_and_read_errors_too() -> None:
    with served(gated(Probe(), settings(cors=("https://app.example/",)))) as port:
        asked = {
            "origin": "https://app.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, content-type, x-stainless-lang",
        }
        preflight = ask(port, "OPTIONS", "/v1/chat/completions", asked, key="")
        assert preflight.status == 200
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        assert "x-stainless-lang" in preflight.headers["access-control-allow-headers"]
        assert "POST" in preflight.headers["access-control-allow-methods"]
        error = ask(port, "GET", "/v1/models", {"origin": "https://app.example"}, key="wrong")
        assert (error.status, error.headers["access-control-allow-origin"]) == (401, "https://app.example")
        assert "x-run-id" in error.headers["access-control-expose-headers"]
        assert error.headers["vary"] == "origin"
        other = ask(port, "OPTIONS", "/v1/x", {**asked, "origin": "https://app.example.evil.example"}, key="")
        assert other.status == 403
        assert "access-control-allow-origin" not in other.headers


def test_any_origin_never_comes_with_credentials() -> None:
    with served(gated(Probe(), settings(cors=("*",)))) as port:
        answer = ask(port, "GET", "/v1/models", {"origin": "null"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


def test_head_and_options_never_hang(port: int) -> None:
    for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"):
        assert ask(port, method, "/v1/models").status == 200
        assert ask(port, method, "/v1/models", key="").status == 401


def test_http_1_0_is_answered_and_closed(port: int) -> None:
    with opened(port) as sock:
        sock.sendall(f"GET /v1/x HTTP/1.0\r\nauthorization: Bearer {KEY}\r\n\r\n".encode())
        (answer,) = answers(rest(sock))
    assert answer.status == 200


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    last = {**AUTH, "connection": "close"}
    with opened(port) as sock:
        sock.sendall(head("GET", "/v1/a", AUTH) + head("GET", "/v1/crash", AUTH) + head("GET", "/v1/b", last))
        assert [answer.status for answer in answers(rest(sock))] == [200, 500, 200]


def test_expect_continue_is_asked_for_only_where_the_body_is_wanted(port: int) -> None:
    asked = {**AUTH, "expect": "100-continue", "content-length": "2", "connection": "close"}
    with opened(port) as sock:
        sock.sendall(head("POST", "/v1/x", asked))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"{}")
        assert answers(rest(sock))[0].status == 200
    with opened(port) as sock:
        sock.sendall(head("POST", "/v1/x", {**asked, "authorization": "Bearer wrong"}))
        assert rest(sock).startswith(b"HTTP/1.1 401")


def test_a_smuggled_request_is_never_answered(port: int, probe: Probe) -> None:
    before = len(probe.seen)
    inner = head("GET", "/v1/smuggled", AUTH)
    for extra in (
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "content-length: 4\r\ncontent-length: 5",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "content-length: +4",
        "content-length: 4, 4",
        "content-length: 0x4",
        "transfer-encoding : chunked",
        " content-length: 4",
    ):
        with opened(port) as sock:
            sock.sendall(f"POST /v1/x HTTP/1.1\r\nhost: x\r\n{extra}\r\n\r\n".encode() + b"0\r\n\r\n" + inner)
            wire = rest(sock)
        assert wire.count(b"HTTP/1.1 200") == 0
    assert ("GET", "/v1/smuggled") not in probe.seen[before:]


def test_what_cannot_be_parsed_is_a_400_in_our_form(port: int) -> None:
    for bad in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"get / HTTP/1.1\r\n\r\n"):
        with opened(port) as sock:
            sock.sendall(bad)
            (answer,) = answers(rest(sock))
        assert answer.status == 400
        assert is_openai(answer, "invalid_request")
        assert answer.headers["x-request-id"]


def test_slow_headers_and_slow_bodies_are_dropped_while_others_are_served(port: int) -> None:
    began = time.monotonic()
    slow_heads = [opened(port) for _ in range(100)]
    slow_bodies = [opened(port) for _ in range(100)]
    silent = opened(port)
    for sock in slow_heads:
        sock.sendall(b"GET /v1/x HTTP/1.1\r\nhost: x\r\nx-a")
    for sock in slow_bodies:
        sock.sendall(head("POST", "/v1/chat/completions", {**AUTH, "content-length": "100"}) + b"{")
    assert ask(port, "GET", "/v1/models").status == 200
    for sock in slow_heads + slow_bodies:
        with sock:
            (answer,) = answers(rest(sock))
        assert answer.status == 408
        assert is_openai(answer, "request_timeout")
    with silent:
        assert rest(silent) == b""
    assert time.monotonic() - began >= 0.3
    assert ask(port, "GET", "/v1/models").status == 200


def test_half_a_body_and_a_hang_up_are_no_errors_of_ours() -> None:
    with capture_logs() as lines, served(gated(Probe(), settings())) as port:
        for _ in range(20):
            with opened(port) as sock:
                sock.sendall(head("POST", "/v1/x", {**AUTH, "content-length": "100"}) + b'{"a"')
        assert ask(port, "GET", "/v1/models").status == 200
    assert not [line for line in lines if line["log_level"] in ("error", "critical")]


def test_a_kept_connection_takes_one_request_after_another(port: int) -> None:
    with opened(port) as sock:
        for _ in range(3):
            sock.sendall(head("POST", "/v1/x", {**AUTH, "content-length": "7"}) + b'{"a":1}')
            wire = b""
            while not wire.endswith(b'["a"]'):
                wire += sock.recv(4096)


def test_a13_a_tenant_with_too_many_open_requests_gets_no_more_and_others_go_on() -> None:
    async def scene(house: House) -> None:
        held = [house.ask(stream=True) for _ in range(2)]
        runs = [await house.started() for _ in held]
        refused = await house.ask()
        assert refused.status_code == 429
        assert (refused.json()["error"]["code"], refused.headers["retry-after"]) == ("too_many_runs", "1")
        other = house.ask(headers=OTHER)
        await (await house.started()).end()
        assert (await other).status_code == 200
        await runs[0].end()
        await held[0]
        again = house.ask()
        await (await house.started()).end()
        assert (await again).status_code == 200

    visit(scene, server=ServerSettings(api_keys=KEYS, drain=0, limits=RequestLimits(requests=2)))

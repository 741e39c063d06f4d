from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import openai
import pytest
from litestar import Litestar, Request, get, post
from litestar.params import FromPath, FromQuery
from structlog.testing import capture_logs

from proxy.api.errors import HANDLERS, Dialect, clean, dialect_of, reply_to
from proxy.errors import (
    BadRequest,
    Busy,
    Draining,
    Forbidden,
    NotFound,
    ProxyError,
    RateLimited,
    RunFailed,
    TooMany,
    Unauthorized,
    UnknownAgent,
    UpstreamRefused,
    UpstreamTimeout,
)
from tests.api.serving import KEY, ask, gated, head, opened, served, settings


def headers(error: ProxyError) -> dict[bytes, bytes]:
    return dict(reply_to(error, Dialect.OPENAI, "r").headers)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadRequest("x", param="messages[0].role"), 400, "invalid_request_error"),
        (Unauthorized("x"), 401, "authentication_error"),
        (Forbidden("x"), 403, "permission_error"),
        (UnknownAgent("x"), 404, "invalid_request_error"),
        (RateLimited("x"), 429, "rate_limit_error"),
        (UpstreamTimeout("x"), 504, "server_error"),
    ],
)
def test_openai_clients_get_openais_object(error: ProxyError, status: int, kind: str) -> None:
    reply = reply_to(error, Dialect.OPENAI, "r")
    assert reply.status == status
    assert msgspec.json.decode(reply.body) == {
        "error": {"message": "x", "type": kind, "param": error.param, "code": error.code}
    }


def test_other_families_get_their_own_forms() -> None:
    assert reply_to(NotFound("x"), Dialect.LANGGRAPH, "r").body == b'{"detail":"x"}'
    complaint = msgspec.json.decode(reply_to(NotFound("x"), Dialect.COMPLETION, "r").body)
    assert (complaint["error"], complaint["detail"]) == ("not_found", "x")
    assert complaint["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/models", Dialect.OPENAI),
        ("/", Dialect.OPENAI),
        ("", Dialect.OPENAI),
        ("/runsomething", Dialect.OPENAI),
        ("/runs/1/cancel", Dialect.LANGGRAPH),
        ("/threads", Dialect.LANGGRAPH),
        ("//store/x", Dialect.LANGGRAPH),
        ("/completion", Dialect.COMPLETION),
    ],
)
def test_the_first_part_of_the_path_picks_the_form(path: str, dialect: Dialect) -> None:
    assert dialect_of(path) is dialect


def test_a_wait_is_told_in_small_whole_seconds() -> None:
    waits = {None: b"1", 0.0: b"1", 1.2: b"2", 7.0: b"7", 3600.0: b"20", float("inf"): b"20", float("nan"): b"1"}
    for seconds, told in waits.items():
        assert headers(RateLimited("x", retry_after=seconds))[b"retry-after"] == told
        assert headers(Draining("x", retry_after=seconds))[b"retry-after"] == told
    assert b"retry-after" not in headers(UpstreamTimeout("x", retry_after=5))
    assert b"retry-after" not in headers(RunFailed("quota", "x", status=429))


def test_clients_are_told_whether_to_retry() -> None:
    for error in (TooMany("x"), Draining("x"), UpstreamTimeout("x"), RunFailed("c", "x", status=502, retryable=True)):
        assert headers(error)[b"x-should-retry"] == b"true"
    for error in (BadRequest("x"), Unauthorized("x"), Busy("x", run_id="1"), UpstreamRefused("x"), ProxyError("x")):
        assert headers(error)[b"x-should-retry"] == b"false"


def test_a_busy_thread_names_its_run() -> None:
    assert headers(Busy("x", run_id="run-7"))[b"x-run-id"] == b"run-7"


def test_texts_are_cut_and_always_utf8() -> None:
    assert len(clean("y" * 1000)) == 200
    body = reply_to(BadRequest("\ud800" + "y" * 5000, param="p" * 5000), Dialect.OPENAI, "r").body
    assert len(body) < 1500
    assert msgspec.json.decode(body)["error"]["message"].startswith("?y")


def test_a_status_that_is_no_error_becomes_a_500() -> None:
    assert reply_to(RunFailed("c", "x", status=200), Dialect.OPENAI, "r").status == 500


@get("/v1/fail/{number:int}")
async def fail(number: FromPath[int]) -> None:
    raise [Busy("The thread runs run-7.", run_id="run-7"), ZeroDivisionError("the secret inside")][number]


@get("/runs/typed")
async def typed(limit: FromQuery[int]) -> int:
    return limit


@post("/v1/read")
async def read(request: Request[Any, Any, Any]) -> int:
    return len(await request.body())


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = Litestar([fail, typed, read], exception_handlers=HANDLERS, openapi_config=None, logging_config=None)
    with served(gated(app, settings())) as port:
        yield port


def test_errors_of_routes_come_out_in_form(port: int) -> None:
    answer = ask(port, "GET", "/v1/fail/0")
    assert (answer.status, answer.headers["x-run-id"]) == (409, "run-7")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["error"]["code"] == "thread_busy"


def test_an_unknown_exception_is_logged_and_not_told(port: int) -> None:
    with capture_logs() as lines:
        answer = ask(port, "GET", "/v1/fail/1")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert answer.headers["x-request-id"] in answer.json["error"]["message"]
    assert any(line.get("request_id") == answer.headers["x-request-id"] and line.get("exc_info") for line in lines)


def test_unknown_paths_and_methods_speak_the_dialect(port: int) -> None:
    missing = ask(port, "GET", "/v1/nothing/" + "y" * 1000)
    assert (missing.status, missing.json["error"]["code"]) == (404, "not_found")
    assert b"y" * 201 not in missing.body
    wrong = ask(port, "DELETE", "/v1/fail/0")
    assert (wrong.status, wrong.json["error"]["code"]) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]
    assert set(ask(port, "GET", "/threads/nothing").json) == {"detail"}


def test_a_parameter_of_a_wrong_form_names_itself(port: int) -> None:
    answer = ask(port, "GET", "/runs/typed?limit=" + "y" * 1000)
    assert answer.status == 400
    assert "limit" in answer.json["detail"]
    assert b"y" * 201 not in answer.body


def test_a_client_that_leaves_while_its_body_is_read_is_no_error(port: int) -> None:
    with capture_logs() as lines:
        with opened(port) as sock:
            sock.sendall(head("POST", "/v1/read", {"authorization": f"Bearer {KEY}", "content-length": "9"}) + b"a")
        assert ask(port, "POST", "/v1/read", body=b"abc").body == b"3"
    assert not [line for line in lines if line["log_level"] == "error"]


def test_the_official_client_understands(port: int) -> None:
    async def go() -> None:
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY) as client:
            with pytest.raises(openai.NotFoundError) as missing:
                await client.models.retrieve("nothing")
            assert (missing.value.code, missing.value.type) == ("not_found", "invalid_request_error")
            assert missing.value.request_id
            with pytest.raises(openai.AuthenticationError) as wrong:
                await client.with_options(api_key="wrong").models.list()
            assert wrong.value.code == "invalid_api_key"

    asyncio.run(go())

"""How the workflow dialect takes credentials, names requests and tells errors, on all its paths."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy.api.errors import Dialect, dialect_of, reply_to
from proxy.errors import (
    BadRequest,
    Conflict,
    Draining,
    Forbidden,
    NotAllowed,
    NotFound,
    ProxyError,
    RateLimited,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    Unprocessable,
)
from proxy.settings import Server as ServerSettings
from tests.api.scripted import KEYS, House, visit
from tests.api.workflows.callers import UNKNOWN, ask, refused, told

NOBODY = {"authorization": ""}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadRequest("x"), 400, "INVALID_INPUT"),
        (Unprocessable("x"), 400, "INVALID_INPUT"),
        (TooLarge("x"), 413, "INVALID_INPUT"),
        (Unauthorized("x"), 401, "UNAUTHORIZED"),
        (Forbidden("x"), 403, "FORBIDDEN"),
        (NotFound("x"), 404, "NOT_FOUND"),
        (NotAllowed("x", allow="GET"), 405, "METHOD_NOT_ALLOWED"),
        (Conflict("x"), 409, "CONFLICT"),
        (TooMany("x"), 429, "RATE_LIMIT"),
        (RateLimited("x"), 429, "RATE_LIMIT"),
        (Unavailable("x"), 503, "SERVICE_UNAVAILABLE"),
        (Draining("x"), 503, "SERVICE_UNAVAILABLE"),
        (ProxyError("x"), 500, "INTERNAL_ERROR"),
    ],
)
def test_errors_have_the_word_that_clients_branch_on(error: ProxyError, status: int, code: str) -> None:
    reply = reply_to(error, Dialect.WORKFLOWS, "r-1")
    assert reply.status == status
    body = msgspec.json.decode(reply.body)
    assert (body.keys(), body["code"], body["message"]) == ({"error", "code", "message", "request_id"}, code, "x")
    assert isinstance(body["error"], str)
    assert (b"retry-after" in dict(reply.headers)) is (status in (429, 503))


def test_all_paths_below_the_base_speak_the_dialect() -> None:
    for path in ("/api/v1", "/api/v1/", "/api/v1/runs/x/events", "/api/v1/nothing"):
        assert dialect_of(path) is Dialect.WORKFLOWS
    assert dialect_of("/api/v10/runs") is not Dialect.WORKFLOWS


def test_paths_and_methods_that_are_not_there_are_told_in_its_form() -> None:
    async def scene(house: House) -> None:
        await refused(house, "GET", "/nothing", 404, "NOT_FOUND")
        await refused(house, "PUT", "/sessions", 405, "METHOD_NOT_ALLOWED")
        await refused(house, "POST", "/sessions", 415, "INVALID_INPUT", headers={"content-encoding": "gzip"})

    visit(scene)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-modelrelay-api-key": "sk-a"}, 200),
        ({"authorization": "Bearer sk-a"}, 200),
        ({"authorization": "Bearer sk-a", "x-modelrelay-api-key": "wrong"}, 200),
        ({"authorization": "Bearer wrong", "x-modelrelay-api-key": "sk-a"}, 401),
        ({"x-modelrelay-api-key": "wrong"}, 401),
        ({}, 401),
    ],
)
def test_a_key_comes_in_either_header_and_the_bearer_counts(headers: dict[str, str], status: int) -> None:
    async def scene(house: House) -> None:
        given = {**NOBODY, **headers, "x-modelrelay-client": "ts/9.0.0", "x-modelrelay-customer-id": "c"}
        if status == 401:
            await refused(house, "GET", "/sessions", 401, "UNAUTHORIZED", headers=given)
        else:
            await told(house, "GET", "/sessions", 200, headers=given)

    visit(scene)


def test_a_request_keeps_the_id_that_its_client_gave_it() -> None:
    async def scene(house: House) -> None:
        mine = {"x-modelrelay-request-id": "mine-1", "x-request-id": "other"}
        answer = await ask(house, "GET", "/sessions", headers=mine)
        assert answer.headers["x-modelrelay-request-id"] == answer.headers["x-request-id"] == "mine-1"
        strange = await ask(house, "GET", "/sessions", headers={"x-modelrelay-request-id": "no spaces"})
        assert strange.headers["x-modelrelay-request-id"].startswith("req-")
        error = await refused(house, "GET", f"/sessions/{UNKNOWN}", 404, "NOT_FOUND", headers=mine)
        assert error["request_id"] == "mine-1"
        assert "x-modelrelay-request-id" not in (await house.http.get("/v1/models")).headers

    visit(scene)


def test_a_browser_may_send_the_dialects_headers_and_read_its_answers() -> None:
    async def scene(house: House) -> None:
        wanted = "x-modelrelay-api-key, x-modelrelay-client, x-modelrelay-request-id"
        asked: dict[str, Any] = {
            "origin": "https://app.example.com",
            "access-control-request-method": "POST",
            "access-control-request-headers": wanted,
        }
        answer = await ask(house, "OPTIONS", "/sessions", headers={**NOBODY, **asked})
        assert (answer.status_code, answer.headers["access-control-allow-headers"]) == (200, wanted)
        listed = await ask(house, "GET", "/sessions", headers={"origin": "https://app.example.com"})
        assert "x-modelrelay-request-id" in listed.headers["access-control-expose-headers"]

    visit(scene, server=ServerSettings(api_keys=KEYS, drain=0, cors=("https://app.example.com",)))

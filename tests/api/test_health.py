from __future__ import annotations

import pytest

from tests.api.scripted import House, visit


def test_health_and_readiness_need_no_key() -> None:
    async def scene(house: House) -> None:
        del house.http.headers["authorization"]
        for path, status in [("/health", "ok"), ("/ready", "ready")]:
            answer = await house.http.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": status})

    visit(scene)


def test_a_draining_server_lives_but_is_not_ready() -> None:
    async def scene(house: House) -> None:
        await house.app.drain()
        answer = await house.http.get("/ready")
        assert answer.status_code == 503
        assert answer.json() == {"status": "server_shutting_down", "reason": "The server is shutting down."}
        assert (await house.http.get("/health")).status_code == 200

    visit(scene)


def test_a_server_whose_lease_is_lost_lives_but_is_not_ready() -> None:
    async def scene(house: House) -> None:
        house.app.store.lease.lose()
        answer = await house.http.get("/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        assert "lease" in answer.json()["reason"]
        assert (await house.http.get("/health")).status_code == 200

    visit(scene)


def test_the_root_says_what_this_is_and_where_to_go() -> None:
    async def scene(house: House) -> None:
        told = (await house.http.get("/")).json()
        assert set(told) == {"name", "version", "about", "docs", "endpoints"}
        for endpoint in told["endpoints"]:
            method, path = endpoint.split()
            answer = await house.http.request(method, path)
            assert answer.status_code not in (404, 405), endpoint

    visit(scene)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
        ("image/png", "application/json"),
    ],
)
def test_a_browser_gets_a_page(accept: str, kind: str) -> None:
    async def scene(house: House) -> None:
        answer = await house.http.get("/", headers={"accept": accept})
        assert answer.headers["content-type"] == kind
        assert b"/v1/chat/completions" in answer.content

    visit(scene)

"""Sessions, as the SDKs of the workflow dialect use them."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.model import new_id
from proxy.settings import RequestLimits
from proxy.settings import Server as ServerSettings
from tests.api.scripted import KEYS, OTHER, House, visit
from tests.api.workflows.callers import MOMENT, UNKNOWN, UUID, ask, refused, told

TEXT = [{"type": "text", "text": "Grüße \u2028"}]


async def created(house: House, **fields: Any) -> Any:
    return await told(house, "POST", "/sessions", 201, json=fields)


def test_a_session_lives_from_its_making_to_its_deletion() -> None:
    async def scene(house: House) -> None:
        session = await created(house, metadata={"name": "mine", "gone": None}, customer_id="c-1")
        assert UUID.fullmatch(session["id"])
        assert UUID.fullmatch(session["project_id"])
        assert MOMENT.fullmatch(session["created_at"])
        assert (session["customer_id"], session["metadata"], session["message_count"]) == ("c-1", {"name": "mine"}, 0)
        path = f"/sessions/{session['id']}"
        assert await told(house, "GET", path, 200) == {**session, "messages": []}
        run_id = new_id()
        first = await told(house, "POST", f"{path}/messages", 201, json={"role": "user", "content": TEXT})
        assert (first["seq"], first["role"], first["content"]) == (1, "user", TEXT)
        assert "run_id" not in first
        body = {"role": "assistant", "content": TEXT, "run_id": run_id}
        second = await told(house, "POST", f"{path}/messages", 201, json=body)
        assert (second["seq"], second["run_id"]) == (2, run_id)
        whole = await told(house, "GET", path.upper().replace("/SESSIONS", "/sessions"), 200)
        assert (whole["messages"], whole["message_count"]) == ([first, second], 2)
        assert whole["updated_at"] == second["created_at"]
        cleared = await told(house, "POST", f"{path}/clear", 200)
        assert (cleared["message_count"], cleared["metadata"]) == (0, {"name": "mine"})
        assert (await told(house, "GET", path, 200))["messages"] == []
        gone = await ask(house, "DELETE", path)
        assert (gone.status_code, gone.content) == (204, b"")
        assert (await refused(house, "DELETE", path, 404, "NOT_FOUND"))["fields"][0]["field"] == "session_id"

    visit(scene)


def test_metadata_is_merged_and_null_removes_a_key() -> None:
    async def scene(house: House) -> None:
        session = await created(house, metadata={"a": 1, "b": {"c": 2}})
        assert "customer_id" not in session
        path = f"/sessions/{session['id']}"
        patched = await told(house, "PATCH", path, 200, json={"metadata": {"a": None, "d": "e"}})
        assert patched["metadata"] == {"b": {"c": 2}, "d": "e"}
        assert (await told(house, "GET", path, 200))["metadata"] == patched["metadata"]

    visit(scene)


def test_a_list_is_paged_by_a_cursor_that_is_an_offset() -> None:
    async def scene(house: House) -> None:
        names = [(await created(house, customer_id=str(number % 2)))["id"] for number in range(5)][::-1]
        seen: list[str] = []
        page: Any = {"next_cursor": "0"}
        while "next_cursor" in page:
            page = await told(house, "GET", f"/sessions?limit=2&offset={page['next_cursor']}", 200)
            seen += [session["id"] for session in page["sessions"]]
        assert seen == names
        assert [one["id"] for one in (await told(house, "GET", "/sessions?cursor=4", 200))["sessions"]] == names[4:]
        mine = await told(house, "GET", "/sessions?customer_id=1", 200)
        assert [session["id"] for session in mine["sessions"]] == [names[1], names[3]]
        assert await told(house, "GET", "/sessions?offset=9", 200) == {"sessions": []}

    visit(scene)


def test_sessions_of_another_tenant_are_not_there() -> None:
    async def scene(house: House) -> None:
        session = await created(house)
        other: dict[str, Any] = {"headers": OTHER}
        assert await told(house, "GET", "/sessions", 200, **other) == {"sessions": []}
        path = f"/sessions/{session['id']}"
        for method, below, body in (
            ("GET", "", None),
            ("PATCH", "", {"metadata": {"a": 1}}),
            ("DELETE", "", None),
            ("POST", "/clear", None),
            ("POST", "/messages", {"role": "user", "content": TEXT}),
        ):
            await refused(house, method, path + below, 404, "NOT_FOUND", **other, json=body)
        theirs = await told(house, "POST", "/sessions", 201, **other, json={})
        assert theirs["project_id"] != session["project_id"]
        assert (await told(house, "GET", path, 200))["messages"] == []

    visit(scene)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/messages", {"role": "robot", "content": TEXT}, "role"),
        ("/messages", {"role": "user", "content": []}, "content"),
        ("/messages", {"role": "user", "content": "text"}, "content"),
        ("/messages", {"role": "user"}, "content"),
        ("/messages", {"role": "user", "content": TEXT, "run_id": "x"}, "run_id"),
    ],
)
def test_a_message_that_does_not_fit_is_refused_and_leaves_nothing(path: str, body: Any, field: str) -> None:
    async def scene(house: House) -> None:
        session = await created(house)
        error = await refused(house, "POST", f"/sessions/{session['id']}{path}", 400, "INVALID_INPUT", json=body)
        assert [place["field"] for place in error["fields"]] == [field]
        assert (await told(house, "GET", f"/sessions/{session['id']}", 200))["messages"] == []

    visit(scene)


def test_what_is_no_session_is_refused_in_a_clear_way() -> None:
    async def scene(house: House) -> None:
        for name in ("x", "1" * 36, UNKNOWN[:-1]):
            error = await refused(house, "GET", f"/sessions/{name}", 400, "INVALID_INPUT")
            assert error["fields"][0]["field"] == "session_id"
        await refused(house, "GET", f"/sessions/{UNKNOWN}", 404, "NOT_FOUND")
        for query in ("limit=0", "limit=101", "limit=x", "offset=-1", "cursor=x"):
            error = await refused(house, "GET", f"/sessions?{query}", 400, "INVALID_INPUT")
            assert error["fields"][0]["field"] == query.partition("=")[0]
        strange: tuple[Any, ...] = ({"metadata": []}, {"customer_id": ""}, {"metadata": {"a": "x" * 70_000}})
        for body in strange:
            await refused(house, "POST", "/sessions", 400, "INVALID_INPUT", json=body)
        await refused(house, "POST", "/sessions", 400, "INVALID_INPUT", content=b"{")
        assert await told(house, "GET", "/sessions", 200) == {"sessions": []}

    visit(scene)


def test_a_tenant_has_so_many_sessions_and_no_more() -> None:
    async def scene(house: House) -> None:
        first = await created(house)
        await created(house)
        await refused(house, "POST", "/sessions", 409, "CONFLICT", json={})
        assert (await ask(house, "DELETE", f"/sessions/{first['id']}")).status_code == 204
        await created(house)

    visit(scene, server=ServerSettings(api_keys=KEYS, drain=0, limits=RequestLimits(threads=2)))

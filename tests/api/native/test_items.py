"""The store's routes: bodies, statuses and refusals, at the root and under `/api`, with no graph configured."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.api.scripted import OTHER, House, visit

ITEM: dict[str, Any] = {"namespace": ["users", "7"], "key": "tea", "value": {"likes": "green"}}
PREFIXES = ["", "/api"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_item_is_put_shown_and_deleted(prefix: str) -> None:
    async def scene(house: House) -> None:
        at = f"{prefix}/store/items"
        query = {"namespace": "users.7", "key": "tea"}
        absent = await house.http.get(at, params=query)
        assert (absent.status_code, absent.content) == (200, b"null")
        put = await house.http.put(at, json=ITEM)
        assert (put.status_code, put.content) == (204, b"")
        shown = (await house.http.get(at, params=query)).json()
        times = [datetime.fromisoformat(shown.pop(name)) for name in ("created_at", "updated_at")]
        assert shown == ITEM
        assert all(time.tzinfo is not None for time in times)
        for _ in range(2):
            deleted = await house.http.request("DELETE", at, json={"namespace": ["users", "7"], "key": "tea"})
            assert (deleted.status_code, deleted.content) == (204, b"")
        assert (await house.http.get(at, params=query)).content == b"null"

    visit(scene)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_items_and_namespaces_are_searched(prefix: str) -> None:
    async def scene(house: House) -> None:
        for number, kind in enumerate(("tea", "tea", "coffee")):
            item = {"namespace": ["drinks", kind], "key": str(number), "value": {"kind": kind, "n": number}}
            assert (await house.http.put(f"{prefix}/store/items", json=item)).status_code == 204
        body = {"namespace_prefix": ["drinks"], "filter": {"kind": "tea", "n": {"$gt": 0}}, "query": "green"}
        answer = await house.http.post(f"{prefix}/store/items/search", json=body)
        [found] = answer.json()["items"]
        assert (answer.status_code, found["key"], found["namespace"], found["score"]) == (
            200,
            "1",
            ["drinks", "tea"],
            None,
        )
        everything = (await house.http.post(f"{prefix}/store/items/search", json={})).json()
        assert len(everything["items"]) == 3
        answer = await house.http.post(f"{prefix}/store/namespaces", json={"suffix": ["tea"]})
        assert (answer.status_code, answer.json()) == (200, {"namespaces": [["drinks", "tea"]]})
        answer = await house.http.post(f"{prefix}/store/namespaces", json={"prefix": None, "max_depth": 1})
        assert answer.json() == {"namespaces": [["drinks"]]}

    visit(scene)


def test_both_mounts_are_one_store() -> None:
    async def scene(house: House) -> None:
        await house.http.put("/api/store/items", json=ITEM)
        shown = await house.http.get("/store/items?namespace=users.7&key=tea")
        assert shown.json()["value"] == ITEM["value"]

    visit(scene)


def test_a05_another_key_sees_and_deletes_nothing() -> None:
    async def scene(house: House) -> None:
        await house.http.put("/store/items", json=ITEM)
        query = {"namespace": "users.7", "key": "tea"}
        for prefix in PREFIXES:
            got = await house.http.get(f"{prefix}/store/items", params=query, headers=OTHER)
            assert (got.status_code, got.content) == (200, b"null")
            for body in ({}, {"namespace_prefix": ["users"]}, {"namespace_prefix": [":default"]}):
                searched = await house.http.post(f"{prefix}/store/items/search", json=body, headers=OTHER)
                assert searched.json() == {"items": []}
            listed = await house.http.post(f"{prefix}/store/namespaces", json={}, headers=OTHER)
            assert listed.json() == {"namespaces": []}
            gone = {"namespace": ["users", "7"], "key": "tea"}
            await house.http.request("DELETE", f"{prefix}/store/items", json=gone, headers=OTHER)
        await house.http.put("/store/items", json=ITEM | {"value": {"likes": "black"}}, headers=OTHER)
        assert (await house.http.get("/store/items", params=query)).json()["value"] == ITEM["value"]

    visit(scene)


REFUSED: list[tuple[str, str, Any]] = [
    ("PUT", "/store/items", ITEM | {"namespace": ["a.b"]}),
    ("PUT", "/store/items", ITEM | {"namespace": ["a", ""]}),
    ("PUT", "/store/items", ITEM | {"namespace": []}),
    ("PUT", "/store/items", ITEM | {"namespace": ["langgraph"]}),
    ("PUT", "/store/items", ITEM | {"namespace": "users"}),
    ("PUT", "/store/items", ITEM | {"key": ""}),
    ("PUT", "/store/items", ITEM | {"key": 1}),
    ("PUT", "/store/items", ITEM | {"value": "text"}),
    ("PUT", "/store/items", ITEM | {"value": None}),
    ("PUT", "/store/items", ITEM | {"ttl": 0}),
    ("PUT", "/store/items", ITEM | {"ttl": 1e300}),
    ("PUT", "/store/items", []),
    ("DELETE", "/store/items", {"namespace": ["a"]}),
    ("DELETE", "/store/items", {"namespace": ["a.b"], "key": "k"}),
    ("GET", "/store/items", None),
    ("GET", "/store/items?namespace=a", None),
    ("GET", "/store/items?namespace=a..b&key=k", None),
    ("GET", "/store/items?namespace=&key=k", None),
    ("GET", "/store/items?namespace=a%00b&key=k", None),
    ("GET", "/store/items?namespace=a&key=k&refresh_ttl=perhaps", None),
    ("POST", "/store/items/search", {"namespace_prefix": ["a.b"]}),
    ("POST", "/store/items/search", {"filter": {"a b": 1}}),
    ("POST", "/store/items/search", {"filter": {"a": {"$in": [1]}}}),
    ("POST", "/store/items/search", {"limit": 0}),
    ("POST", "/store/items/search", {"limit": 1001}),
    ("POST", "/store/items/search", {"offset": -1}),
    ("POST", "/store/items/search", {"offset": 1 << 60}),
    ("POST", "/store/namespaces", {"prefix": ["a.b"]}),
    ("POST", "/store/namespaces", {"suffix": [""]}),
    ("POST", "/store/namespaces", {"max_depth": 0}),
    ("POST", "/store/namespaces", {"max_depth": 1 << 60}),
]


def test_what_cannot_be_honoured_is_422_with_a_detail_that_names_it() -> None:
    async def scene(house: House) -> None:
        for prefix in PREFIXES:
            for method, path, body in REFUSED:
                answer = await house.http.request(method, prefix + path, json=body)
                assert answer.status_code == 422, (method, path, body, answer.text)
                assert list(answer.json()) == ["detail"]
                assert isinstance(answer.json()["detail"], str)
                assert ":default" not in answer.text
        assert (await house.http.post("/store/namespaces", json={})).json() == {"namespaces": []}

    visit(scene)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("body", [b"", b"{", b'{"namespace": ["\\ud800"]}', b"[" * 1000], ids=repr)
def test_a_malformed_body_is_422(method: str, body: bytes) -> None:
    async def scene(house: House) -> None:
        answer = await house.http.request(method, "/store/items", content=body)
        assert (answer.status_code, list(answer.json())) == (422, ["detail"])

    visit(scene)

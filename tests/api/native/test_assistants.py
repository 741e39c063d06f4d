from __future__ import annotations

from typing import Any

import httpx2
import pytest

from proxy.model import new_id, system_id
from proxy.settings import Agent
from tests.api.scripted import OTHER, SCRIPT, House, visit

GRAPHS = "tests.adapters.native_graphs"
AGENTS = {
    "script": SCRIPT,
    "nested": Agent(adapter="langgraph", options={"graph": f"{GRAPHS}:nested"}),
    "whole": Agent(
        adapter="plain", options={"function": "tests.e2e.agents:whole", "request_keys": ["tone"]}, description="Echoes."
    ),
}
PREFIXES = ["", "/api"]
OWN = "0193e000-0000-7000-8000-000000000001"


async def ask(house: House, method: str, path: str, status: int = 200, **options: Any) -> Any:
    reply = await house.http.request(method, path, **options)
    assert reply.status_code == status, f"{method} {path}: {reply.status_code} {reply.text}"
    return reply.json() if reply.content else None


async def post(house: House, path: str, status: int = 200, **body: Any) -> Any:
    return await ask(house, "POST", path, status, json=body)


def detail(reply: Any) -> str:
    assert list(reply) == ["detail"]
    said: str = reply["detail"]
    return said


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_assistant_lives_through_its_versions(prefix: str) -> None:
    async def scene(house: House) -> None:
        made = await post(house, f"{prefix}/assistants", graph_id="script", assistant_id=OWN, context={"k": 1})
        times = {made.pop("created_at"), made.pop("updated_at")}
        assert all(time.endswith("+00:00") and len(time) == 32 for time in times)
        assert made == {
            "assistant_id": OWN,
            "graph_id": "script",
            "config": {"configurable": {"k": 1}},
            "context": {"k": 1},
            "metadata": {},
            "name": "Untitled",
            "description": None,
            "version": 1,
        }
        path = f"{prefix}/assistants/{OWN}"
        patched = await ask(house, "PATCH", path, json={"name": "Mine", "metadata": {"m": 1}, "unknown": 1})
        assert (patched["version"], patched["name"], patched["context"]) == (2, "Mine", {"k": 1})
        assert await ask(house, "GET", path) == patched
        assert [one["version"] for one in await post(house, f"{path}/versions")] == [2, 1]
        assert [one["version"] for one in await post(house, f"{path}/versions", metadata={"m": 1}, limit=5)] == [2]
        assert (await post(house, f"{path}/latest", version=1))["name"] == "Untitled"
        assert "no version 3" in detail(await post(house, f"{path}/latest", 404, version=3))
        assert await ask(house, "DELETE", path, 204) is None
        assert OWN in detail(await ask(house, "GET", path, 404))
        assert OWN in detail(await ask(house, "DELETE", path, 404))

    visit(scene)


def test_every_path_takes_an_agents_name_for_its_id() -> None:
    async def scene(house: House) -> None:
        for path in ("", "/graph", "/schemas", "/subgraphs", "/subgraphs/inner"):
            by_name = await ask(house, "GET", f"/assistants/nested{path}")
            assert by_name == await ask(house, "GET", f"/assistants/{system_id('nested')}{path}")
        assert (await ask(house, "PATCH", "/assistants/nested", json={"name": "Changed"}))["version"] == 2
        assert (await post(house, "/assistants/nested/latest", version=1))["name"] == "nested"
        assert len(await post(house, "/assistants/nested/versions")) == 2
        assert "out of the config" in detail(await ask(house, "DELETE", "/assistants/nested", 409))

    visit(scene, AGENTS)


def test_what_is_wrong_with_a_request_is_said_with_its_status() -> None:
    async def scene(house: House) -> None:
        await post(house, "/assistants", graph_id="script", assistant_id=OWN)
        missing = new_id()
        for method, path, body, status, word in (
            ("POST", "", {}, 422, "graph_id"),
            ("POST", "", {"graph_id": "scrip"}, 404, "`script`"),
            ("POST", "", {"graph_id": "script", "assistant_id": "x"}, 422, "assistant_id"),
            ("POST", "", {"graph_id": "script", "assistant_id": OWN}, 409, OWN),
            ("POST", "", {"graph_id": "script", "if_exists": "replace"}, 422, "if_exists"),
            ("POST", "", {"graph_id": "script", "context": {"a": 1}, "config": {"configurable": {"b": 1}}}, 400, "one"),
            ("POST", "", {"graph_id": "script", "config": {"recursion_limit": 0}}, 422, "recursion_limit"),
            ("POST", "/search", {"limit": 0}, 422, "limit"),
            ("POST", "/search", {"limit": 1001}, 422, "limit"),
            ("POST", "/search", {"sort_by": "metadata"}, 422, "sort_by"),
            ("POST", "/count", {"metadata": 1}, 422, "metadata"),
            ("GET", f"/{missing}", None, 404, missing),
            ("GET", f"/{missing}/graph", None, 404, missing),
            ("PATCH", f"/{missing}", {}, 404, missing),
            ("PATCH", f"/{OWN}", {"graph_id": "else"}, 404, "else"),
            ("POST", f"/{OWN}/latest", {"version": 0}, 422, "version"),
            ("POST", f"/{OWN}/versions", {"offset": -1}, 422, "offset"),
            ("GET", "/scrip", None, 422, "Did you mean `script`?"),
            ("GET", f"/{OWN}/graph?xray=deep", None, 422, "xray"),
            ("GET", f"/{OWN}/graph?xray=-1", None, 422, "xray"),
            ("GET", f"/{OWN}/subgraphs?recurse=2", None, 422, "recurse"),
            ("DELETE", f"/{OWN}?delete_threads=maybe", None, 422, "delete_threads"),
            ("GET", "/search", None, 405, "GET"),
            ("PUT", f"/{OWN}", {}, 405, "PUT"),
        ):
            options = {} if body is None else {"json": body}
            for prefix in PREFIXES:
                said = detail(await ask(house, method, f"{prefix}/assistants{path}", status, **options))
                assert word in said, f"{method} {path}: {said}"

    visit(scene)


def test_bodies_that_are_no_json_are_422() -> None:
    async def scene(house: House) -> None:
        for path in ("", "/search", "/count", "/script/versions", "/script/latest"):
            for body in (b"", b"{", b"[]", b"\xff", b"[" * 1000):
                reply = await house.http.post(f"/assistants{path}", content=body)
                assert reply.status_code == 422, f"{path} {body[:5]!r}: {reply.text}"
                assert detail(reply.json())

    visit(scene)


@pytest.mark.parametrize("name", ["os:system", "..%2Fx", "%2Fetc%2Fpasswd", "proxy.testing:Script", "%00", "a" * 4000])
def test_a11_an_id_that_is_an_import_path_or_a_file_is_unknown(name: str) -> None:
    async def scene(house: House) -> None:
        for path in ("", "/graph", "/schemas"):
            reply = await house.http.get(f"/assistants/{name}{path}")
            assert reply.status_code in (404, 422)
            assert len(detail(reply.json())) < 500

    visit(scene)


def test_a05_another_tenants_assistant_is_as_one_that_is_not_there() -> None:
    async def scene(house: House) -> None:
        await post(house, "/assistants", graph_id="script", assistant_id=OWN, name="secret")
        before = await ask(house, "GET", f"/assistants/{OWN}")

        async def other(method: str, path: str, name: str) -> tuple[int, str]:
            body = {"version": 1, "graph_id": "script"} if method in ("POST", "PATCH") else None
            reply = await house.http.request(method, path.format(name), headers=OTHER, json=body)
            return reply.status_code, reply.text.replace(name, "ID")

        for method, path in (
            ("GET", "/assistants/{}"),
            ("PATCH", "/assistants/{}"),
            ("DELETE", "/assistants/{}"),
            ("GET", "/assistants/{}/graph"),
            ("GET", "/assistants/{}/schemas"),
            ("GET", "/assistants/{}/subgraphs"),
            ("GET", "/assistants/{}/subgraphs/x"),
            ("POST", "/assistants/{}/versions"),
            ("POST", "/assistants/{}/latest"),
        ):
            for prefix in PREFIXES:
                foreign = await other(method, prefix + path, OWN)
                assert foreign == await other(method, prefix + path, new_id())
                assert foreign[0] == 404
        for path, nothing in (("search", []), ("count", 0)):
            reply = await house.http.post(f"/assistants/{path}", headers=OTHER, json={"name": "secret"})
            assert reply.json() == nothing
        theirs = {"graph_id": "script", "assistant_id": OWN}
        assert (await house.http.post("/assistants", headers=OTHER, json=theirs)).status_code == 200
        assert (await house.http.delete(f"/assistants/{OWN}", headers=OTHER)).status_code == 204
        assert await ask(house, "GET", f"/assistants/{OWN}") == before

    visit(scene)


def test_a_search_is_paged_by_its_headers_and_shows_what_is_selected() -> None:
    async def scene(house: House) -> None:
        for number in range(4):
            await post(house, "/assistants", graph_id="script", name=f"n{number}", metadata={"even": number % 2 == 0})

        async def page(**body: Any) -> httpx2.Response:
            return await house.http.post("/assistants/search", json=body)

        first = await page(limit=2)
        assert [one["name"] for one in first.json()] == ["n3", "n2"]
        assert (first.headers["x-pagination-total"], first.headers["x-pagination-next"]) == ("3", "2")
        last = await page(limit=2, offset=4)
        assert [one["name"] for one in last.json()] == ["script"]
        assert last.headers["x-pagination-total"] == "5"
        assert "x-pagination-next" not in last.headers
        beyond = await page(offset=9)
        assert (beyond.json(), beyond.headers["x-pagination-total"]) == ([], "5")
        wanted = await page(metadata={"even": True}, sort_by="name", sort_order="asc", select=["name", "nothing"])
        assert wanted.json() == [{"name": "n0"}, {"name": "n2"}]
        assert await post(house, "/assistants/count", metadata={"even": True}) == 2
        assert await post(house, "/assistants/count", graph_id="script") == 5

    visit(scene)


def test_a_graph_shows_what_it_is_made_of() -> None:
    async def scene(house: House) -> None:
        async def nodes(query: str) -> set[str]:
            return {node["id"] for node in (await ask(house, "GET", f"/assistants/nested/graph{query}"))["nodes"]}

        ends = {"__start__", "before", "after", "__end__"}
        for query, within in (
            ("", {"inner"}),
            ("?xray=false", {"inner"}),
            ("?xray=1", {"inner:deep"}),
            ("?xray=true", {"inner:deep:think", "inner:deep:ask"}),
        ):
            assert await nodes(query) == ends | within
        schemas = await ask(house, "GET", "/assistants/nested/schemas")
        assert schemas["graph_id"] == "nested"
        assert "messages" in schemas["input_schema"]["properties"]
        assert set(await ask(house, "GET", "/assistants/nested/subgraphs")) == {"inner"}
        assert set(await ask(house, "GET", "/assistants/nested/subgraphs?recurse=true")) == {"inner", "inner|deep"}
        assert set(await ask(house, "GET", "/assistants/nested/subgraphs/inner")) == {"inner"}
        assert await ask(house, "GET", "/assistants/nested/subgraphs/else") == {}

    visit(scene, AGENTS)


def test_an_agent_that_is_no_graph_shows_as_one_node_that_takes_messages() -> None:
    async def scene(house: House) -> None:
        graph = await ask(house, "GET", "/assistants/whole/graph?xray=true")
        assert graph == {
            "nodes": [
                {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}},
                {"id": "whole", "type": "runnable", "data": {"name": "whole"}},
                {"id": "__end__"},
            ],
            "edges": [{"source": "__start__", "target": "whole"}, {"source": "whole", "target": "__end__"}],
        }
        schemas = await ask(house, "GET", "/assistants/whole/schemas")
        assert schemas["graph_id"] == "whole"
        for kind in ("input", "output", "state"):
            assert schemas[f"{kind}_schema"]["required"] == ["messages"]
            assert schemas[f"{kind}_schema"]["properties"]["messages"]["type"] == "array"
        assert schemas["context_schema"]["properties"] == {"tone": {}}
        assert schemas["config_schema"] is None
        assert (await ask(house, "GET", "/assistants/script/schemas"))["context_schema"] is None
        assert await ask(house, "GET", "/assistants/whole/subgraphs?recurse=true") == {}
        assert (await ask(house, "GET", "/assistants/whole"))["description"] == "Echoes."

    visit(scene, AGENTS)

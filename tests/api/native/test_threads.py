"""Threads over HTTP, on both mounts: their records, and who may not see them."""

from __future__ import annotations

import pytest

from proxy.model import new_id
from proxy.runs.threads import METADATA
from tests.api.native.desk import AGENTS, EMPTY, HI, ONE, PREFIXES, Desk
from tests.api.scripted import OTHER, House, visit


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_thread_lives_from_its_making_to_its_end(prefix: str) -> None:
    async def scene(house: House) -> None:
        desk = Desk(house, prefix)
        own = new_id()
        made = await desk.post(thread_id=own.upper(), metadata={"a": 1}, graph_id="count", ttl=5, unknown=True)
        times = {made.pop(name) for name in ("created_at", "updated_at", "state_updated_at")}
        assert len(times) == 1
        assert times.pop().endswith("+00:00")
        assert made == {
            "thread_id": own,
            "metadata": {"a": 1, "graph_id": "count"},
            "status": "idle",
            "config": {},
            "values": None,
            "ttl": {"ttl": 5.0, "strategy": "delete"},
        }
        assert "already" in await desk.refused(409, "POST", "", json={"thread_id": own})
        assert (await desk.post(thread_id=own, if_exists="do_nothing", metadata={"b": 1}))["metadata"]["a"] == 1
        patched = await desk.ask(
            "PATCH", f"/{own}", json={"metadata": {"b": 2}, "ttl": {"ttl": 9}, "thread_id": new_id()}
        )
        assert (patched["thread_id"], patched["metadata"]) == (own, {"a": 1, "b": 2, "graph_id": "count"})
        assert patched["ttl"] == {"ttl": 9.0, "strategy": "delete"}
        assert await desk.ask("GET", f"/{own.upper()}") == patched
        minimal = {"prefer": "return=minimal"}
        assert await desk.ask("PATCH", f"/{own}", 204, json={"metadata": {"c": 3}}, headers=minimal) is None
        assert await desk.post("/count", metadata={"c": 3}) == 1
        assert await desk.ask("DELETE", f"/{own}", 204) is None
        for method in ("GET", "DELETE"):
            assert own in await desk.refused(404, method, f"/{own}")
        assert await desk.post("/count") == 0

    visit(scene, AGENTS)


@pytest.mark.parametrize("agent", ["count", "script"])
def test_a_thread_is_made_with_a_past(agent: str) -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        values, node = (ONE, "a") if agent == "count" else (HI, "script")
        steps = [
            {"updates": [{"values": values, "as_node": "__start__"}]},
            {"updates": [{"command": {"update": values}, "as_node": node}]},
        ]
        thread = await desk.post(graph_id=agent, supersteps=steps)
        past = await desk.post(f"/{thread['thread_id']}/history", limit=10)
        assert [state["metadata"]["step"] for state in past] == [1, 0] or len(past) == 2
        assert thread["values"] == past[0]["values"]
        command = {"updates": [{"command": {"goto": "a"}, "as_node": node}]}
        said = await desk.refused(422, "POST", "", json={"graph_id": agent, "supersteps": [command]})
        assert "goto" in said
        wrong = {"updates": [{"values": values, "as_node": "elsewhere"}]}
        own = new_id()
        body = {"thread_id": own, "graph_id": agent, "supersteps": [wrong]}
        await desk.refused(400, "POST", "", json=body)
        await desk.refused(404, "GET", f"/{own}")

    visit(scene, AGENTS)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_threads_are_found_page_by_page(prefix: str) -> None:
    async def scene(house: House) -> None:
        desk = Desk(house, prefix)
        names = [(await desk.post(metadata={"k": k % 2}))["thread_id"] for k in range(5)]
        found, total, following = await desk.page(limit=2)
        assert ([row["thread_id"] for row in found], total, following) == (names[:2:-1], "3", "2")
        found, total, following = await desk.page(limit=2, offset=4)
        assert ([row["thread_id"] for row in found], total, following) == (names[:1], "5", None)
        assert (await desk.page(limit=5))[1:] == ("5", None)
        assert (await desk.page(limit=5, offset=9))[0] == []
        found, _, _ = await desk.page(metadata={"k": 1}, sort_by="thread_id", sort_order="asc")
        assert [row["thread_id"] for row in found] == sorted((names[1], names[3]))
        found, _, _ = await desk.page(ids=[names[0], new_id()], status="idle")
        assert [row["thread_id"] for row in found] == [names[0]]
        assert (await desk.page(status="busy"))[0] == []
        assert (await desk.page(select=["status", "unheard"], limit=1))[0] == [{"status": "idle"}]
        await desk.ask("PATCH", f"/{names[0]}", json={"metadata": {"new": True}})
        assert (await desk.page(limit=1))[0][0]["thread_id"] == names[0]
        assert await desk.post("/count") == 5
        assert await desk.post("/count", metadata={"k": 0}) == 3
        assert await desk.ask("POST", "/count", json={"status": "error"}) == 0
        for body in (
            {"limit": 0},
            {"limit": 1001},
            {"offset": -1},
            {"sort_by": "name"},
            {"status": "x"},
            {"ids": ["x"]},
        ):
            await desk.refused(422, "POST", "/search", json=body)
        await desk.refused(422, "POST", "/count", json={"status": "x"})

    visit(scene, AGENTS)


def test_a_search_looks_into_states() -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        path = await desk.made("script")
        await desk.post(f"{path}/state", values=HI)
        await desk.made("script")
        extract = {
            "last": "values.messages[-1].content",
            "graph": "metadata.graph_id",
            "far": "values.messages[7].content",
            "odd": "values.messages.content",
            "all": "values",
        }
        found, _, _ = await desk.page(extract=extract, select=["thread_id"], sort_by="created_at", sort_order="asc")
        values = (await desk.ask("GET", path))["values"]
        nothing = dict.fromkeys(extract)
        assert found[0] == {
            "thread_id": path[1:],
            "extracted": {**nothing, "last": "hi", "graph": "script", "all": values},
        }
        assert found[1]["extracted"] == {**nothing, "graph": "script"}
        assert "status" in (await desk.page(extract={"x": "config"}))[0][0]
        assert [row["thread_id"] for row in (await desk.page(values=values))[0]] == [path[1:]]
        assert await desk.post("/count", values=values) == 1
        eleven = {str(number): "values" for number in range(11)}
        long = "values" + ".x" * 500
        for bad in (
            {"x": "status"},
            {"x": ""},
            {"x": "values..x"},
            {"x": "values[x]"},
            {"x": "values[0"},
            {"x": long},
            eleven,
        ):
            await desk.refused(422, "POST", "/search", json={"extract": bad})

    visit(scene, AGENTS)


@pytest.mark.parametrize("agent", ["count", "script"])
def test_a_copy_has_the_same_past_and_a_future_of_its_own(agent: str) -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        values = ONE if agent == "count" else HI
        path = await desk.made(agent)
        for _ in range(2):
            await desk.post(f"{path}/state", values=values)
        thread = await desk.ask("GET", path)
        copy = await desk.ask("POST", f"{path}/copy")
        assert copy["thread_id"] != thread["thread_id"]
        assert [copy[name] for name in ("metadata", "values", "status")] == [
            thread[name] for name in ("metadata", "values", "status")
        ]
        other = f"/{copy['thread_id']}"
        past, copied = [await desk.post(f"{at}/history", limit=10) for at in (path, other)]
        assert [state["values"] for state in copied] == [state["values"] for state in past]
        assert {state["checkpoint"]["thread_id"] for state in copied} == {copy["thread_id"]}
        assert {state["metadata"]["thread_id"] for state in copied} == {copy["thread_id"]}
        await desk.post(f"{other}/state", values=values)
        assert await desk.post(f"{path}/history", limit=10) == past
        assert len(await desk.post(f"{other}/history", limit=10)) == 3
        await desk.refused(404, "POST", f"/{new_id()}/copy")

    visit(scene, AGENTS)


@pytest.mark.parametrize("agent", ["count", "script"])
def test_threads_are_pruned(agent: str) -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        values = ONE if agent == "count" else HI
        path, other = await desk.made(agent), await desk.made(agent)
        for _ in range(3):
            await desk.post(f"{path}/state", values=values)
        await desk.post(f"{other}/state", values=values)
        before = await desk.ask("GET", f"{path}/state")
        asked = [path[1:], new_id()]
        assert await desk.post("/prune", thread_ids=asked, strategy="keep_latest") == {"pruned_count": 1}
        assert await desk.post(f"{path}/history", limit=10) == [before]
        await desk.post(f"{path}/state", values=values)
        assert (await desk.ask("GET", f"{path}/state"))["parent_checkpoint_id"] == before["checkpoint_id"]
        assert await desk.post("/prune", thread_ids=asked) == {"pruned_count": 1}
        await desk.refused(404, "GET", path)
        assert len(await desk.post(f"{other}/history", limit=10)) == 1
        again = await desk.post(thread_id=path[1:], graph_id=agent)
        assert await desk.ask("GET", f"/{again['thread_id']}/state") == EMPTY
        for body in ({}, {"thread_ids": ["x"]}, {"thread_ids": [], "strategy": "x"}):
            await desk.refused(422, "POST", "/prune", json=body)

    visit(scene, AGENTS)


def test_a_busy_thread_that_is_deleted_stops_its_run() -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        path = await desk.made("script")
        chat = house.ask(headers={"x-thread-id": path[1:]}, stream=True)
        run = await house.started()
        await run.say("half")
        await desk.ask("DELETE", path, 204)
        assert run.closed.is_set()
        assert (await chat).text.endswith("data: [DONE]\n\n")
        await desk.refused(404, "GET", path)
        reply = await house.http.get(f"/runs/{(await chat).headers['x-run-id']}")
        assert reply.status_code == 404

    visit(scene, AGENTS)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_another_tenants_thread_is_as_if_it_were_not_there(prefix: str) -> None:
    async def scene(house: House) -> None:
        desk = Desk(house, prefix)
        path = await desk.made("script")
        at = await desk.post(f"{path}/state", values={"messages": [{"role": "user", "content": "a secret"}]})
        missing = f"/{new_id()}"
        checkpoint = at["checkpoint_id"]
        for method, route, body in (
            ("GET", "", None),
            ("PATCH", "", {"metadata": {"x": 1}}),
            ("DELETE", "", None),
            ("POST", "/copy", None),
            ("GET", "/state", None),
            ("POST", "/state", {"values": HI}),
            ("PATCH", "/state", {"metadata": {"x": 1}}),
            ("GET", f"/state/{checkpoint}", None),
            ("POST", "/state/checkpoint", {"checkpoint": at["checkpoint"]}),
            ("GET", "/history", None),
            ("POST", "/history", {"checkpoint": at["checkpoint"]}),
        ):
            theirs = await desk.refused(404, method, f"{path}{route}", json=body, headers=OTHER)
            never = await desk.refused(404, method, f"{missing}{route}", json=body, headers=OTHER)
            assert theirs.replace(path[1:], "") == never.replace(missing[1:], "")
        own = (await desk.ask("POST", "", json={"metadata": {"graph_id": "script"}}, headers=OTHER))["thread_id"]
        where = {"checkpoint": at["checkpoint"]}
        mine = await desk.ask("POST", f"/{own}/state/checkpoint", json=where, headers=OTHER)
        assert mine["values"] == {}
        assert await desk.ask("POST", f"/{own}/history", json={"before": at["checkpoint"]}, headers=OTHER) == []
        found = await desk.ask("POST", "/search", json={"ids": [path[1:]]}, headers=OTHER)
        assert found == []
        assert await desk.ask("POST", "/count", json={}, headers=OTHER) == 1
        asked = {"thread_ids": [path[1:]]}
        assert await desk.ask("POST", "/prune", json=asked, headers=OTHER) == {"pruned_count": 0}
        same = {"thread_id": path[1:], "metadata": {"graph_id": "script"}}
        await desk.ask("POST", "", json=same, headers=OTHER)
        assert await desk.ask("GET", f"{path}/state", headers=OTHER) == EMPTY
        await desk.ask("DELETE", path, 204, headers=OTHER)
        assert "a secret" in (await house.http.get(f"{prefix}/threads{path}/state")).text

    visit(scene, AGENTS)


def test_malformed_ids_are_refused_on_every_route() -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        for method, route in (
            ("GET", ""),
            ("PATCH", ""),
            ("DELETE", ""),
            ("POST", "/copy"),
            ("GET", "/state"),
            ("POST", "/state"),
            ("PATCH", "/state"),
            ("GET", f"/state/{new_id()}"),
            ("POST", "/state/checkpoint"),
            ("GET", "/history"),
            ("POST", "/history"),
        ):
            for bad in ("abc", new_id() + "0", "%00"):
                assert "UUID" in await desk.refused(422, method, f"/{bad}{route}", json={"values": {}})
        for body in ({"thread_id": "abc"}, {"metadata": 7}, {"ttl": 0}, {"if_exists": "x"}, {"supersteps": [{}]}):
            await desk.refused(422, "POST", "", json=body)

    visit(scene, AGENTS)


def test_a_thread_that_a_chat_client_named_is_a_thread_like_any_other() -> None:
    async def scene(house: House) -> None:
        desk = Desk(house, "")
        asked = {"model": "count", "messages": [{"role": "user", "content": "hi"}]}
        await house.http.post("/v1/chat/completions", json=asked, headers={"x-thread-id": "My-talk"})
        [found] = await desk.ask("POST", "/search", json={})
        assert (await desk.ask("GET", "/My-talk")) == found
        assert (await desk.ask("GET", "/My-talk/state"))["values"] == found["values"]
        assert (await desk.ask("POST", "/My-talk/history", json={}))[0]["values"] == found["values"]
        assert await desk.ask("DELETE", "/My-talk", 204) is None
        assert "is a UUID" in await desk.refused(422, "GET", "/My-talk")

    visit(scene, AGENTS)


def test_metadata_has_a_bound() -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        path = await desk.made()
        large = {"metadata": {"x": "y" * METADATA}}
        for method, to in (("POST", ""), ("PATCH", path), ("PATCH", f"{path}/state")):
            assert str(METADATA) in await desk.refused(422, method, to, json=large)
        assert await desk.post("/count") == 1

    visit(scene, AGENTS)

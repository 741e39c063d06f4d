"""Threads over HTTP, on both mounts: records, states, histories, and who may not see them."""

from __future__ import annotations

import asyncio
from typing import Any, get_type_hints

import msgspec
import pytest
from langgraph_sdk import schema

from proxy.adapter import State, StateTask
from proxy.api.native.mounts import mounts
from proxy.model import new_id
from proxy.runs.threads import METADATA
from proxy.settings import Agent, Dialects
from tests.api.scripted import OTHER, SCRIPT, House, visit

GRAPHS = "tests.adapters.native_graphs"
AGENTS = {
    "script": SCRIPT,
    "count": Agent(adapter="langgraph", options={"graph": f"{GRAPHS}:halts"}),
    "review": Agent(adapter="langgraph", options={"graph": f"{GRAPHS}:asks"}),
}
PREFIXES = [mount.prefix for mount in mounts(Dialects())]
EMPTY = {
    "values": {},
    "next": [],
    "tasks": [],
    "metadata": None,
    "created_at": None,
    "checkpoint": None,
    "parent_checkpoint": None,
    "interrupts": [],
    "checkpoint_id": None,
    "parent_checkpoint_id": None,
}
HI = {"messages": [{"role": "user", "content": "hi"}]}
ONE = {"n": 1, "log": ["one"]}


class Desk:
    """Talks to one mount."""

    def __init__(self, house: House, prefix: str = "") -> None:
        self.http = house.http
        self.prefix = prefix

    async def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        reply = await self.http.request(method, f"{self.prefix}/threads{path}", **options)
        assert reply.status_code == status, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    async def post(self, path: str = "", status: int = 200, **body: Any) -> Any:
        return await self.ask("POST", path, status, json=body)

    async def refused(self, status: int, method: str, path: str, **options: Any) -> str:
        """What the error says, which has the one form of this API."""
        reply = await self.ask(method, path, status, **options)
        assert list(reply) == ["detail"]
        said: str = reply["detail"]
        return said

    async def made(self, agent: str = "count", **fields: Any) -> str:
        """The path of a new thread."""
        thread = await self.post(metadata={"graph_id": agent}, **fields)
        return f"/{thread['thread_id']}"

    async def page(self, **body: Any) -> tuple[list[Any], str, str | None]:
        reply = await self.http.post(f"{self.prefix}/threads/search", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json(), reply.headers["x-pagination-total"], reply.headers.get("x-pagination-next")


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


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("agent", "first", "node"), [("count", ONE, "a"), ("script", HI, "script")])
def test_a_state_is_written_read_and_branched_from(prefix: str, agent: str, first: Any, node: str) -> None:
    async def scene(house: House) -> None:
        desk = Desk(house, prefix)
        path = await desk.made(agent)
        assert await desk.ask("GET", f"{path}/state") == EMPTY
        made = await desk.post(f"{path}/state", values=first, thread_id=new_id())
        at = {"thread_id": path[1:], "checkpoint_ns": "", "checkpoint_id": made["checkpoint_id"]}
        assert made == {"checkpoint": at, "configurable": at, "checkpoint_id": made["checkpoint_id"]}
        start = await desk.ask("GET", f"{path}/state", params={"subgraphs": "true"})
        assert (start["next"], start["checkpoint"], start["checkpoint_id"]) == ([node], at, at["checkpoint_id"])
        assert start["metadata"]["source"] == "update"
        assert start["metadata"]["thread_id"] == path[1:]
        assert [task["name"] for task in start["tasks"]] == [node]
        thread = await desk.ask("GET", path)
        assert (thread["status"], thread["values"], thread["interrupts"], thread["error"]) == (
            "interrupted",
            start["values"],
            {},
            None,
        )
        await desk.post(f"{path}/state", values=first, as_node="b" if agent == "count" else node)
        end = await desk.ask("GET", f"{path}/state")
        assert (end["next"], end["parent_checkpoint_id"]) == ([], at["checkpoint_id"])
        assert (await desk.ask("GET", path))["status"] == "idle"
        for old in (
            await desk.ask("GET", f"{path}/state/{at['checkpoint_id']}"),
            await desk.post(f"{path}/state/checkpoint", checkpoint={"checkpoint_id": at["checkpoint_id"]}),
        ):
            assert {**old, "checkpoint": {"checkpoint_ns": "", **old["checkpoint"]}} == start
        assert await desk.post(f"{path}/history") == [end]
        assert await desk.post(f"{path}/history", limit=10) == [end, start]
        assert await desk.post(f"{path}/history", limit=10, before=end["checkpoint"]) == [start]
        config = {"configurable": {"checkpoint_id": end["checkpoint_id"]}}
        assert await desk.post(f"{path}/history", limit=10, before=config) == [start]
        assert await desk.post(f"{path}/history", limit=10, metadata={"step": start["metadata"]["step"]}) == [start]
        assert await desk.ask("GET", f"{path}/history") == [end]
        query = {"limit": 5, "before": end["checkpoint_id"]}
        assert await desk.ask("GET", f"{path}/history", params=query) == [start]
        await desk.post(f"{path}/state", values=first, checkpoint=at)
        assert (await desk.ask("GET", f"{path}/state"))["parent_checkpoint_id"] == at["checkpoint_id"]
        await desk.post(f"{path}/state", values=first, checkpoint_id=at["checkpoint_id"])
        assert (await desk.ask("GET", f"{path}/state"))["parent_checkpoint_id"] == at["checkpoint_id"]

    visit(scene, AGENTS)


@pytest.mark.parametrize(("shape", "official"), [(State, schema.ThreadState), (StateTask, schema.ThreadTask)])
def test_a_state_has_all_fields_of_the_official_one(shape: type[msgspec.Struct], official: Any) -> None:
    assert set(get_type_hints(official)) <= {field.encode_name for field in msgspec.structs.fields(shape)}


@pytest.mark.parametrize("agent", ["count", "script"])
def test_what_is_no_state_is_empty_and_what_is_no_update_is_refused(agent: str) -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        bare = f"/{(await desk.post())['thread_id']}"
        assert await desk.ask("GET", f"{bare}/state") == EMPTY
        assert await desk.post(f"{bare}/history") == []
        assert "no assigned graph ID" in await desk.refused(400, "POST", f"{bare}/state", json={"values": HI})
        path = await desk.made(agent)
        written = {"values": ONE if agent == "count" else HI}
        await desk.post(f"{path}/state", **written)
        for unknown in (new_id(), "abc"):
            assert (await desk.ask("GET", f"{path}/state/{unknown}"))["values"] == {}
            body = {"checkpoint": {"checkpoint_id": unknown}}
            assert (await desk.post(f"{path}/state/checkpoint", **body))["values"] == {}
        for body in ({**written, "as_node": "elsewhere"}, {"values": 7}):
            said = await desk.refused(400, "POST", f"{path}/state", json=body)
            assert "http" not in said
        for body in ({"before": "abc"}, {"limit": 0}, {"limit": 1001}, {"limit": "x"}, []):
            await desk.refused(422, "POST", f"{path}/history", json=body)
        await desk.refused(422, "GET", f"{path}/history", params={"limit": 0})
        await desk.refused(422, "GET", f"{path}/state", params={"subgraphs": "perhaps"})
        await desk.refused(422, "POST", f"{path}/state/checkpoint", json={})
        await desk.refused(422, "POST", f"{path}/state", content=b"{")
        assert (await desk.ask("GET", f"{path}/state"))["next"]

    visit(scene, AGENTS)


def test_states_show_what_was_selected() -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        path = await desk.made()
        at = (await desk.post(f"{path}/state", values=ONE))["checkpoint"]
        only = {"values": {"n": 1}, "next": ["a"]}
        select = ["next", "values.n", "values.none", "unheard"]
        assert await desk.ask("GET", f"{path}/state", params={"select": select}) == only
        assert await desk.ask("GET", f"{path}/state/{at['checkpoint_id']}", params={"select": select}) == only
        assert await desk.post(f"{path}/state/checkpoint", checkpoint=at, select=select) == only
        assert await desk.post(f"{path}/history", select=select) == [only]
        assert await desk.post(f"{path}/history", select=["values", "values.n"]) == [{"values": ONE}]

    visit(scene, AGENTS)


def test_a_state_inside_of_a_state_is_shown_when_asked_for() -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        path = await desk.made("nested")
        await desk.post(f"{path}/state", values=HI, as_node="before")
        at = {"checkpoint_ns": ""}
        where = f"{path}/state/checkpoint"
        flat = await desk.post(where, checkpoint=at)
        deep = await desk.post(where, checkpoint=at, subgraphs=True)
        assert (flat["next"], flat["tasks"][0]["state"]) == (["inner"], None)
        assert deep["tasks"][0]["name"] == "inner"
        assert [state["values"] for state in await desk.post(f"{path}/history", checkpoint=at)] == [flat["values"]]

    visit(scene, {"nested": Agent(adapter="langgraph", options={"graph": f"{GRAPHS}:nested"})})


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


def test_a_patched_state_is_a_thread_with_new_metadata() -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        path = await desk.made()
        assert await desk.ask("PATCH", f"{path}/state", 204, json={"metadata": {"k": 1}}) is None
        assert (await desk.ask("GET", path))["metadata"] == {"graph_id": "count", "k": 1}

    visit(scene, AGENTS)


def test_an_update_answers_a_question_or_leaves_it_to_be_asked_again() -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)

        async def asked() -> str:
            path = await desk.made("review")
            body = {"assistant_id": "review", "input": {"draft": "d"}}
            await desk.post(f"{path}/runs/wait", **body)
            thread = await desk.ask("GET", path)
            assert (thread["status"], len(thread["interrupts"])) == ("interrupted", 1)
            return path

        path = await asked()
        await desk.post(f"{path}/state", values={"verdict": "good"}, as_node="review")
        thread = await desk.ask("GET", path)
        assert (thread["status"], thread["interrupts"], thread["values"]["verdict"]) == ("idle", {}, "good")
        assert await house.app.manager.pauses("default", path[1:], "review") == []
        path = await asked()
        await desk.post(f"{path}/state", values={"draft": "better"}, as_node="draft_it")
        assert (await desk.ask("GET", path))["status"] == "interrupted"
        resume = {"assistant_id": "review", "command": {"resume": "fine"}}
        assert await desk.post(f"{path}/runs/wait", **resume) == {"draft": "better", "verdict": "fine"}

    visit(scene, AGENTS)


def test_a_busy_thread_is_not_written_to_and_says_why() -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        path = await desk.made("script")
        headers = {"x-thread-id": path[1:]}
        chat = house.ask(headers=headers)
        run = await house.started()
        assert (await desk.ask("GET", path))["status"] == "busy"
        assert [row["thread_id"] for row in (await desk.page(status="busy"))[0]] == [path[1:]]
        for method, to, body in (("POST", f"{path}/state", {"values": HI}), ("POST", f"{path}/copy", None)):
            reply = await house.http.request(method, f"/threads{to}", json=body)
            assert (reply.status_code, list(reply.json())) == (409, ["detail"])
            assert reply.headers["x-run-id"] in reply.json()["detail"]
        assert (await desk.ask("GET", f"{path}/state"))["next"] == ["script"]
        await run.say("done")
        await run.end()
        assert (await chat).status_code == 200
        assert (await desk.ask("GET", path))["status"] == "idle"
        await desk.post(f"{path}/state", values=HI, as_node="script")

    visit(scene, AGENTS)


def test_updates_and_runs_of_a_graph_at_once_lose_nothing() -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        path = await desk.made()
        run = {"assistant_id": "count", "input": {"n": 0, "log": []}, "multitask_strategy": "enqueue"}
        write = {"values": {"n": 100, "log": []}, "as_node": "b"}
        asks = [(f"{path}/state", write) if number % 3 else (f"{path}/runs/wait", run) for number in range(30)]
        replies = await asyncio.gather(*(house.http.post(f"/threads{to}", json=body) for to, body in asks))
        updates = [reply.status_code for reply, (to, _) in zip(replies, asks, strict=True) if to.endswith("state")]
        assert set(updates) <= {200, 409}
        assert [reply.status_code for reply in replies].count(200) == 10 + updates.count(200)
        assert (await desk.ask("GET", f"{path}/state"))["values"]["n"] == 10 + 100 * updates.count(200)

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


def test_metadata_has_a_bound() -> None:
    async def scene(house: House) -> None:
        desk = Desk(house)
        path = await desk.made()
        large = {"metadata": {"x": "y" * METADATA}}
        for method, to in (("POST", ""), ("PATCH", path), ("PATCH", f"{path}/state")):
            assert str(METADATA) in await desk.refused(422, method, to, json=large)
        assert await desk.post("/count") == 1

    visit(scene, AGENTS)

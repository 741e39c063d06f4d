"""The states of threads over HTTP: read, written, branched from, and left alone while a run has the thread."""

from __future__ import annotations

import asyncio
from typing import Any, get_type_hints

import msgspec
import pytest
from langgraph_sdk import schema

from proxy.adapter import State, StateTask
from proxy.model import new_id
from proxy.settings import Agent
from tests.api.native.desk import AGENTS, EMPTY, GRAPHS, HI, ONE, PREFIXES, Desk
from tests.api.scripted import House, visit


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

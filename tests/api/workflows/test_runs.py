"""Workflow runs over HTTP: started, followed, answered, cancelled, as clients do it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from proxy.events import Completed, ToolCallDelta, Usage
from proxy.settings import Dialects, Limits, Price, Runs, WorkflowDialect
from proxy.testing import ScriptedRun
from tests.api.scripted import OTHER, SCRIPT, House, visit
from tests.api.workflows.callers import MOMENT, UNKNOWN, UUID, ask, begun, refused, told
from tests.workflows.hall import EVENT
from tests.workflows.specs import fanout, join, llm, spec

Json = dict[str, Any]
CLIENT: Json = {"tools": [{"type": "function", "function": {"name": "look"}}], "tool_execution": {"mode": "client"}}
TAKES_TOOLS = {"script": msgspec.structs.replace(SCRIPT, client_tools="pass")}


async def start(house: House, *nodes: Json, **fields: Any) -> str:
    """The id of a new run of these nodes; `fields` stand in its body."""
    made = spec(*nodes, model="script", **fields.pop("spec", {}))
    created = await told(house, "POST", "/runs", 200, json={"spec": made, **fields})
    assert UUID.fullmatch(created["run_id"])
    return str(created["run_id"])


async def reply(house: House, *words: Any) -> ScriptedRun:
    run = await house.started()
    await run.say(*words)
    await run.end()
    return run


async def asks(house: House, *names: str) -> None:
    run = await house.started()
    calls = [ToolCallDelta(call_id=name, index=at, name="look", client=True) for at, name in enumerate(names)]
    await run.say(*calls)
    await run.end(Completed(finish_reason="tool_calls"))


async def events(house: House, name: str, until: str = "") -> list[Json]:
    """All events of a run, or those up to the first of that type; each fits the schema."""
    found: list[Json] = []
    async with house.http.stream("GET", f"/api/v1/runs/{name}/events") as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if not line:
                continue
            found.append(msgspec.json.decode(line))
            EVENT.validate(found[-1])
            if until and found[-1]["type"] == until:
                break
    assert [event["seq"] for event in found] == list(range(1, len(found) + 1))
    return found


def test_a_run_is_started_followed_and_read() -> None:
    async def scene(house: House) -> None:
        name = await start(house, llm("a", "Hi {{who}}"), llm("b", "{{a}}"), input={"who": "you"})
        first = await reply(house, "Hello", Usage(model="m", input_tokens=10, output_tokens=5))
        assert first.given.text == "Hi you"
        await reply(house, "Bye", Usage(model="m", input_tokens=10, output_tokens=5))
        log = await events(house, name)
        snapshot = await told(house, "GET", f"/runs/{name}?include=steps,tool_calls", 200)
        assert (snapshot["run_id"], snapshot["status"]) == (name, "succeeded")
        assert snapshot["plan_hash"] == log[0]["plan_hash"]
        item = {"provider_id": "openai", "model": "m", "requests": 2, "input_tokens": 20, "output_tokens": 10}
        assert snapshot["cost_summary"] == {"total_usd_cents": 4, "line_items": [{**item, "usd_cents": 4}]}
        assert snapshot["summary"]["total_llm_calls"] == 2
        assert [(node["id"], node["type"], node["status"]) for node in snapshot["nodes"]] == [
            ("a", "llm.responses", "succeeded"),
            ("b", "llm.responses", "succeeded"),
        ]
        assert MOMENT.fullmatch(snapshot["nodes"][0]["started_at"])
        assert snapshot["outputs"]["result"]["output"][0]["content"][0]["text"] == "Bye"
        assert snapshot["nodes"][1]["output"] == snapshot["outputs"]["result"]
        assert [each["node_id"] for each in snapshot["steps"]] == ["a", "b"]
        assert await told(house, "GET", f"/runs/{name}/tasks", 200) == {"tasks": []}

    visit(scene, runs=Runs(prices={"m": Price(input=1000, output=2000)}))


def test_a_run_that_goes_on_has_no_outputs_yet() -> None:
    async def scene(house: House) -> None:
        name = await start(house, llm("a"), llm("b", "{{a}}"))
        await house.started()
        snapshot = await told(house, "GET", f"/runs/{name}", 200)
        assert (snapshot["status"], snapshot["outputs"]) == ("running", {})
        assert [node["status"] for node in snapshot["nodes"]] == ["running", "pending"]
        assert "steps" not in snapshot
        assert snapshot["cost_summary"] == {"total_usd_cents": 0, "line_items": []}

    visit(scene)


def test_a_run_is_started_from_the_hash_of_a_plan() -> None:
    async def scene(house: House) -> None:
        made = spec(llm("a"), model="script")
        compiled = await told(house, "POST", "/workflows/compile", 200, json=made)
        body = {"plan_hash": compiled["plan_hash"].upper()}
        created = await told(house, "POST", "/runs", 200, json=body)
        assert created["plan_hash"] == compiled["plan_hash"]
        await reply(house, "ok")
        assert (await events(house, created["run_id"]))[-1]["type"] == "run_completed"
        await refused(house, "POST", "/runs", 404, "NOT_FOUND", json={"plan_hash": "0" * 64})

    visit(scene)


@pytest.mark.parametrize("query", [True, False])
def test_pieces_of_text_come_where_they_are_asked_for(query: bool) -> None:
    async def scene(house: House) -> None:
        body: Json = {"spec": spec(llm("a"), model="script")} | ({} if query else {"stream": True})
        created = await told(house, "POST", "/runs?stream=true" if query else "/runs", 200, json=body)
        await reply(house, "Hel", "lo")
        kinds = [event["type"] for event in await events(house, created["run_id"])]
        assert "node_output_delta" in kinds

    visit(scene)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"plan_hash": "xyz"},
        {"spec": spec(llm("a"), model="script"), "plan_hash": "0" * 64},
        {"spec": spec(llm("a", "{{x}}"), model="script")},
        {"spec": spec(llm("a"), model="script"), "input": []},
        {"spec": spec(llm("a"), model="script"), "session_id": "s"},
        {"spec": spec(llm("a"), model="script"), "options": {"idempotency_key": "k" * 300}},
    ],
)
def test_a_run_that_is_not_well_asked_for_is_refused(body: Json) -> None:
    async def scene(house: House) -> None:
        await refused(house, "POST", "/runs", 400, "INVALID_INPUT", json=body)
        assert await house.app.store.open_workflows() == []

    visit(scene)


def test_faults_of_a_spec_are_told_as_issues() -> None:
    async def scene(house: House) -> None:
        wrong = spec(llm("a", model="nobody"), llm("b", depends_on=["nobody"]), outputs={"x": "c"})
        error = await refused(house, "POST", "/runs", 400, "VALIDATION_ERROR", json={"spec": wrong})
        assert {issue["code"] for issue in error["issues"]} == {"unknown_node"}
        unknown = {"spec": spec(llm("a", model="nobody"))}
        error = await refused(house, "POST", "/runs", 400, "VALIDATION_ERROR", json=unknown)
        assert [(issue["code"], issue["path"]) for issue in error["issues"]] == [("unknown_model", "$.nodes[0].model")]
        await refused(
            house,
            "POST",
            "/runs",
            404,
            "NOT_FOUND",
            json={"spec": spec(llm("a"), model="script"), "session_id": UNKNOWN},
        )
        assert await house.app.store.open_workflows() == []

    visit(scene)


def test_models_are_overridden_for_nodes_and_subnodes() -> None:
    async def scene(house: House) -> None:
        made = spec(llm("a"), fanout("f", llm("one"), items_from_input="items"), model="nobody")
        overrides = {
            "nodes": {"a": "script"},
            "fanout_subnodes": [{"parent_id": "f", "subnode_id": "one", "model": "script"}],
        }
        body = {"spec": made, "input": {"items": [1]}, "model_override": "nobody", "model_overrides": overrides}
        created = await told(house, "POST", "/runs", 200, json=body)
        for _ in range(2):
            await reply(house, "ok")
        assert (await events(house, created["run_id"]))[-1]["type"] == "run_completed"

    visit(scene)


def test_a_spec_without_models_runs_where_the_run_names_them() -> None:
    async def scene(house: House) -> None:
        bare = {"spec": spec(llm("a"), model="")}
        error = await refused(house, "POST", "/runs", 400, "VALIDATION_ERROR", json=bare)
        assert [(issue["code"], issue["path"]) for issue in error["issues"]] == [("missing_model", "$.nodes[0].model")]
        created = await told(house, "POST", "/runs", 200, json={**bare, "model_override": "script"})
        await reply(house, "ok")
        assert (await events(house, created["run_id"]))[-1]["type"] == "run_completed"

    visit(scene)


def test_fifty_requests_with_one_key_make_one_run() -> None:
    async def scene(house: House) -> None:
        body: Json = {"spec": spec(llm("a"), model="script"), "options": {"idempotency_key": " key "}}
        answers = await asyncio.gather(*(told(house, "POST", "/runs", 200, json=body) for _ in range(50)))
        assert len({answer["run_id"] for answer in answers}) == 1
        await reply(house, "once")
        log = await events(house, answers[0]["run_id"])
        assert [event["type"] for event in log].count("node_started") == 1
        assert (await told(house, "POST", "/runs", 200, json=body))["status"] == "succeeded"
        other = {**body, "input": {"x": 1}}
        await refused(house, "POST", "/runs", 409, "CONFLICT", json=other)
        theirs = await told(house, "POST", "/runs", 200, json=body, headers=OTHER)
        assert theirs["run_id"] != answers[0]["run_id"]

    visit(scene)


def test_a_tenant_has_so_many_runs_under_way_and_no_more() -> None:
    async def scene(house: House) -> None:
        body: Json = {"spec": spec(llm("a"), model="script"), "options": {"idempotency_key": "first"}}
        first = (await told(house, "POST", "/runs", 200, json=body))["run_id"]
        child = await house.started()
        second = await start(house, llm("a", **CLIENT))
        await asks(house, "c1")
        await events(house, second, until="node_waiting")
        more = {"spec": spec(llm("a"), model="script")}
        error = await refused(house, "POST", "/runs", 429, "RATE_LIMIT", json=more)
        assert error["error"] == "rate_limit"
        answer = await ask(house, "POST", "/runs", json=more)
        assert 1 <= int(answer.headers["retry-after"]) <= 20
        assert (await told(house, "POST", "/runs", 200, json=body))["run_id"] == first, "no run is made"
        await told(house, "POST", "/runs", 200, json=more, headers=OTHER)
        await refused(house, "POST", "/runs", 404, "NOT_FOUND", json={"plan_hash": "0" * 64})
        await (await house.started()).end()
        await child.end()
        await events(house, first)
        assert (await told(house, "POST", f"/runs/{second}/cancel", 200))["status"] == "canceled"
        for _ in range(2):
            await start(house, llm("a"))
        await refused(house, "POST", "/runs", 429, "RATE_LIMIT", json=more)
        assert len(await house.app.store.open_workflows()) == 2

    few = Dialects(workflows=WorkflowDialect(concurrent=2))
    visit(scene, TAKES_TOOLS, dialects=few)


def test_of_many_runs_at_once_as_many_are_made_as_may_be() -> None:
    async def scene(house: House) -> None:
        body = {"spec": spec(llm("a"), model="script")}
        answers = await asyncio.gather(*(ask(house, "POST", "/runs", json=body) for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 17
        assert len(await house.app.store.open_workflows()) == 3

    visit(scene, dialects=Dialects(workflows=WorkflowDialect(concurrent=3)))


def test_a_run_that_could_not_be_made_takes_no_place() -> None:
    async def scene(house: House) -> None:
        body: Json = {"spec": spec(llm("a"), model="script"), "options": {"idempotency_key": "k"}}
        for _ in range(2):
            lost = {**body, "session_id": UNKNOWN, "options": None}
            await refused(house, "POST", "/runs", 404, "NOT_FOUND", json=lost)
        await told(house, "POST", "/runs", 200, json=body)
        await refused(house, "POST", "/runs", 409, "CONFLICT", json={**body, "input": {"x": 1}})
        await reply(house, "ok")

    visit(scene, dialects=Dialects(workflows=WorkflowDialect(concurrent=1)))


def test_a_caller_runs_the_tools_of_a_run() -> None:
    async def scene(house: House) -> None:
        name = await start(house, llm("a", **CLIENT))
        await asks(house, "c1", "c2")
        waits = (await events(house, name, until="node_waiting"))[-1]["waiting"]
        [pending] = (await told(house, "GET", f"/runs/{name}/pending-tools", 200))["pending"]
        assert (pending["node_id"], pending["step"]) == ("a", 0)
        assert pending["request_id"] == waits["request_id"]
        calls = [each["tool_call"] for each in pending["tool_calls"]]
        assert [call["id"] for call in calls] == ["c1", "c2"]
        assert (await told(house, "GET", f"/runs/{name}", 200))["status"] == "waiting"

        def results(*names: str, **change: Any) -> Json:
            given = [{"tool_call": {"id": each, "name": "look"}, "output": each.upper()} for each in names]
            return {"node_id": "a", "step": 0, "request_id": pending["request_id"], "results": given, **change}

        path = f"/runs/{name}/tool-results"
        await refused(house, "POST", path, 400, "INVALID_INPUT", json=results())
        await refused(house, "POST", path, 404, "NOT_FOUND", json=results("c1", node_id="b"))
        await refused(house, "POST", path, 409, "CONFLICT", json=results("c1", step=1))
        await refused(house, "POST", path, 409, "CONFLICT", json=results("c1", "c3"))
        await refused(house, "POST", path, 409, "CONFLICT", json=results("c1", "c1"))
        await refused(house, "POST", path, 404, "NOT_FOUND", json=results("c1"), headers=OTHER)
        taken = await told(house, "POST", path, 200, json=results("c1"))
        assert taken == {"accepted": 1, "status": "waiting"}
        [pending_now] = (await told(house, "GET", f"/runs/{name}/pending-tools", 200))["pending"]
        assert [each["tool_call"]["id"] for each in pending_now["tool_calls"]] == ["c2"]
        taken = await told(house, "POST", path, 200, json=results("c2"))
        assert taken == {"accepted": 1, "status": "running"}
        assert (await told(house, "GET", f"/runs/{name}/pending-tools", 200))["pending"] == []
        await refused(house, "POST", path, 404, "NOT_FOUND", json=results("c2"))
        child = await reply(house, "ok")
        assert [message.text for message in child.given.messages[-2:]] == ["C1", "C2"]
        assert (await events(house, name))[-1]["type"] == "run_completed"
        detail = await told(house, "GET", f"/runs/{name}/steps/0/tool-calls/c2", 200)
        assert detail["tool_result"]["output"] == "C2"
        await refused(house, "GET", f"/runs/{name}/steps/0/tool-calls/c3", 404, "NOT_FOUND")
        await refused(house, "GET", f"/runs/{name}/steps/x/tool-calls/c2", 400, "INVALID_INPUT")
        steps = (await told(house, "GET", f"/runs/{name}/steps", 200))["steps"]
        assert [each["step"] for each in steps] == [0, 1]

    visit(scene, TAKES_TOOLS)


def test_a_run_is_cancelled_and_stays_so() -> None:
    async def scene(house: House) -> None:
        name = await start(house, llm("a"))
        child = await house.started()
        answer = await told(house, "POST", f"/runs/{name}/cancel", 200)
        assert answer == {"run_id": name, "status": "canceled"}
        await asyncio.wait_for(child.closed.wait(), 5)
        log = await events(house, name)
        assert log[-1]["type"] == "run_canceled"
        snapshot = await told(house, "GET", f"/runs/{name}", 200)
        assert (snapshot["status"], snapshot["nodes"][0]["status"]) == ("canceled", "canceled")
        assert (await told(house, "POST", f"/runs/{name}/cancel", 200))["status"] == "canceled"

    visit(scene)


def test_a_finished_run_is_not_cancelled() -> None:
    async def scene(house: House) -> None:
        name = await start(house, llm("a"))
        await reply(house, "ok")
        await events(house, name)
        assert (await told(house, "POST", f"/runs/{name}/cancel", 200))["status"] == "succeeded"

    visit(scene)


ROUTES = [
    ("GET", ""),
    ("GET", "/pending-tools"),
    ("GET", "/steps"),
    ("GET", "/steps/0/tool-calls/c"),
    ("GET", "/tasks"),
    ("POST", "/cancel"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_runs_of_others_and_of_nobody_are_not_there(method: str, path: str) -> None:
    async def scene(house: House) -> None:
        run = await begun(house)
        await refused(house, method, f"/runs/{UNKNOWN}{path}", 404, "NOT_FOUND")
        await refused(house, method, f"/runs/{run.run_id}{path}", 404, "NOT_FOUND", headers=OTHER)
        await refused(house, method, f"/runs/nonsense{path}", 400, "INVALID_INPUT")

    visit(scene)


def test_a_failure_of_a_model_is_a_failed_run_and_no_failed_request() -> None:
    async def scene(house: House) -> None:
        name = await start(house, llm("a"), llm("b"), join("all", "j", "a", "b"))
        child = await house.started()
        await house.started()
        await child.fail(RuntimeError("secret"))
        log = await events(house, name)
        assert log[-1]["type"] == "run_failed"
        snapshot = await told(house, "GET", f"/runs/{name}", 200)
        assert [node["status"] for node in snapshot["nodes"]] == ["failed", "canceled", "canceled"]
        assert snapshot["nodes"][0]["error"]["code"] == "internal_error"
        assert "secret" not in str(snapshot)

    visit(scene)


def test_what_is_included_is_named() -> None:
    async def scene(house: House) -> None:
        run = await begun(house)
        await refused(house, "GET", f"/runs/{run.run_id}?include=all", 400, "INVALID_INPUT")

    visit(scene)


def test_a_server_that_goes_down_leaves_the_log_open_for_the_next() -> None:
    async def scene(house: House) -> None:
        name = await start(house, llm("a"))
        await house.started()
        async with house.http.stream("GET", f"/api/v1/runs/{name}/events") as answer:
            lines = answer.aiter_lines()
            while "node_started" not in await anext(lines):
                pass
            await house.app.drain()
            assert [line async for line in lines if line] == []
        [run] = await house.app.store.open_workflows()
        assert run.status == "running"

    visit(scene)


def test_limits_of_agents_hold_for_nodes_too() -> None:
    async def scene(house: House) -> None:
        name = await start(house, llm("a"), llm("b"), spec={"outputs": {"x": "a"}})
        for _ in range(2):
            await reply(house, "ok")
        assert (await events(house, name))[-1]["type"] == "run_completed"

    visit(scene, {"script": msgspec.structs.replace(SCRIPT, limits=Limits(concurrent=1))})

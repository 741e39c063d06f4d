"""Workflows over an upstream's models: what the upstream is asked, and how it counts."""

from __future__ import annotations

from typing import Any

from proxy.settings import Agent, Price, Runs
from tests.api.scripted import House, visit
from tests.api.workflows.callers import refused, told
from tests.api.workflows.test_runs import events
from tests.fakes.upstream import Upstream
from tests.workflows.specs import llm, spec

MODEL = "gpt-4o"
LOOK = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}},
}


def upstream_agent(upstream: Upstream) -> dict[str, Agent]:
    options = {"base_url": upstream.url, "api_key": "k", "models": [MODEL, "gpt-5"]}
    return {"models": Agent(adapter="openai", options=options)}


def test_an_upstream_model_calls_the_tools_of_a_workflows_caller() -> None:
    with Upstream() as upstream:

        async def scene(house: House) -> None:
            node = llm(
                "a",
                "tool please",
                model=MODEL,
                stream=True,
                tools=[LOOK],
                tool_execution={"mode": "client"},
                max_output_tokens=50,
                stop=["END"],
            )
            created = await told(house, "POST", "/runs", 200, json={"spec": spec(node)})
            path = f"/runs/{created['run_id']}"
            waits = (await events(house, created["run_id"], until="node_waiting"))[-1]
            [call] = [each["tool_call"] for each in waits["waiting"]["pending_tool_calls"]]
            assert call == {"id": "call_1", "name": "look", "arguments": '{"city": "Paris"}'}
            result = {"tool_call": {"id": call["id"], "name": call["name"]}, "output": "It rains."}
            words = waits["waiting"]
            body = {"node_id": "a", "step": words["step"], "request_id": words["request_id"], "results": [result]}
            await told(house, "POST", f"{path}/tool-results", 200, json=body)
            log = await events(house, created["run_id"])
            assert log[-1]["type"] == "run_completed"
            first, second = (request.json for request in upstream.requests if request.method == "POST")
            check_requests(first, second)
            snapshot = await told(house, "GET", path, 200)
            [item] = snapshot["cost_summary"]["line_items"]
            assert (item["model"], item["requests"]) == (MODEL, 2)
            assert item["usd_cents"] == snapshot["summary"]["total_cost_cents"] > 0

        visit(scene, upstream_agent(upstream), runs=Runs(prices={MODEL: Price(input=1000, output=1000)}))


def check_requests(first: Any, second: Any) -> None:
    assert (first["model"], first["max_tokens"], first["stop"]) == (MODEL, 50, ["END"])
    assert first["tools"] == [LOOK]
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool"]
    assert second["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"city": "Paris"}'
    assert second["messages"][2] == {"role": "tool", "content": "It rains.", "tool_call_id": "call_1"}
    assert second["tools"] == [LOOK]


def test_a_model_that_the_upstream_does_not_publish_is_an_issue() -> None:
    with Upstream() as upstream:

        async def scene(house: House) -> None:
            body = {"spec": spec(llm("a", model="gpt-6"))}
            error = await refused(house, "POST", "/runs", 400, "VALIDATION_ERROR", json=body)
            assert [issue["code"] for issue in error["issues"]] == ["unknown_model"]

        visit(scene, upstream_agent(upstream))


def test_an_upstream_that_is_away_is_a_failed_run() -> None:
    with Upstream() as upstream:
        agents = upstream_agent(upstream)

    async def scene(house: House) -> None:
        created = await told(house, "POST", "/runs", 200, json={"spec": spec(llm("a", model="gpt-5"))})
        log = await events(house, created["run_id"])
        assert log[-1]["type"] == "run_failed"

    visit(scene, agents, runs=Runs(timeout=0.3))

"""Workflow runs over the end of a real server, whether it was told to end or killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from tests.e2e.callers import KEY
from tests.e2e.conftest import hasty
from tests.e2e.house import Server, serving

Json = dict[str, Any]
OURS: Json = {"tools": [{"type": "function", "function": {"name": "look"}}], "tool_execution": {"mode": "client"}}


def caller(server: Server) -> httpx2.Client:
    return httpx2.Client(base_url=f"{server.url}/api/v1", headers={"x-modelrelay-api-key": KEY}, timeout=30)


def config() -> Json:
    base = hasty()
    base["server"]["drain"] = 0.0
    base["agents"]["actor"]["client_tools"] = "pass"
    return base


def start(http: httpx2.Client, *nodes: Json, **more: Any) -> str:
    outputs = [{"name": "result", "from": nodes[-1]["id"]}]
    spec = {"kind": "workflow", "model": "actor", "nodes": list(nodes), "outputs": outputs}
    answer = http.post("/runs", json={"spec": spec, **more})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["run_id"])


def follow(http: httpx2.Client, run_id: str, until: str = "", after: int = 0) -> list[bytes]:
    """The lines of a log, to its end or the first event of that type; each fits the published schema."""
    schema = Draft7Validator(http.get("/schemas/run_event.schema.json").json())
    found: list[bytes] = []
    with http.stream("GET", f"/runs/{run_id}/events", params={"after_seq": after}) as answer:
        for line in answer.iter_lines():
            if not line:
                continue
            event = json.loads(line)
            schema.validate(event)
            found.append(line.encode())
            assert event["seq"] == after + len(found)
            if until and event["type"] == until:
                break
    return found


def llm(name: str, user: str, **more: Any) -> Json:
    return {"id": name, "type": "llm", "user": user, **more}


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_runs_go_on_at_the_next_server(tmp_path: Path, ending: signal.Signals) -> None:
    with serving(tmp_path, config()) as server, caller(server) as http:
        flight = start(http, llm("a", "say done"), llm("b", "say half\ngate go\nsay {{a}}", stream=True))
        waits = start(http, llm("a", "client look {}", **OURS))
        before = follow(http, flight, until="node_output_delta")
        asked = json.loads(follow(http, waits, until="node_waiting")[-1])["waiting"]
        server.process.send_signal(ending)
        server.process.wait()
    with serving(tmp_path, config()) as server, caller(server) as http:
        status = http.get(f"/runs/{waits}").json()["status"]
        assert status == "waiting"
        [pending] = http.get(f"/runs/{waits}/pending-tools").json()["pending"]
        assert pending["request_id"] == asked["request_id"]
        result = {"tool_call": {"id": "call_1", "name": "look"}, "output": "a tree"}
        body = {"node_id": "a", "step": 0, "request_id": pending["request_id"], "results": [result]}
        taken = http.post(f"/runs/{waits}/tool-results", json=body)
        assert (taken.status_code, taken.json()["accepted"]) == (200, 1)
        opening = start(http, llm("a", "open go"))
        assert json.loads(follow(http, opening)[-1])["type"] == "run_completed"
        log = follow(http, flight)
        assert log[: len(before)] == before, "what was told stays as it was"
        assert json.loads(log[-1])["type"] == "run_completed"
        snapshot = http.get(f"/runs/{flight}").json()
        texts = [node["output"]["output"][0]["content"][0]["text"] for node in snapshot["nodes"]]
        assert texts == ["done", "halfdone"]
        assert http.post(f"/runs/{waits}/cancel").json()["status"] == "canceled"

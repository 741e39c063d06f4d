"""Every route of the workflow dialect, tried with another tenant's key and with none: others' things are not there."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.faults.attacker import Attacker, Reply

Json = dict[str, Any]
BASE = "/api/v1"
UNKNOWN = "01890000-0000-7000-8000-000000000000"
SECRET = "sesame-5b1e"
"""Stands in all that tenant a has."""
PUBLIC = (f"{BASE}/schemas/run_event.schema.json", f"{BASE}/schemas/workflow.schema.json")
KEY = "order-5b1e"

Op = tuple[str, str]
SAMPLES: dict[Op, Json | None] = {
    ("GET", "/models"): None,
    ("POST", "/runs"): {"plan_hash": "{plan_hash}"},
    ("GET", "/runs/{run_id}"): None,
    ("POST", "/runs/{run_id}/cancel"): {},
    ("GET", "/runs/{run_id}/events"): None,
    ("GET", "/runs/{run_id}/pending-tools"): None,
    ("GET", "/runs/{run_id}/steps"): None,
    ("GET", "/runs/{run_id}/steps/{step}/tool-calls/{tool_id}"): None,
    ("GET", "/runs/{run_id}/tasks"): None,
    ("POST", "/runs/{run_id}/tool-results"): {
        "node_id": "ask",
        "step": 0,
        "request_id": "{request_id}",
        "results": [{"tool_call": {"id": "{tool_id}", "name": "user_ask"}, "output": "stolen"}],
    },
    ("GET", "/schemas/run_event.schema.json"): None,
    ("GET", "/schemas/workflow.schema.json"): None,
    ("GET", "/sessions"): None,
    ("POST", "/sessions"): {},
    ("GET", "/sessions/{session_id}"): None,
    ("PATCH", "/sessions/{session_id}"): {"metadata": {"stolen": True}},
    ("DELETE", "/sessions/{session_id}"): None,
    ("POST", "/sessions/{session_id}/clear"): {},
    ("POST", "/sessions/{session_id}/messages"): {"role": "user", "content": [{"type": "text", "text": "stolen"}]},
    ("POST", "/workflows/compile"): {},
    ("POST", "/workflows/lint"): {},
}
"""What each route takes; a route that is not here fails the walk."""


def spec(*nodes: Json) -> Json:
    outputs = [{"name": "result", "from": nodes[-1]["id"]}]
    return {"kind": "workflow", "name": SECRET, "model": "asking", "nodes": list(nodes), "outputs": outputs}


def asks(attacker: Attacker, method: str, path: str, body: Any = None, tenant: str = "a") -> Reply:
    given = None if body is None else json.dumps(body).encode()
    return attacker.send(BASE + path, given, method=method, tenant=tenant)


def made(attacker: Attacker, path: str, body: Any, tenant: str = "a") -> Any:
    reply = asks(attacker, "POST", path, body, tenant)
    assert reply.status in (200, 201), reply.text
    return reply.json


@pytest.fixture(scope="module")
def belongings(attacker: Attacker) -> dict[str, str]:
    """The ids of all that tenant a has, by the names that paths and bodies call them: a session, a run that asks."""
    session = made(attacker, "/sessions", {"customer_id": SECRET, "metadata": {"secret": SECRET}})["id"]
    said = {"role": "user", "content": [{"type": "text", "text": SECRET}]}
    made(attacker, f"/sessions/{session}/messages", said)
    asked = {"spec": spec({"id": "ask", "type": "llm", "user": f"pay {SECRET}"}), "session_id": session}
    run = made(attacker, "/runs", {**asked, "options": {"idempotency_key": KEY}})
    log = attacker.send(f"{BASE}/runs/{run['run_id']}/events?limit=7")
    waiting = json.loads(log.body.splitlines()[-1])
    assert waiting["type"] == "node_waiting", log.text
    return {
        "session_id": session,
        "run_id": run["run_id"],
        "plan_hash": run["plan_hash"],
        "step": "0",
        "tool_id": waiting["waiting"]["pending_tool_calls"][0]["tool_call"]["id"],
        "request_id": waiting["waiting"]["request_id"],
    }


def operations(attacker: Attacker) -> list[Op]:
    """All that the server says it does in this dialect."""
    paths = attacker.send("/openapi.json").json["paths"]
    own = {path: methods for path, methods in paths.items() if path.startswith(f"{BASE}/")}
    return [(method.upper(), path.removeprefix(BASE)) for path, methods in own.items() for method in methods]


def placed(template: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda name: ids[name[1]], template)


def tried(attacker: Attacker, op: Op, ids: dict[str, str], tenant: str) -> Reply:
    """The route with these ids in its path and its body."""
    method, path = op
    sample = SAMPLES[op]
    body = None if sample is None else json.loads(placed(json.dumps(sample).replace(": {}", ":{}"), ids))
    return asks(attacker, method, placed(path, ids), body, tenant)


def everything_of(attacker: Attacker, ids: dict[str, str]) -> list[Any]:
    """What tenant a sees of its own."""
    paths = ("/runs/{run_id}?include=steps", "/runs/{run_id}/pending-tools", "/sessions/{session_id}", "/sessions")
    return [asks(attacker, "GET", placed(path, ids)).json for path in paths]


def without(reply: Reply, ids: dict[str, str]) -> str:
    text = reply.text.replace(reply.headers["x-request-id"], "<request>")
    for each in ids.values():
        text = text.replace(each, "<id>") if len(each) > 1 else text
    return text


def test_the_walk_knows_each_route_of_the_dialect(attacker: Attacker) -> None:
    assert sorted(operations(attacker)) == sorted(SAMPLES), "give SAMPLES what the new route takes"


def test_a05_no_route_tells_what_is_foreign_from_what_is_missing(
    attacker: Attacker, belongings: dict[str, str]
) -> None:
    before = everything_of(attacker, belongings)
    assert before[1]["pending"]
    missing = {**dict.fromkeys(belongings, UNKNOWN), "plan_hash": "0" * 64, "step": "0"}
    walked = [op for op in operations(attacker) if "{" in op[1] or op == ("POST", "/runs")]
    assert len(walked) > 12
    for op in walked:
        foreign, absent = (tried(attacker, op, ids, "b") for ids in (belongings, missing))
        assert SECRET not in foreign.text
        assert (foreign.status, foreign.json["code"]) == (404, "NOT_FOUND"), (op, foreign.text)
        assert without(foreign, belongings) == without(absent, missing), op
        assert foreign.headers.keys() == absent.headers.keys()
    assert everything_of(attacker, belongings) == before


def test_a05_lists_and_keys_and_sessions_are_their_tenants(attacker: Attacker, belongings: dict[str, str]) -> None:
    assert SECRET in asks(attacker, "GET", "/sessions").text
    assert asks(attacker, "GET", "/sessions", tenant="b").json["sessions"] == []
    assert asks(attacker, "GET", f"/sessions?customer_id={SECRET}", tenant="b").json["sessions"] == []
    own = {"spec": spec({"id": "ask", "type": "llm", "user": "pay"})}
    stolen = asks(attacker, "POST", "/runs", {**own, "session_id": belongings["session_id"]}, "b")
    assert (stolen.status, stolen.json["code"]) == (404, "NOT_FOUND")
    theirs = made(attacker, "/runs", {**own, "options": {"idempotency_key": KEY}}, "b")
    assert theirs["run_id"] != belongings["run_id"]
    assert asks(attacker, "POST", f"/runs/{theirs['run_id']}/cancel", {}, "b").json["status"] == "canceled"
    assert asks(attacker, "GET", f"/runs/{belongings['run_id']}").json["status"] == "waiting"


@pytest.mark.parametrize("key", [{}, {"authorization": "Bearer sk-wrong"}, {"x-modelrelay-api-key": "sk-wrong"}])
def test_a05_without_a_key_only_the_schemas_answer(
    attacker: Attacker, belongings: dict[str, str], key: dict[str, str]
) -> None:
    for method, path in operations(attacker):
        whole = BASE + placed(path, belongings)
        head = {"authorization": "", **key}
        reply = attacker.send(whole, b"{" if method in ("POST", "PATCH") else None, head, method=method)
        if whole in PUBLIC:
            assert reply.status == 200
        else:
            assert (reply.status, reply.json["code"]) == (401, "UNAUTHORIZED"), (method, path)
            assert SECRET not in reply.text


def test_the_run_is_still_its_owners_to_answer(attacker: Attacker, belongings: dict[str, str]) -> None:
    op = ("POST", "/runs/{run_id}/tool-results")
    assert tried(attacker, op, belongings, "a").json["accepted"] == 1
    log = attacker.send(placed(f"{BASE}/runs/{{run_id}}/events", belongings))
    assert json.loads(log.body.splitlines()[-1])["type"] == "run_completed"
    attacker.well()

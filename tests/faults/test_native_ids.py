"""Ids in bodies against ids in paths, and keys of a config that callers may not set."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.faults.natives import MOUNTS, UNKNOWN, Caller, steps

GONE = "01890000-0000-7000-8000-00000000000f"


def test_a06_a_path_is_stronger_than_what_stands_in_a_body(native: Caller) -> None:
    victim, thread = native.thread(), native.thread()
    native.wait(victim, "walking", {"n": 100, "log": []})
    history = native.history(victim)
    place = history[0]["checkpoint"]
    named = {"thread_id": victim, "run_id": UNKNOWN, "checkpoint_id": place["checkpoint_id"], "checkpoint_ns": ""}
    body = {
        "assistant_id": "walking",
        "input": {"n": 0},
        "thread_id": victim,
        "run_id": UNKNOWN,
        "config": {"configurable": named, "metadata": named},
        "metadata": named,
    }
    reply = native.post(f"/threads/{thread}/runs/wait", body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["n"] == 4
    assert thread in reply.headers["content-location"]
    assert victim not in reply.headers["content-location"]
    for checkpoint in ({"checkpoint": place}, {"checkpoint_id": place["checkpoint_id"]}):
        fork = native.post(f"/threads/{thread}/runs/wait", {"assistant_id": "walking", "input": {"n": 0}, **checkpoint})
        assert "104" not in fork.text
        update = native.post(f"/threads/{thread}/state", {"values": {"n": 1}, "as_node": "a", **checkpoint})
        assert "104" not in update.text
    for path, sent in {
        "state/checkpoint": {"checkpoint": place},
        "history": {"checkpoint": place, "before": place, "limit": 10},
        "state": {
            "values": {"n": 1},
            "as_node": "a",
            "checkpoint": {**place, "checkpoint_map": {"": place["checkpoint_id"]}},
        },
    }.items():
        assert "104" not in native.post(f"/threads/{thread}/{path}", sent).text, path
    assert native.history(victim) == history


@pytest.mark.parametrize("mount", MOUNTS)
def test_a06_a_run_of_another_thread_is_not_on_this_one(native: Caller, mount: str) -> None:
    mine, other = native.thread(), native.thread()
    run = native.run(mine, "slow", {"n": 0})
    for method, path in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/join"),
        ("GET", "/stream"),
        ("GET", "/events"),
        ("POST", "/stream?action=interrupt"),
        ("POST", "/cancel"),
        ("POST", "/cancel?wait=1&action=rollback"),
    ]:
        for thread in (other, UNKNOWN):
            assert native.ask(method, f"{mount}/threads/{thread}/runs/{run}{path}").status_code == 404, (method, path)
        assert native.ask(method, f"{mount}/threads/not-a-uuid/runs/{run}{path}").status_code in (404, 422)
    bulk = {"thread_id": other, "run_ids": [run]}
    assert native.post(f"{mount}/runs/cancel", bulk).status_code == 404
    assert native.status(mine, run) == "running"
    assert native.cancel(mine, run) == 200


def test_a06_a_stateless_run_goes_to_its_own_tenants_thread(native: Caller) -> None:
    other = Caller(native.server, "b")
    thread = native.thread()
    native.wait(thread, "walking", {"n": 100, "log": []})
    body = {"assistant_id": "walking", "input": {"n": 0}, "config": {"configurable": {"thread_id": thread}}}
    assert other.made("/runs/wait", body)["n"] == 4
    assert native.state(thread)["values"]["n"] == 104
    assert native.made("/runs/wait", body)["n"] == 108


# --- A10

SMUGGLED = {
    "thread_id": GONE,
    "run_id": GONE,
    "assistant_id": GONE,
    "graph_id": "victim",
    "checkpoint_id": GONE,
    "checkpoint_ns": "victim",
    "checkpoint_map": {"": GONE},
    "__pregel_checkpointer": "victim",
    "__pregel_send": "victim",
    "__pregel_read": "victim",
    "__pregel_resuming": True,
    "__pregel_store": "victim",
    "__pregel_stream": "victim",
    "__pregel_runtime": "victim",
    "__request_start_time_ms__": "victim",
    "langgraph_auth_user": {"identity": "victim"},
    "langgraph_auth_user_id": "victim",
    "langgraph_auth_permissions": ["victim"],
}
STEERING = {
    "callbacks": ["victim"],
    "max_concurrency": 3,
    "recursion_limit": 30,
    "run_name": "x",
    "configurable": SMUGGLED,
}


def told(native: Caller, **fields: Any) -> dict[str, Any]:
    """What the graph found in its config."""
    thread = native.thread()
    found = native.wait(thread, "telling", {"told": None}, **fields)["told"]
    assert found["configurable"]["thread_id"].endswith(thread)
    assert set(found["odd"]) <= {"__pregel_task_id"}
    known = found["configurable"]
    assert isinstance(known, dict)
    return known


def test_a10_reserved_keys_are_dropped_wherever_they_stand(native: Caller) -> None:
    assistant = native.made("/assistants", {"graph_id": "telling", "config": {"configurable": SMUGGLED}})[
        "assistant_id"
    ]
    contexts = native.made("/assistants", {"graph_id": "telling", "context": SMUGGLED})["assistant_id"]
    for fields in (
        {"config": STEERING},
        {"context": SMUGGLED},
        {"config": STEERING, "metadata": SMUGGLED},
        {"assistant_id": assistant},
        {"assistant_id": contexts},
    ):
        known = told(native, **fields)
        assert "victim" not in json.dumps(known), known
        assert GONE not in json.dumps(known), known
        assert "langgraph_auth_user" not in known


def test_a10_a_caller_says_not_who_calls(native: Caller) -> None:
    for fields in ({"context": {"user_id": "root"}}, {"config": {"configurable": {"user_id": "root"}}}):
        known = told(native, **fields)
        assert known.get("user_id") in ("", "root")
    assert "user_id" in told(native)


def test_a10_what_a_header_says_reaches_no_graph(native: Caller) -> None:
    thread = native.thread()
    headers = {"cookie": "session=victim", "x-user-id": "victim", "x_forwarded_host": "victim", "x_secret": "victim"}
    found = native.made(f"/threads/{thread}/runs/wait", {"assistant_id": "telling", "input": {}}, **headers)
    record = native.get(f"/threads/{thread}/runs").text
    for text in (json.dumps(found), record, json.dumps(native.history(thread))):
        assert "victim" not in text
        assert "sk-tenant" not in text


def test_a10_nothing_steers_a_plain_agent_to_another_address(native: Caller) -> None:
    steering = {
        "base_url": "http://evil",
        "openai_api_key": "evil",
        "model": "evil",
        "headers": {"authorization": "evil"},
    }
    for fields in ({"context": steering}, {"config": {"configurable": steering}}):
        thread = native.thread()
        said = native.wait(thread, "curious", {"messages": "x"}, **fields)["messages"][-1]["content"]
        assert "'context': {}" in said


def test_every_step_of_it_was_a_tenants_own(native: Caller) -> None:
    assert "crowd" not in steps(native.server)
    native.well()

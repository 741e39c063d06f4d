"""Bodies that no sane client sends to the runs API, and callers that want too much: each is refused in its form, and
everybody else is served."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.callers import address
from tests.e2e.house import serving
from tests.faults.attacker import KEYS
from tests.faults.bodies import POISON, nested
from tests.faults.natives import MOUNTS, Caller, config, together

MOST_REFLECTED = 1500
FUZZED = 500
"""Requests that the fuzzer sends."""


def refused(reply: Any, *statuses: int) -> str:
    assert reply.status_code in (statuses or range(400, 500)), (reply.status_code, reply.text[:500])
    assert reply.json().keys() == {"detail"}
    assert isinstance(reply.json()["detail"], str)
    assert len(reply.content) < MOST_REFLECTED
    assert reply.headers["x-request-id"]
    return str(reply.json()["detail"])


@pytest.fixture(scope="module")
def ids(native: Caller) -> dict[str, str]:
    """Things that the routes under test may be about."""
    thread = native.thread()
    native.wait(thread, "walking", {"n": 0, "log": []})
    run = native.run(thread, "walking", {"n": 0, "log": []})
    native.ended(thread, run)
    cron = native.made("/runs/crons", {"assistant_id": "walking", "schedule": "0 0 1 1 *"})["cron_id"]
    assistant = native.made("/assistants", {"graph_id": "walking"})["assistant_id"]
    return {
        "thread_id": thread,
        "run_id": run,
        "name": assistant,
        "cron_id": cron,
        "checkpoint_id": run,
        "namespace": "x",
    }


def bodied(native: Caller) -> dict[str, dict[str, Any]]:
    """The routes of the runs API that take a body, with the fields that they say they know."""
    document = native.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    found: dict[str, dict[str, Any]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if body is None or not path.startswith(("/threads", "/runs", "/assistants", "/store")):
                continue
            if "$ref" in body:
                body = schemas[body["$ref"].rpartition("/")[2]]
            found[f"{method.upper()} {path}"] = body.get("properties", {})
    assert len(found) > 25
    return found


SANE: dict[str, Any] = {
    "assistant_id": "walking",
    "graph_id": "walking",
    "schedule": "0 0 1 1 *",
    "namespace": ["x"],
    "key": "x",
    "value": {"x": 1},
    "thread_ids": [],
    "checkpoint": {},
    "version": 1,
    "channels": ["values"],
    "input": {"n": 0},
    "id": 1,
    "method": "x",
    "params": {},
}
"""What a field needs for the rest of its body to be looked at."""
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63 - 1, -(2**63), 1.5, 1e308, -0.0, "", "x", "\u2028\r\n", "x" * 5000,
    "../../etc/passwd", "*", "__start__", "__end__", "2020-13-45T99:99:99", "01890000-0000-7000-8000-000000000000", [],
    [[]], [None], ["x", 1], {}, {"": ""}, {"x": None}, {"$eq": {}}, {"lc": 1}, [{"node": "x"}], {"node": "x"},
    {"checkpoint_id": "x"}, {"configurable": None}, {"configurable": {"thread_id": 7}}, {"resume": None},
    {"goto": [[]]},
    {"recursion_limit": 0}, ["values", "values"], "events", ["nonsense"], {"ttl": -1}, {"messages": [{"role": 7}]},
    {"update": [["x"]]}, {"update": "x", "goto": {"node": ""}}, [["a", "b"]], {"checkpoint_map": {"": 7}},
]  # fmt: skip


def test_a01_no_generated_body_is_a_failure_of_the_servers(native: Caller, ids: dict[str, str]) -> None:
    """Known fields with odd values, in twos and threes, at both mounts. The seed is fixed: it fails or it does not."""
    dice = random.Random(2026)
    routes = bodied(native)
    streams = [name for name in routes if name.endswith("/stream/events")]
    sent = []
    for _ in range(FUZZED):
        name = dice.choice([name for name in routes if name not in streams])
        fields = sorted(routes[name])
        body = {field: SANE[field] for field in fields if field in SANE}
        for field in dice.sample(fields, min(len(fields), dice.choice([1, 1, 1, 2, 3]))):
            body[field] = dice.choice(ODD)
        if isinstance(delay := body.get("after_seconds"), int | float) and delay > 0:
            body["after_seconds"] = 0.01
        sent.append((name, dice.choice(MOUNTS), body if dice.random() < 0.97 else dice.choice(ODD)))

    def fire(some: list[Any]) -> list[Any]:
        # Each thread and assistant of its own: one that was deleted or broken must not hide what comes after.
        wrong = []
        for name, mount, body in some:
            method, path = name.split()
            reply = native.ask(method, mount + path.format_map(ids), json.dumps(body).encode())
            if reply.status_code >= 500:
                wrong.append((name, mount, body, reply.text))
            elif reply.status_code >= 400:
                assert reply.json().keys() in ({"detail"}, {"type", "id", "error", "message"}), (name, body, reply.text)
        return wrong

    wrong = [fault for faults in together(fire, [sent[start::4] for start in range(4)]) for fault in faults]
    assert not wrong, wrong[:10]
    native.post("/runs/cancel", {"status": "all"})
    native.well()


FREE = ("input", "metadata", "context", "command", "config", "unheard_of")


@pytest.mark.parametrize("poison", POISON)
def test_a02_no_field_takes_what_nobody_can_store(native: Caller, ids: dict[str, str], poison: str) -> None:
    value = POISON[poison]
    routes = {
        f"/threads/{ids['thread_id']}/runs": ("input", "metadata", "context", "unheard_of"),
        "/runs/stream": ("input", "metadata"),
        "/runs/wait": ("input",),
        "/threads": ("metadata", "unheard_of"),
        f"/threads/{ids['thread_id']}/state": ("values",),
        "/threads/search": ("values", "metadata"),
        "/assistants": ("context",),
        "/store/items/search": ("filter",),
        "/runs/crons": ("input",),
    }
    for path, fields in routes.items():
        for field in fields:
            known = {"assistant_id": "walking", "graph_id": "walking", "schedule": "0 0 1 1 *"}
            body = json.dumps(known).encode()[:-1] + b',"%s":%s}' % (field.encode(), value)
            for mount in MOUNTS:
                refused(native.post(mount + path, body), 400, 422)
    refused(native.ask("PUT", "/store/items", b'{"namespace":["x"],"key":"k","value":%s}' % value), 400, 422)


WHOLE = {
    "empty": b"", "null": b"null", "list": b"[]", "text": b'"x"', "number": b"7", "cut": b"{", "two": b"{}{}",
    "many_open": b"[" * 100_000, "deep": nested(500), "pickle": b"cos\nsystem\n(S'x'\ntR.", "gzip": b"\x1f\x8b\x08\0",
    "utf16": '{"a":1}'.encode("utf-16"), "nan": b'{"limit":NaN}', "surrogate": b'{"a":"\\ud800"}',
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_a01_a_body_that_is_none_is_refused_by_every_route(native: Caller, ids: dict[str, str], name: str) -> None:
    for route in bodied(native):
        method, path = route.split()
        for mount in MOUNTS:
            reply = native.ask(method, mount + path.format_map(ids), WHOLE[name])
            batch = path == "/runs/batch" and name == "list"
            if batch or reply.status_code == 200:
                assert name in ("empty", "list"), route
            elif path.endswith("/commands"):
                assert reply.status_code in (400, 422), reply.text
            else:
                refused(reply, 400, 422)


def test_a02_a_body_beyond_the_limit_is_refused_early(native: Caller, ids: dict[str, str]) -> None:
    huge = b'{"assistant_id":"walking","input":{"x":"' + b"x" * (21 * 1024 * 1024) + b'"}}'
    for path in (f"/threads/{ids['thread_id']}/runs", "/runs/wait", "/threads", "/store/items/search"):
        with socket.create_connection(address(native.server), 30) as sock:
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEYS['a']}\r\n"
            sock.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(huge))
            assert sock.recv(64).startswith(b"HTTP/1.1 413"), path


PATHS = [
    "not-a-uuid",
    "%20",
    "1",
    "x" * 3000,
    "0189-",
    "01890000-0000-7000-8000-00000000000g",
    "'; drop table runs",
    "null",
]


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("name", PATHS)
def test_a01_an_id_that_is_none_is_refused(native: Caller, mount: str, name: str) -> None:
    for method, path in [
        ("GET", f"/threads/{name}"),
        ("PATCH", f"/threads/{name}"),
        ("DELETE", f"/threads/{name}"),
        ("GET", f"/threads/{name}/state"),
        ("POST", f"/threads/{name}/history"),
        ("POST", f"/threads/{name}/copy"),
        ("GET", f"/threads/{name}/runs"),
        ("GET", f"/runs/{name}"),
        ("GET", f"/runs/{name}/stream"),
        ("POST", f"/runs/{name}/cancel"),
        ("DELETE", f"/runs/{name}"),
        ("GET", f"/runs/crons/{name}"),
        ("GET", f"/assistants/{name}"),
        ("GET", f"/assistants/{name}/schemas"),
    ]:
        refused(native.ask(method, mount + path, {} if method != "GET" else None), 404, 422)


# --- A13


def test_a13_one_callers_runs_are_bounded_and_others_are_served(native: Caller) -> None:
    """The agent may have 20 at a time for one tenant."""
    other = Caller(native.server, "b")
    body = {"assistant_id": "few", "input": {"messages": "wait"}}

    def start(number: int) -> tuple[int, str, str]:
        thread = native.thread()
        fields = {"after_seconds": 3600} if number % 3 == 0 else {}
        reply = native.post(f"/threads/{thread}/runs", {**body, **fields})
        if reply.status_code == 429:
            refused(reply, 429)
            assert 1 <= int(reply.headers["retry-after"]) <= 20
        return reply.status_code, thread, reply.json().get("run_id", "")

    started = together(start, range(60))
    assert [status for status, _, _ in started].count(200) == 20
    assert {status for status, _, _ in started} == {200, 429}
    assert other.wait(other.thread(), "few", {"messages": "say x"})["messages"][-1]["content"] == "x"
    assert native.wait(native.thread(), "actor", {"messages": "say y"})["messages"][-1]["content"] == "y"
    for status, thread, run in started:
        assert status == 429 or native.cancel(thread, run) == 200
    assert native.wait(native.thread(), "few", {"messages": "say z"})["messages"][-1]["content"] == "z"


def test_a13_a_queue_behind_one_run_is_bounded_too(native: Caller) -> None:
    thread = native.thread()
    body = {"assistant_id": "few", "input": {"messages": "wait"}, "multitask_strategy": "enqueue"}
    told = [native.post(f"/threads/{thread}/runs", body) for _ in range(25)]
    assert [reply.status_code for reply in told] == [200] * 20 + [429] * 5
    assert native.ask("DELETE", f"/threads/{thread}").status_code == 204
    assert native.wait(native.thread(), "few", {"messages": "say z"})["messages"][-1]["content"] == "z"


def test_a13_threads_and_what_is_said_of_them_are_bounded(tmp_path: Path) -> None:
    """A server with room for 60 threads of each tenant."""
    settings = config()
    settings["server"]["limits"]["threads"] = 60
    with serving(tmp_path, settings) as server:
        fills_up(Caller(server, "deep"), Caller(server, "b"))


def fills_up(deep: Caller, other: Caller) -> None:
    megabyte = {"metadata": {"x": "x" * (1 << 20)}}
    refused(deep.post("/threads", megabyte), 422)
    thread = deep.thread()
    for _ in range(3):
        refused(deep.ask("PATCH", f"/threads/{thread}", megabyte), 422)

    def fill(_: int) -> list[int]:
        return [deep.post("/threads", {"metadata": {"x": "x" * 50_000}}).status_code for _ in range(20)]

    told = [status for statuses in together(fill, range(4)) for status in statuses]
    assert set(told) == {200, 429}
    assert told.count(200) == 59
    refused(deep.post("/threads", {}), 429)
    refused(deep.post(f"/threads/{thread}/copy"), 429)
    other.wait(other.thread(), "walking", {"n": 0})
    found = deep.made("/threads/search", {"limit": 10, "select": ["thread_id"]})
    assert deep.made("/threads/prune", {"thread_ids": [one["thread_id"] for one in found]}) == {"pruned_count": 10}
    assert deep.thread()


def test_a13_a_thousand_readers_of_one_caller_hurt_nobody(native: Caller) -> None:
    """Of a run that says nothing, of a thread, and of threads that are not there."""
    thread = native.thread()
    run = native.run(thread, "slow", {"n": 0})
    paths = [
        f"/threads/{thread}/runs/{run}/stream",
        f"/threads/{thread}/stream",
        f"/api/threads/{thread}/runs/{run}/join",
    ]
    host, port = address(native.server)
    process = psutil.Process(native.server.process.pid)
    before, readers = process.memory_info().rss, []
    for number in range(1000):
        head = f"GET {paths[number % 3]} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEYS['a']}\r\n\r\n"
        sock = socket.create_connection((host, port), 30)
        sock.sendall(head.encode())
        readers.append(sock)
    first = {sock.recv(12) for sock in readers}
    other = Caller(native.server, "b")
    assert other.wait(other.thread(), "walking", {"n": 0})["n"] == 4
    assert process.memory_info().rss - before < 120 * 1024 * 1024
    for sock in readers:
        sock.close()
    assert first <= {b"HTTP/1.1 200", b"HTTP/1.1 429"}
    assert native.cancel(thread, run) == 200


def test_all_of_it_left_the_server_well(native: Caller) -> None:
    native.well()

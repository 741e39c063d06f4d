"""Every route of the runs API, tried with another tenant's key and with none: what is not yours is not there."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2
import pytest

from tests.faults.natives import MOUNTS, UNKNOWN, Caller

PUBLIC = {"/", "/health", "/ready", "/ok", "/openapi.json", "/docs"}
OTHERS = ("/v1", "/api/v1")
"""Where other dialects stand, which are tried elsewhere."""
SECRET = "sesame-7f3a"
"""Stands in all that tenant a has."""


@pytest.fixture(scope="module")
def belongings(native: Caller) -> dict[str, str]:
    """The ids of all that tenant a has, by the names that paths call them."""
    about = {"metadata": {"secret": SECRET}}
    thread = native.thread(**about)
    native.wait(thread, "walking", {"n": 0, "log": [SECRET]}, **about)
    run = native.run(thread, "slow", {"n": 0, "log": [SECRET]}, **about)
    assistant = native.made("/assistants", {"graph_id": "walking", "name": SECRET, **about})["assistant_id"]
    cron = native.made("/runs/crons", {"assistant_id": "walking", "schedule": "0 0 1 1 *", "input": {}, **about})
    item = {"namespace": [SECRET], "key": SECRET, "value": {"secret": SECRET}}
    assert native.ask("PUT", "/store/items", item).status_code == 204
    checkpoint = native.history(thread)[-1]["checkpoint_id"]
    return {
        "thread_id": thread,
        "run_id": run,
        "name": assistant,
        "cron_id": cron["cron_id"],
        "checkpoint_id": checkpoint,
        "namespace": "walking",
    }


def operations(native: Caller) -> list[tuple[str, str, Any]]:
    """Method, path and schema of the body of all that the server says it does."""
    document = native.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if body is not None and "$ref" in body:
                body = schemas[body["$ref"].rpartition("/")[2]]
            found.append((method.upper(), path, body))
    assert len(found) > 50
    return found


BODIES: dict[str, Any] = {
    "POST /threads/{thread_id}/runs": {"assistant_id": "walking", "input": {"n": 0}},
    "POST /threads/{thread_id}/runs/stream": {"assistant_id": "walking", "input": {"n": 0}},
    "POST /threads/{thread_id}/runs/wait": {"assistant_id": "walking", "input": {"n": 0}},
    "POST /threads/{thread_id}/runs/crons": {"assistant_id": "walking", "schedule": "* * * * *"},
    "POST /threads/{thread_id}/state": {"values": {"n": 100}, "as_node": "a"},
    "POST /threads/{thread_id}/state/checkpoint": {"checkpoint": {"checkpoint_id": "{checkpoint_id}"}},
    "POST /threads/{thread_id}/commands": {"id": 1, "method": "run.start", "params": {"assistant_id": "walking"}},
    "POST /assistants/{name}/latest": {"version": 1},
}
"""What a path needs in its body besides `{}`."""
CREATES = {f"POST /threads/{{thread_id}}/runs{rest}" for rest in ("", "/stream", "/wait")}
LISTENS = "POST /threads/{thread_id}/stream/events"
"""Waits for a thread that may still come; see the test below."""
COMMANDS = "POST /threads/{thread_id}/commands"


def makes(mount: str, name: str) -> bool:
    """These make the thread that they name, for whoever names it."""
    return name == COMMANDS or (bool(mount) and name in CREATES)


def placed(path: str, ids: dict[str, str]) -> str:
    """The path with ids for names; fails for a name that nobody has told a sample of."""
    names = re.findall(r"\{(\w+)\}", path)
    missing = [name for name in names if name not in ids]
    assert not missing, f"{path}: a new kind of id; give `belongings` one of tenant a's"
    return path.format_map(ids)


def without(reply: httpx2.Response, *ids: str) -> tuple[int, str]:
    text = reply.text
    for id in ids:
        text = text.replace(id, "<id>")
    return reply.status_code, text


def test_a05_no_route_tells_what_is_foreign_from_what_is_missing(native: Caller, belongings: dict[str, str]) -> None:
    other = Caller(native.server, "b")
    before = everything_of(native, belongings)
    missing = dict.fromkeys(belongings, UNKNOWN) | {"checkpoint_id": UNKNOWN, "namespace": "walking"}
    tried = 0
    for method, path, body in operations(native):
        if "{" not in path:
            continue
        for mount in MOUNTS:
            name = f"{method} {path}"
            if path.startswith(OTHERS) or name == LISTENS:
                continue
            given = json.dumps(BODIES.get(name, {})) if body is not None or name in BODIES else None
            replies = []
            for ids in (belongings, missing):
                sent = None if given is None else json.loads(given.replace("{checkpoint_id}", ids["checkpoint_id"]))
                replies.append(other.ask(method, mount + placed(path, ids), sent))
            foreign, absent = replies
            assert SECRET not in foreign.text
            if makes(mount, name):
                assert foreign.status_code == absent.status_code == 200
                other.ask("DELETE", f"/threads/{belongings['thread_id']}")
                other.ask("DELETE", f"/threads/{UNKNOWN}")
                continue
            assert without(foreign, *belongings.values()) == without(absent, UNKNOWN), name
            assert foreign.status_code == 404, (name, foreign.status_code, foreign.text)
            assert foreign.json().keys() == {"detail"}
            assert strip(foreign.headers) == strip(absent.headers), name
            tried += 1
    assert tried > 60
    assert everything_of(native, belongings) == before
    assert native.cancel(belongings["thread_id"], belongings["run_id"], wait=False) == 202


@pytest.mark.parametrize("mount", MOUNTS)
def test_a05_who_listens_to_a_foreign_thread_hears_of_nothing(native: Caller, mount: str) -> None:
    other, thread = Caller(native.server, "b"), native.thread()
    path, body = f"{mount}/threads/{thread}/stream/events", {"channels": ["values", "messages", "lifecycle"]}
    with other.stream("POST", path, body) as spy, native.stream("POST", path, body) as owner:
        native.wait(thread, "walking", {"n": 0, "log": [SECRET]})
        assert owner.until(SECRET)
        assert spy.until(": ")
        assert SECRET not in spy.text
        assert spy.events == []


def strip(headers: httpx2.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in ("x-request-id", "date", "content-length")}


def everything_of(native: Caller, ids: dict[str, str]) -> list[Any]:
    """What tenant a sees of its own."""
    thread, run = ids["thread_id"], ids["run_id"]
    paths = [
        f"/threads/{thread}",
        f"/threads/{thread}/runs",
        f"/threads/{thread}/runs/{run}",
        f"/assistants/{ids['name']}",
        f"/runs/crons/{ids['cron_id']}",
        f"/store/items?namespace={SECRET}&key={SECRET}",
    ]
    return [native.get(path).json() for path in paths]


def test_a05_no_list_or_search_shows_what_is_foreign(native: Caller, belongings: dict[str, str]) -> None:
    other = Caller(native.server, "b")
    everywhere = {
        "/threads/search": {"limit": 1000},
        "/threads/count": {"metadata": {"secret": SECRET}},
        "/assistants/search": {"limit": 1000},
        "/assistants/count": {"metadata": {"secret": SECRET}},
        "/runs/crons/search": {"limit": 1000},
        "/runs/crons/count": {"metadata": {"secret": SECRET}},
        "/store/items/search": {"namespace_prefix": [], "limit": 1000},
        "/store/namespaces": {},
    }
    for path, body in everywhere.items():
        for mount in MOUNTS:
            mine, theirs = native.made(mount + path, body), other.made(mount + path, body)
            if isinstance(mine, int):
                assert mine > theirs == 0, path
            else:
                assert SECRET in json.dumps(mine), path
                assert not any(word in json.dumps(theirs) for word in (SECRET, *list(belongings.values())[:4])), path
    ids = {"ids": [belongings["thread_id"]]}
    assert other.made("/threads/search", ids) == []
    assert other.get(f"/store/items?namespace={SECRET}&key={SECRET}").json() is None
    assert (
        other.post(
            "/runs/cancel", {"thread_id": belongings["thread_id"], "run_ids": [belongings["run_id"]]}
        ).status_code
        == 404
    )
    assert other.post("/runs/cancel", {"status": "all"}).status_code == 404
    assert other.made("/threads/prune", {"thread_ids": [belongings["thread_id"]]}) == {"pruned_count": 0}
    assert native.get(f"/threads/{belongings['thread_id']}").status_code == 200


@pytest.mark.parametrize(
    "key", [{}, {"authorization": "Bearer sk-wrong"}, {"x-api-key": ""}, {"authorization": "Basic x"}]
)
def test_a05_without_a_key_only_the_public_paths_answer(
    native: Caller, belongings: dict[str, str], key: dict[str, str]
) -> None:
    with httpx2.Client(base_url=native.server.url) as nobody:
        for method, path, _ in operations(native):
            for mount in MOUNTS if not path.startswith(OTHERS) else ("",):
                whole = mount + re.sub(r"{(\w+)}", lambda name: belongings.get(name[1], UNKNOWN), path)
                reply = nobody.request(method, whole, headers=key, content=b"{")
                if mount + path in PUBLIC | {"/api/ok"} or path.startswith("/api/v1/schemas/"):
                    assert reply.status_code < 400, path
                elif not (mount and reply.status_code == 404):
                    assert reply.status_code == 401, (method, path)
                    assert SECRET not in reply.text


def test_a05_an_id_of_anothers_may_be_ones_own_too(native: Caller) -> None:
    """Ids are chosen by callers: the same one is another thing for another tenant."""
    other, deep = Caller(native.server, "b"), Caller(native.server, "deep")
    thread = native.thread()
    native.wait(thread, "walking", {"n": 10, "log": [SECRET]})
    for caller in (other, deep):
        assert caller.thread(thread_id=thread) == thread
        assert caller.state(thread)["values"] == {}
        assert caller.wait(thread, "walking", {"n": 0})["n"] == 4
        assert caller.ask("DELETE", f"/threads/{thread}").status_code == 204
    assert native.state(thread)["values"]["n"] == 14
    assert len(native.get(f"/threads/{thread}/runs").json()) == 1


def test_a05_an_idempotency_key_is_its_tenants(native: Caller) -> None:
    other = Caller(native.server, "b")
    mine, theirs = native.thread(), other.thread()
    body = {"assistant_id": "walking", "input": {"n": 0}}
    first = native.made(f"/threads/{mine}/runs", body, idempotency_key="order-67")
    second = other.made(f"/threads/{theirs}/runs", body, idempotency_key="order-67")
    assert first["run_id"] != second["run_id"]
    assert other.post("/runs/cancel", {"idempotency_key": "order-67"}).status_code == 202
    assert native.ended(mine, first["run_id"]) == "success"


def test_all_of_it_left_the_server_well(native: Caller) -> None:
    native.well()

"""Assistants, the store, crons, what the server tells of itself, and what it refuses."""

from __future__ import annotations

import uuid
from typing import Any

from langgraph_sdk import get_client

from tests.peer.talk import Talk, says


async def _system(talk: Talk, graph: str) -> str:
    body = {"graph_id": graph, "metadata": {"created_by": "system"}}
    [one] = await talk.ask(f"system {graph}", "POST", "/assistants/search", body)
    return str(one["assistant_id"])


async def assistants(talk: Talk) -> None:
    mark = {"mark": str(uuid.uuid4())}
    one = str(uuid.uuid4())
    made = {"graph_id": "looks", "assistant_id": one, "name": "mine", "metadata": mark, "context": {"tone": "dry"}}
    await talk.ask("create", "POST", "/assistants", made)
    await talk.ask("create again", "POST", "/assistants", made)
    await talk.ask("create or take", "POST", "/assistants", made | {"if_exists": "do_nothing"})
    await talk.ask("create bare", "POST", "/assistants", {"graph_id": "looks", "metadata": mark})
    await talk.ask(
        "create configured", "POST", "/assistants", {"graph_id": "looks", "config": {"configurable": {"tone": "wet"}}}
    )
    await talk.ask("get", "GET", f"/assistants/{one}")
    await talk.ask("run", "POST", "/runs/wait", {"assistant_id": one, "input": {}})
    await talk.ask("patch", "PATCH", f"/assistants/{one}", {"name": "ours", "metadata": {"more": 1}})
    await talk.ask("versions", "POST", f"/assistants/{one}/versions", {})
    await talk.ask("latest", "POST", f"/assistants/{one}/latest", {"version": 1})
    await talk.ask("no such version", "POST", f"/assistants/{one}/latest", {"version": 7})
    await talk.ask("search", "POST", "/assistants/search", {"metadata": mark, "sort_by": "name", "sort_order": "asc"})
    await talk.ask("page", "POST", "/assistants/search", {"metadata": mark, "limit": 1})
    await talk.ask("count", "POST", "/assistants/count", {"metadata": mark})
    await talk.ask("delete", "DELETE", f"/assistants/{one}")
    await talk.ask("deleted", "GET", f"/assistants/{one}")
    await talk.ask("delete again", "DELETE", f"/assistants/{one}")


async def graphs(talk: Talk) -> None:
    for graph in ("fans", "looks", "nested"):
        path = f"/assistants/{await _system(talk, graph)}"
        await talk.ask(f"{graph}: graph", "GET", f"{path}/graph")
        await talk.ask(f"{graph}: x-ray", "GET", f"{path}/graph", params={"xray": "true"})
        await talk.ask(f"{graph}: schemas", "GET", f"{path}/schemas")
        await talk.ask(f"{graph}: sub-graphs", "GET", f"{path}/subgraphs")
        await talk.ask(f"{graph}: all sub-graphs", "GET", f"{path}/subgraphs", params={"recurse": "true"})
    await talk.ask("by name", "GET", "/assistants/looks/graph")


async def store(talk: Talk) -> None:
    root = str(uuid.uuid4())
    items = (("a", "one", {"kind": "x", "n": 1}), ("a", "two", {"kind": "y"}), ("b", "three", {"kind": "x"}))
    for name, key, value in items:
        await talk.ask(f"put {key}", "PUT", "/store/items", {"namespace": [root, name], "key": key, "value": value})
    one = {"namespace": f"{root}.a", "key": "one"}
    await talk.ask("get", "GET", "/store/items", params=one)
    await talk.ask("absent", "GET", "/store/items", params=one | {"key": "none"})
    await talk.ask("search", "POST", "/store/items/search", {"namespace_prefix": [root]})
    await talk.ask("filter", "POST", "/store/items/search", {"namespace_prefix": [root], "filter": {"kind": "x"}})
    await talk.ask("page", "POST", "/store/items/search", {"namespace_prefix": [root], "limit": 1, "offset": 1})
    await talk.ask("namespaces", "POST", "/store/namespaces", {"prefix": [root]})
    await talk.ask("shallow", "POST", "/store/namespaces", {"prefix": [root], "max_depth": 1})
    await talk.ask("dotted", "PUT", "/store/items", {"namespace": ["a.b"], "key": "k", "value": {}})
    await talk.ask("no key", "PUT", "/store/items", {"namespace": [root], "value": {}})
    await talk.ask("delete", "DELETE", "/store/items", {"namespace": [root, "a"], "key": "one"})
    await talk.ask("deleted", "GET", "/store/items", params=one)
    await talk.ask("graph's", "POST", "/runs/wait", {"assistant_id": "looks", "input": {}, "context": {"tone": "dry"}})


async def crons(talk: Talk) -> None:
    thread = await talk.thread()
    body = {"assistant_id": "chat", "schedule": "0 3 1 1 *", "input": says("a"), "metadata": {"mine": 1}}
    own = await talk.ask("of a thread", "POST", f"/threads/{thread}/runs/crons", body)
    free = await talk.ask("free", "POST", "/runs/crons", body | {"timezone": "Europe/Berlin"})
    await talk.ask("search", "POST", "/runs/crons/search", {"thread_id": thread})
    await talk.ask("count", "POST", "/runs/crons/count", {"thread_id": thread})
    await talk.ask("get", "GET", f"/runs/crons/{own['cron_id']}")
    await talk.ask("patch", "PATCH", f"/runs/crons/{own['cron_id']}", {"schedule": "0 4 1 1 *", "enabled": False})
    await talk.ask("nonsense", "POST", "/runs/crons", body | {"schedule": "often"})
    for cron in (own, free):
        await talk.ask(f"delete {'own' if cron is own else 'free'}", "DELETE", f"/runs/crons/{cron['cron_id']}")
    await talk.ask("delete again", "DELETE", f"/runs/crons/{own['cron_id']}")


async def itself(talk: Talk) -> None:
    await talk.ask("ok", "GET", "/ok")
    await talk.ask("info", "GET", "/info")
    await talk.ask("nowhere", "GET", "/nowhere")
    await talk.ask("wrong method", "PUT", "/threads")
    origin = {"origin": "http://page.test", "access-control-request-method": "POST"}
    origin["access-control-request-headers"] = "content-type,x-api-key,last-event-id"
    answer = await talk.http.options("/threads", headers=origin)
    talk.note("preflight", {"status": answer.status_code, "origin": answer.headers["access-control-allow-origin"]})
    methods = {method.strip() for method in answer.headers["access-control-allow-methods"].split(",")}
    talk.note("methods", {method: method in methods for method in ("GET", "POST", "PUT", "PATCH", "DELETE")})
    for label, path in (("page", "/ok"), ("refused page", "/threads/nonsense")):
        answer = await talk.http.get(path, headers={"origin": "http://page.test"})
        shown = [name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")]
        names = ("content-location", "location", "x-pagination-next", "x-pagination-total")
        talk.note(
            label, {"origin": answer.headers["access-control-allow-origin"], **{name: name in shown for name in names}}
        )


async def refusals(talk: Talk) -> None:
    thread, unknown = await talk.thread(), "01a1fc00-0000-7000-8000-000000000000"
    fine: dict[str, Any] = {"assistant_id": "chat", "input": says("a")}
    runs = f"/threads/{thread}/runs"
    for label, method, path, body in (
        ("bad id", "GET", "/threads/nonsense", None),
        ("unknown thread", "GET", f"/threads/{unknown}", None),
        ("unknown thread's state", "GET", f"/threads/{unknown}/state", None),
        ("unknown thread's history", "POST", f"/threads/{unknown}/history", {}),
        ("unknown thread's runs", "GET", f"/threads/{unknown}/runs", None),
        ("run on an unknown thread", "POST", f"/threads/{unknown}/runs", fine),
        ("stream on an unknown thread", "POST", f"/threads/{unknown}/runs/stream", fine),
        ("wait on an unknown thread", "POST", f"/threads/{unknown}/runs/wait", fine),
        ("copy of an unknown thread", "POST", f"/threads/{unknown}/copy", None),
        ("unknown run", "GET", f"{runs}/{unknown}", None),
        ("bad run id", "GET", f"{runs}/nonsense", None),
        ("cancel of an unknown run", "POST", f"{runs}/{unknown}/cancel", None),
        ("join of an unknown run", "GET", f"{runs}/{unknown}/join", None),
        ("no assistant", "POST", runs, {"input": {}}),
        ("unknown graph", "POST", runs, fine | {"assistant_id": "nobody"}),
        ("unknown assistant", "POST", runs, fine | {"assistant_id": unknown}),
        ("bad mode", "POST", runs, fine | {"stream_mode": ["nonsense"]}),
        ("bad strategy", "POST", runs, fine | {"multitask_strategy": "nonsense"}),
        ("bad durability", "POST", runs, fine | {"durability": "nonsense"}),
        ("both settings", "POST", runs, fine | {"context": {"a": 1}, "config": {"configurable": {"b": 1}}}),
        ("limit too high", "POST", "/threads/search", {"limit": 1001}),
        ("limit too low", "POST", "/threads/search", {"limit": 0}),
        ("bad status", "POST", "/threads/search", {"status": "nonsense"}),
        ("bad if_exists", "POST", "/threads", {"if_exists": "nonsense"}),
        ("assistant of an unknown graph", "POST", "/assistants", {"graph_id": "nobody"}),
        ("bad assistant id", "GET", "/assistants/nonsense", None),
        ("unknown cron", "DELETE", f"/runs/crons/{unknown}", None),
        ("bad webhook", "POST", runs, fine | {"webhook": "http://127.0.0.1:9/hook"}),
        ("not an object", "POST", runs, [1]),
    ):
        await talk.ask(label, method, path, body)
    headers = {"content-type": "application/json"}
    answer = await talk.http.post(runs, content=b"{", headers=headers)
    talk.note("broken JSON", {"status": answer.status_code, "detail": type(answer.json().get("detail")).__name__})


async def python_client(talk: Talk) -> None:
    """The tour of LangGraph's own client."""
    client = get_client(url=talk.place.url, api_key=talk.place.headers.get("x-api-key"))
    thread = (await client.threads.create(metadata={"mine": 1}))["thread_id"]
    parts = client.runs.stream(thread, "chat", input=says("Hel !one lo"), stream_mode=["values", "custom"])
    talk.note("stream", [[part.event, part.data] async for part in parts])
    asked = (await client.threads.create())["thread_id"]
    talk.note("wait", await client.runs.wait(asked, "review", input=says("plan", "u2")))
    talk.note("resume", await client.runs.wait(asked, "review", command={"resume": "yes"}))
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "count", input={"n": 0, "log": []})
    talk.note("join", await client.runs.join(thread, run["run_id"]))
    talk.note("state", await client.threads.get_state(thread))
    talk.note("history", len(await client.threads.get_history(thread, limit=50)))
    talk.note("statuses", [each["status"] for each in await client.runs.list(thread)])
    try:
        await client.runs.wait(thread, "breaks", input={"n": 0, "log": []})
    except Exception as error:
        talk.note("failure", [type(error).__name__, str(error)])
    await client.threads.delete(thread)

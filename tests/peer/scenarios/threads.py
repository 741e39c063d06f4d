"""Threads and their states."""

from __future__ import annotations

import uuid
from typing import Any

from tests.peer.scenarios.streams import COUNT
from tests.peer.talk import Talk, says


async def life(talk: Talk) -> None:
    thread = str(uuid.uuid4())
    made = {"thread_id": thread, "metadata": {"mine": 1}}
    await talk.ask("create", "POST", "/threads", made)
    await talk.ask("create again", "POST", "/threads", made)
    await talk.ask("create or take", "POST", "/threads", made | {"if_exists": "do_nothing"})
    await talk.ask("create empty", "POST", "/threads", {})
    await talk.ask("create for a graph", "POST", "/threads", {"graph_id": "chat"})
    await talk.kept("empty", thread)
    await talk.ask("history", "POST", f"/threads/{thread}/history", {})
    await talk.ask("runs", "GET", f"/threads/{thread}/runs")
    await talk.ask("patch", "PATCH", f"/threads/{thread}", {"metadata": {"more": 2}})
    await talk.ask("copy", "POST", f"/threads/{thread}/copy")
    await talk.ask("delete", "DELETE", f"/threads/{thread}")
    await talk.ask("deleted", "GET", f"/threads/{thread}")
    await talk.ask("delete again", "DELETE", f"/threads/{thread}")


async def search(talk: Talk) -> None:
    mark = {"mark": str(uuid.uuid4())}
    threads = [await talk.thread(metadata=mark | {"number": number}) for number in range(3)]
    await talk.ask("", "POST", f"/threads/{threads[0]}/runs/wait", {"assistant_id": "count", "input": COUNT})
    await talk.ask("", "POST", f"/threads/{threads[1]}/runs/wait", {"assistant_id": "review", "input": says("a")})
    bodies: dict[str, dict[str, Any]] = {
        "all": {},
        "first page": {"limit": 2},
        "last page": {"limit": 2, "offset": 2},
        "idle": {"status": "idle"},
        "interrupted": {"status": "interrupted"},
        "sorted": {"sort_by": "created_at", "sort_order": "asc"},
        "selected": {"select": ["thread_id", "status", "metadata"]},
        "none": {"metadata": mark | {"number": 7}},
    }
    for label, more in bodies.items():
        await talk.ask(label, "POST", "/threads/search", {"metadata": mark, **more})
    await talk.ask("ids", "POST", "/threads/search", {"ids": threads[:1]})
    await talk.ask("count", "POST", "/threads/count", {"metadata": mark})
    await talk.ask("count idle", "POST", "/threads/count", {"metadata": mark, "status": "idle"})
    await talk.ask("prune", "POST", "/threads/prune", {"thread_ids": threads[:2], "strategy": "delete"})
    await talk.ask("left", "POST", "/threads/count", {"metadata": mark})


async def states(talk: Talk) -> None:
    thread = await talk.thread()
    for number in (1, 2):
        body = {"assistant_id": "count", "input": {"n": number, "log": []}}
        await talk.ask("", "POST", f"/threads/{thread}/runs/wait", body)
    all_states = await talk.ask("history", "POST", f"/threads/{thread}/history", {"limit": 20})
    await talk.ask("history by get", "GET", f"/threads/{thread}/history", params={"limit": 2})
    middle = all_states[4]["checkpoint"]
    path = f"/threads/{thread}"
    await talk.ask("default history", "POST", f"{path}/history", {})
    before = {"configurable": {"checkpoint_id": middle["checkpoint_id"]}}
    await talk.ask("before", "POST", f"{path}/history", {"limit": 20, "before": before})
    await talk.ask("before a text", "POST", f"{path}/history", {"before": middle["checkpoint_id"]})
    await talk.ask("by source", "POST", f"{path}/history", {"limit": 20, "metadata": {"source": "input"}})
    await talk.ask("one", "GET", f"{path}/state/{middle['checkpoint_id']}")
    await talk.ask("one by body", "POST", f"{path}/state/checkpoint", {"checkpoint": middle})
    await talk.ask("unknown", "GET", f"{path}/state/{uuid.uuid4()}")


async def updates(talk: Talk) -> None:
    fresh = await talk.thread()
    await talk.ask("never ran", "POST", f"/threads/{fresh}/state", {"values": {"n": 1}})
    thread = await talk.thread()
    await talk.ask("", "POST", f"/threads/{thread}/runs/wait", {"assistant_id": "count", "input": COUNT})
    path = f"/threads/{thread}"
    [head] = await talk.ask("", "POST", f"{path}/history", {"limit": 1})
    await talk.ask("update", "POST", f"{path}/state", {"values": {"n": 10}})
    await talk.kept("updated", thread)
    await talk.ask("as a node", "POST", f"{path}/state", {"values": {"n": 100}, "as_node": "a"})
    await talk.kept("as a node", thread)
    await talk.ask("go on", "POST", f"{path}/runs/wait", {"assistant_id": "count", "input": None})
    at = {"values": {"n": 1000}, "checkpoint": head["checkpoint"], "as_node": "b"}
    await talk.ask("at a checkpoint", "POST", f"{path}/state", at)
    await talk.kept("at a checkpoint", thread)
    await talk.ask("unknown node", "POST", f"{path}/state", {"values": {}, "as_node": "nobody"})
    await talk.ask("copy", "POST", f"{path}/copy")
    copy = await talk.ask("", "POST", f"{path}/copy")
    await talk.ask("copied", "POST", f"/threads/{copy['thread_id']}/history", {"limit": 20})


async def supersteps(talk: Talk) -> None:
    steps = [
        {"updates": [{"values": {"n": 1, "log": ["put"]}, "as_node": "__input__"}]},
        {"updates": [{"values": {"n": 1, "log": ["a"]}, "as_node": "a"}]},
    ]
    made = await talk.ask("create", "POST", "/threads", {"metadata": {"graph_id": "count"}, "supersteps": steps})
    await talk.kept("made", made["thread_id"])
    await talk.ask("history", "POST", f"/threads/{made['thread_id']}/history", {"limit": 10})
    body = {"assistant_id": "count", "input": None}
    await talk.ask("go on", "POST", f"/threads/{made['thread_id']}/runs/wait", body)

"""Runs: begun, waited for, joined, cancelled, pushed aside, without a thread, on forks, with settings."""

from __future__ import annotations

from typing import Any

from tests.peer.scenarios.streams import COUNT
from tests.peer.talk import Talk, says


async def background(talk: Talk) -> None:
    thread = await talk.thread()
    body = {"assistant_id": "count", "input": COUNT, "metadata": {"mine": 1}}
    run = await talk.ask("create", "POST", f"/threads/{thread}/runs", body)
    path = f"/threads/{thread}/runs/{run['run_id']}"
    await talk.ask("join", "GET", f"{path}/join")
    await talk.kept("after", thread, run["run_id"])
    await talk.ask("join again", "GET", f"{path}/join")
    await talk.ask("list", "GET", f"/threads/{thread}/runs")
    await talk.ask("list none", "GET", f"/threads/{thread}/runs", params={"status": "error"})
    await talk.ask("select", "GET", f"/threads/{thread}/runs", params={"select": ["run_id", "status"]})
    await talk.ask("delete", "DELETE", path)
    await talk.ask("deleted", "GET", path)
    await talk.ask("delete again", "DELETE", path)


async def waits(talk: Talk) -> None:
    for graph, given in (("count", COUNT), ("breaks", COUNT), ("review", says("plan")), ("many", {"answers": []})):
        thread = await talk.thread()
        body = {"assistant_id": graph, "input": given}
        await talk.ask(graph, "POST", f"/threads/{thread}/runs/wait", body)
        [run] = await talk.ask("", "GET", f"/threads/{thread}/runs")
        await talk.ask(f"{graph}: join", "GET", f"/threads/{thread}/runs/{run['run_id']}/join")
    made = {"assistant_id": "count", "input": COUNT, "if_not_exists": "create"}
    thread = "01a1fc00-0000-7000-8000-" + talk.gate().name
    await talk.ask("thread made", "POST", f"/threads/{thread}/runs/wait", made)


async def _cancelled(talk: Talk, label: str, **params: Any) -> None:
    thread, gate = await talk.thread(), talk.gate()
    await talk.ask("", "POST", f"/threads/{thread}/runs/wait", {"assistant_id": "chat", "input": says("before")})
    run = await talk.run(thread, "chat", input=says(f"Hel {gate.word}", "u2"))
    await gate.once("reached")
    await talk.ask(f"{label}: cancel", "POST", f"/threads/{thread}/runs/{run}/cancel", params=params)
    await gate.once("cancelled")
    await talk.ended(thread, run)
    await talk.kept(label, thread, run)
    await talk.ask(f"{label}: again", "POST", f"/threads/{thread}/runs/{run}/cancel", params=params)
    if params.get("action") != "rollback":
        gate.open()
        go_on = {"assistant_id": "chat", "input": None}
        await talk.ask(f"{label}: go on", "POST", f"/threads/{thread}/runs/wait", go_on)


async def cancel(talk: Talk) -> None:
    await _cancelled(talk, "at once", wait="0", action="interrupt")


async def cancel_waited_for(talk: Talk) -> None:
    await _cancelled(talk, "waited for", wait="1", action="interrupt")


async def rollback(talk: Talk) -> None:
    await _cancelled(talk, "rolled back", wait="1", action="rollback")


async def cancelled_before(talk: Talk) -> None:
    thread = await talk.thread()
    later = await talk.ask(
        "later", "POST", f"/threads/{thread}/runs", {"assistant_id": "count", "input": COUNT, "after_seconds": 3600}
    )
    await talk.ask("cancel", "POST", f"/threads/{thread}/runs/{later['run_id']}/cancel", params={"wait": "0"})
    await talk.kept("cancelled", thread, later["run_id"])
    run = await talk.run(thread, "count", input=COUNT, after_seconds=3600)
    asked = {"thread_id": thread, "run_ids": [run]}
    await talk.ask("in bulk", "POST", "/runs/cancel", asked, params={"action": "interrupt"})
    await talk.ask("in bulk: run", "GET", f"/threads/{thread}/runs/{run}")
    await talk.ask("in bulk: none", "POST", "/runs/cancel", asked | {"run_ids": [thread]})
    await talk.ask("in bulk: nothing said", "POST", "/runs/cancel", {})
    finished = await talk.run(thread, "count", input=COUNT)
    await talk.ended(thread, finished)
    await talk.ask("finished", "POST", f"/threads/{thread}/runs/{finished}/cancel", params={"wait": "0"})


async def stream_of_a_cancelled_run(talk: Talk) -> None:
    thread, gate = await talk.thread(), talk.gate()
    body = {"assistant_id": "chat", "input": says(f"Hel {gate.word}"), "stream_mode": ["values", "messages-tuple"]}
    async with talk.open("stream", f"/threads/{thread}/runs/stream", body) as events:
        async for event in events:
            if event.name == "metadata":
                run = event.data["run_id"]
            if event.name == "messages":
                await talk.ask("", "POST", f"/threads/{thread}/runs/{run}/cancel", params={"wait": "0"})


async def left_by_the_client(talk: Talk) -> None:
    thread, gate = await talk.thread(), talk.gate()
    body = {"assistant_id": "chat", "input": says(f"Hel {gate.word}"), "on_disconnect": "cancel"}
    run = ""
    async with talk.open("stream", f"/threads/{thread}/runs/stream", body) as events:
        async for event in events:
            if event.name == "metadata":
                run = event.data["run_id"]
            await gate.once("reached")
            break
    await gate.once("cancelled")
    await talk.ended(thread, run)
    await talk.kept("left", thread, run)


async def _busy(talk: Talk, strategy: str) -> None:
    thread, gate, next_gate = await talk.thread(), talk.gate(), talk.gate()
    await talk.ask("", "POST", f"/threads/{thread}/runs/wait", {"assistant_id": "chat", "input": says("before")})
    first = await talk.run(thread, "chat", input=says(f"Hel {gate.word}", "u2"))
    await gate.once("reached")
    await talk.ask("busy: thread", "GET", f"/threads/{thread}")
    body = {"assistant_id": "chat", "input": says(f"second {next_gate.word}", "u3"), "multitask_strategy": strategy}
    second = await talk.ask("second", "POST", f"/threads/{thread}/runs", body)
    await talk.ask("state put in", "POST", f"/threads/{thread}/state", {"values": says("in", "u4")})
    next_gate.open()
    if strategy in ("reject", "enqueue"):
        gate.open()
    await talk.ended(thread, first)
    if strategy != "reject":
        await talk.ended(thread, second["run_id"])
        await talk.ask("second: run", "GET", f"/threads/{thread}/runs/{second['run_id']}")
    await talk.kept("after", thread, first)


async def busy_reject(talk: Talk) -> None:
    await _busy(talk, "reject")


async def busy_enqueue(talk: Talk) -> None:
    await _busy(talk, "enqueue")


async def busy_interrupt(talk: Talk) -> None:
    await _busy(talk, "interrupt")


async def busy_rollback(talk: Talk) -> None:
    await _busy(talk, "rollback")


async def stateless(talk: Talk) -> None:
    body = {"assistant_id": "count", "input": COUNT}
    await talk.ask("create", "POST", "/runs", body)
    await talk.ask("wait", "POST", "/runs/wait", body)
    await talk.stream("stream", "/runs/stream", body | {"stream_mode": ["updates"]})
    await talk.ask("failed", "POST", "/runs/wait", body | {"assistant_id": "breaks"})
    await talk.ask("batch", "POST", "/runs/batch", [body, body | {"assistant_id": "looks", "input": {}}])
    await talk.ask("empty batch", "POST", "/runs/batch", [])
    for completion in ("delete", "keep"):
        run = await talk.ask(completion, "POST", "/runs", body | {"on_completion": completion})
        await talk.ended(run["thread_id"], run["run_id"])
        await talk.ask(f"{completion}: thread", "GET", f"/threads/{run['thread_id']}")


async def forks(talk: Talk) -> None:
    thread = await talk.thread()
    for number in (1, 2):
        body = {"assistant_id": "count", "input": {"n": number, "log": []}}
        await talk.ask("", "POST", f"/threads/{thread}/runs/wait", body)
    states = await talk.ask("history", "POST", f"/threads/{thread}/history", {"limit": 20})
    first = next(state for state in states if state["metadata"]["step"] == 1)["checkpoint"]
    fork = {"assistant_id": "count", "input": {"n": 10, "log": []}, "checkpoint_id": first["checkpoint_id"]}
    await talk.ask("fork", "POST", f"/threads/{thread}/runs/wait", fork)
    await talk.ask("forked", "POST", f"/threads/{thread}/history", {"limit": 20})
    replay = {"assistant_id": "count", "input": None, "checkpoint": first}
    await talk.ask("replay", "POST", f"/threads/{thread}/runs/wait", replay)
    await talk.kept("replayed", thread)


async def commands(talk: Talk) -> None:
    thread = await talk.thread()
    await talk.ask("", "POST", f"/threads/{thread}/runs/wait", {"assistant_id": "count", "input": COUNT})
    for label, command in (
        ("update", {"update": {"n": 5}}),
        ("goto", {"goto": "b"}),
        ("goto with input", {"goto": {"node": "b", "input": {"n": 100, "log": []}}}),
        ("both", {"goto": ["b"], "update": {"log": ["put"]}}),
        ("nowhere", {"goto": "nobody"}),
    ):
        body = {"assistant_id": "count", "command": command}
        await talk.ask(label, "POST", f"/threads/{thread}/runs/wait", body)
    await talk.kept("after", thread)


async def settings(talk: Talk) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "none": {},
        "context": {"context": {"tone": "dry"}},
        "configurable": {"config": {"configurable": {"mine": 1, "tone": "wet"}}},
        "both": {"context": {"tone": "dry"}, "config": {"configurable": {"mine": 1}}},
        "tags": {"config": {"tags": ["t1"]}, "metadata": {"mine": {"a": 1}}, "context": {"tone": "dry", "other": 1}},
    }
    for label, more in bodies.items():
        body = {"assistant_id": "looks", "input": {}, **more}
        await talk.ask(label, "POST", f"/threads/{await talk.thread()}/runs/wait", body)
    for durability in ("sync", "async", "exit"):
        thread = await talk.thread()
        body = {"assistant_id": "count", "input": COUNT, "durability": durability}
        await talk.ask("", "POST", f"/threads/{thread}/runs/wait", body)
        await talk.ask(durability, "POST", f"/threads/{thread}/history", {"limit": 10})


async def two_graphs_on_a_thread(talk: Talk) -> None:
    thread = await talk.thread()
    await talk.ask("one", "POST", f"/threads/{thread}/runs/wait", {"assistant_id": "count", "input": COUNT})
    await talk.ask("other", "POST", f"/threads/{thread}/runs/wait", {"assistant_id": "chat", "input": says("Hel")})
    await talk.kept("after", thread)
    await talk.ask("one again", "POST", f"/threads/{thread}/runs/wait", {"assistant_id": "count", "input": COUNT})

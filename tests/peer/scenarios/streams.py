"""Streams: modes, sub-graphs, questions, failures, and coming back to them."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.peer.talk import Talk, says

MODES = ("values", "updates", "messages-tuple", "messages", "custom", "debug", "tasks", "checkpoints")
COUNT: dict[str, Any] = {"n": 0, "log": []}


async def modes(talk: Talk) -> None:
    async def one(mode: str) -> None:
        body = {"assistant_id": "agent", "input": says("Hel !one lo"), "stream_mode": mode}
        await talk.stream(mode, f"/threads/{await talk.thread()}/runs/stream", body)

    await asyncio.gather(*map(one, MODES))


async def several_modes(talk: Talk) -> None:
    body = {
        "assistant_id": "agent",
        "input": says("Hel !one lo"),
        "stream_mode": ["values", "updates", "messages-tuple"],
    }
    await talk.stream("three", f"/threads/{await talk.thread()}/runs/stream", body)
    body |= {"stream_mode": ["messages", "messages-tuple"]}
    await talk.stream("both of messages", f"/threads/{await talk.thread()}/runs/stream", body)
    body.pop("stream_mode")
    await talk.stream("none", f"/threads/{await talk.thread()}/runs/stream", body)


async def events_mode(talk: Talk) -> None:
    body = {"assistant_id": "count", "input": COUNT, "stream_mode": ["events"]}
    await talk.stream("events", f"/threads/{await talk.thread()}/runs/stream", body)


async def parallel_tasks(talk: Talk) -> None:
    body = {"assistant_id": "fans", "input": COUNT, "stream_mode": ["values"]}
    await talk.stream("values", f"/threads/{await talk.thread()}/runs/stream", body)


async def sub_graphs(talk: Talk) -> None:
    modes = ["values", "updates", "messages-tuple"]
    thread = await talk.thread()
    body = {"assistant_id": "nested", "input": says("Hel lo"), "stream_mode": modes, "stream_subgraphs": True}
    await talk.stream("shown", f"/threads/{thread}/runs/stream", body)
    await talk.ask("state", "GET", f"/threads/{thread}/state", params={"subgraphs": "true"})
    answer = {"assistant_id": "nested", "command": {"resume": "yes"}, "stream_mode": modes, "stream_subgraphs": True}
    await talk.stream("answered", f"/threads/{thread}/runs/stream", answer)
    body.pop("stream_subgraphs")
    await talk.stream("hidden", f"/threads/{await talk.thread()}/runs/stream", body)


async def question(talk: Talk) -> None:
    thread = await talk.thread()
    body = {"assistant_id": "review", "input": says("plan"), "stream_mode": ["values", "updates"]}
    asked = await talk.stream("asked", f"/threads/{thread}/runs/stream", body)
    await talk.kept("asked", thread, asked[0].data["run_id"])
    await talk.ask("history", "POST", f"/threads/{thread}/history", {"limit": 10})
    body = {"assistant_id": "review", "command": {"resume": "yes"}, "stream_mode": ["values", "updates"]}
    await talk.stream("answered", f"/threads/{thread}/runs/stream", body)
    await talk.kept("answered", thread)
    await talk.stream("answered again", f"/threads/{thread}/runs/stream", body)


async def questions(talk: Talk) -> None:
    thread = await talk.thread()
    body = {"assistant_id": "many", "input": {"answers": []}, "stream_mode": ["values"]}
    asked = await talk.stream("asked", f"/threads/{thread}/runs/stream", body)
    await talk.kept("asked", thread)
    each_asked = [one for event in asked if event.name == "values" for one in event.data.get("__interrupt__", ())]
    answers = {each["id"]: f"to {each['value']}" for each in each_asked}
    one = dict([next(iter(answers.items()))])
    body = {"assistant_id": "many", "command": {"resume": one}, "stream_mode": ["values", "updates"]}
    await talk.stream("one", f"/threads/{thread}/runs/stream", body)
    await talk.kept("one answered", thread)
    rest = {key: answer for key, answer in answers.items() if key not in one}
    await talk.ask(
        "rest", "POST", f"/threads/{thread}/runs/wait", {"assistant_id": "many", "command": {"resume": rest}}
    )
    await talk.kept("all answered", thread)


async def breakpoints(talk: Talk) -> None:
    thread = await talk.thread()
    body: dict[str, Any] = {"assistant_id": "count", "input": COUNT, "stream_mode": ["values", "updates"]}
    await talk.stream("before", f"/threads/{thread}/runs/stream", body | {"interrupt_before": ["b"]})
    await talk.kept("before", thread)
    await talk.stream("on", f"/threads/{thread}/runs/stream", body | {"input": None})
    await talk.kept("on", thread)
    await talk.stream("after all", f"/threads/{await talk.thread()}/runs/stream", body | {"interrupt_after": "*"})


async def failures(talk: Talk) -> None:
    thread = await talk.thread()
    failing = {"assistant_id": "breaks", "input": COUNT, "stream_mode": ["values"]}
    seen = await talk.stream("raised", f"/threads/{thread}/runs/stream", failing)
    await talk.kept("raised", thread, seen[0].data["run_id"])
    bodies: dict[str, dict[str, Any]] = {
        "too many steps": {"assistant_id": "fans", "input": COUNT, "config": {"recursion_limit": 2}},
        "wrong input": {"assistant_id": "count", "input": "text"},
        "no input": {"assistant_id": "count"},
        "nothing to answer": {"assistant_id": "review", "command": {"resume": "yes"}},
    }
    for label, body in bodies.items():
        await talk.stream(label, f"/threads/{await talk.thread()}/runs/stream", body)


async def replays(talk: Talk) -> None:
    thread = await talk.thread()
    body = {"assistant_id": "chat", "input": says("Hel lo"), "stream_mode": ["values", "updates"]}
    seen = await talk.stream("live", f"/threads/{thread}/runs/stream", body | {"stream_resumable": True})
    join = f"/threads/{thread}/runs/{seen[0].data['run_id']}/stream"
    for label, last in (("all", "-1"), ("zero", "0"), ("rest", seen[1].id)):
        await talk.stream(label, join, method="GET", headers={"last-event-id": last})
    await talk.stream("nothing", join, method="GET")
    one = {"stream_mode": "values"}
    await talk.stream("one mode", join, method="GET", headers={"last-event-id": "-1"}, params=one)
    failed = await talk.stream(
        "", f"/threads/{thread}/runs/stream", {"assistant_id": "breaks", "input": COUNT, "stream_resumable": True}
    )
    join = f"/threads/{thread}/runs/{failed[0].data['run_id']}/stream"
    await talk.stream("failed", join, method="GET", headers={"last-event-id": "-1"})


async def joined_live(talk: Talk) -> None:
    thread, gate = await talk.thread(), talk.gate()
    more = {"input": says(f"Hel {gate.word} lo"), "stream_mode": ["messages-tuple", "custom"], "stream_resumable": True}
    run = await talk.run(thread, "chat", **more)
    join, from_the_first = f"/threads/{thread}/runs/{run}/stream", {"last-event-id": "-1"}
    # Who joins while an event is being published is told it twice by the official server.
    async with talk.open("", join, method="GET", headers=from_the_first) as events:
        async for event in events:
            if event.name == "messages":
                break
    async with talk.open("joined", join, method="GET", headers=from_the_first) as events:
        async for event in events:
            if event.name == "messages":
                gate.open()


async def thread_stream(talk: Talk) -> None:
    thread = await talk.thread()
    body = {"assistant_id": "chat", "input": says("Hel"), "stream_mode": ["values"], "stream_resumable": True}
    async with talk.open(
        "all runs", f"/threads/{thread}/stream", method="GET", headers={"last-event-id": "-"}
    ) as events:
        for _ in range(2):
            await talk.ask("", "POST", f"/threads/{thread}/runs/wait", body)
        done = 0
        async for event in events:
            done += isinstance(event.data, dict) and event.data.get("status") == "run_done"
            if done == 2:
                break


CHANNELS = ["lifecycle", "values", "messages", "input", "custom"]


def _new_thread(talk: Talk) -> str:
    return "01a1fc00-0000-7000-8000-" + talk.gate().name


async def _heard(talk: Talk, label: str, thread: str, last: str) -> list[Any]:
    """All that is said on a thread until the lifecycle event `last`, noted by its kind."""
    said: list[Any] = []
    wanted = {"channels": CHANNELS, "namespaces": [[]], "depth": 1}
    async with talk.open("", f"/threads/{thread}/stream/events", wanted) as events:
        async for event in events:
            said.append(event.data)
            if event.name == "lifecycle" and event.data["params"]["data"]["event"] == last:
                break
    for kind in CHANNELS:
        method = "input.requested" if kind == "input" else kind
        talk.note(f"{label}: {kind}", [each for each in said if each["method"] == method])
    return said


async def _started(talk: Talk, label: str, thread: str, graph: str, given: Any) -> None:
    start = {"assistant_id": graph, "input": given}
    await talk.ask(label, "POST", f"/threads/{thread}/commands", {"id": 1, "method": "run.start", "params": start})


async def event_protocol(talk: Talk) -> None:
    thread = _new_thread(talk)
    await _started(talk, "start", thread, "chat", says("Hel !one lo"))
    said = await _heard(talk, "chat", thread, "completed")
    talk.note("order", [each["method"] for each in said])
    thread = _new_thread(talk)
    await _started(talk, "failing", thread, "breaks", COUNT)
    await _heard(talk, "failed", thread, "failed")


async def event_protocol_questions(talk: Talk) -> None:
    thread = _new_thread(talk)
    await _started(talk, "start", thread, "review", says("plan"))
    said = await _heard(talk, "asked", thread, "interrupted")
    [question] = [each["params"]["data"]["interrupt_id"] for each in said if each["method"] == "input.requested"]
    answer = {"interrupt_id": question, "namespace": [], "response": "yes"}
    told = {"id": 2, "method": "input.respond", "params": answer}
    await talk.ask("respond", "POST", f"/threads/{thread}/commands", told)
    await _heard(talk, "answered", thread, "completed")
    await talk.ask("respond again", "POST", f"/threads/{thread}/commands", told)


async def event_protocol_refusals(talk: Talk) -> None:
    thread = _new_thread(talk)
    commands = f"/threads/{thread}/commands"
    await talk.ask("unknown", "POST", commands, {"id": 3, "method": "no.such", "params": {}})
    await talk.ask("no method", "POST", commands, {"id": 4})
    await talk.ask("no answer", "POST", commands, {"id": 5, "method": "input.respond", "params": {}})
    await talk.ask("no channel", "POST", f"/threads/{thread}/stream/events", {"channels": ["nonsense"]})
    nobody = {"id": 4, "method": "run.start", "params": {"assistant_id": "nobody", "input": {}}}
    await talk.ask("nobody", "POST", commands, nobody)

"""The event protocol over server-sent events, on both mounts: what is heard of a thread."""

from __future__ import annotations

import asyncio

import pytest

from proxy.events import TextDelta, ToolCallDelta, ToolResult
from proxy.settings import Agent, Dialects, NativeDialect, Runs
from tests.api.native.talking import HI, Line, lives, text
from tests.api.scripted import OTHER, SCRIPT, House, visit

MOUNTS = ["", "/api"]
PEER = "tests.peer.graphs"
AGENTS = {
    "script": SCRIPT,
    **{name: Agent(adapter="langgraph", options={"graph": f"{PEER}:{name}"}) for name in ("chat", "review", "many")},
}
both = pytest.mark.parametrize("mount", MOUNTS)


@both
def test_events_are_replayed_and_then_live_run_after_run(mount: str) -> None:
    async def scene(house: House) -> None:
        line = Line(house, mount)
        await line.start()
        run = await house.started()
        await run.say("one ", "two")
        async with line.events("lifecycle", "messages", "values") as ear:
            await run.end()
            first = await ear.run()
            await line.start()
            again = await house.started()
            await again.say("three")
            await again.end()
            second = await ear.run()
        assert (text(first), text(second)) == ("one two", "three")
        assert lives([*first, *second]) == ["running", "completed"] * 2
        states = [event["params"]["data"]["messages"] for event in [*first, *second] if event["method"] == "values"]
        assert [[message["content"] for message in state] for state in states] == [
            ["Hi"],
            ["Hi", "one two"],
            ["Hi", "one two"],
            ["Hi", "one two", "three"],
        ]
        numbers = [event["seq"] for event in [*first, *second]]
        assert numbers == sorted(set(numbers))
        assert await line.told("messages", "values", runs=2) == [*first, *second]

    visit(scene)


def test_a_listener_may_come_before_the_thread_is_there() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        async with line.events() as ear:
            await line.start()
            await (await house.started()).end()
            assert lives(await ear.run()) == ["running", "completed"]

    visit(scene)


def test_who_has_heard_up_to_a_number_hears_what_follows() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        for words in ("one", "two"):
            await line.start()
            run = await house.started()
            await run.say(words)
            await run.end()
        everything = await line.told("messages", runs=2)
        cut = next(number for number, event in enumerate(everything) if lives([event]) == ["completed"])
        async with line.events("lifecycle", "messages", since=everything[cut]["seq"]) as ear:
            assert await ear.run() == everything[cut + 1 :]

    visit(scene)


def test_of_a_long_thread_the_newest_runs_are_replayed_and_all_to_who_asks() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        for _ in range(22):
            await line.start()
            await (await house.started()).end()
        newest = await line.told(runs=20)
        everything = await line.told(runs=22, since=1)
        assert newest == everything[4:]
        assert await line.told(since=newest[-3]["seq"]) == newest[-2:]

    visit(scene)


def test_the_answer_to_a_command_names_the_place_before_its_events() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        await line.start()
        await (await house.started()).end()
        applied = (await line.start())["meta"]["applied_through_seq"]
        run = await house.started()
        await run.end()
        async with line.events(since=applied) as ear:
            events = await ear.run()
        assert all(event["event_id"].startswith(run.given.run_id) for event in events)
        assert lives(events) == ["running", "completed"]

    visit(scene)


def test_a_chat_on_the_thread_is_heard_as_well() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        async with line.events("lifecycle", "messages") as ear:
            asked = house.ask(headers={"x-thread-id": line.thread})
            run = await house.started()
            await run.say("Hello")
            await run.end()
            await asked
            assert text(await ear.run()) == "Hello"

    visit(scene)


def test_the_end_of_a_run_whose_content_is_not_kept_is_heard() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        await line.start()
        run = await house.started()
        await run.say("secret")
        await run.end()
        log = f"/runs/{run.given.run_id}/events"
        while b"secret" in (await house.http.get(log)).content:  # it goes once nobody reads it
            await asyncio.sleep(0)
        async with line.events("lifecycle", "messages", "values") as ear:
            heard = await ear.run()
        assert lives(heard) == ["completed"]
        assert "secret" not in str(heard)

    visit(scene, runs=Runs(keep_content=False))


def test_another_tenant_hears_and_commands_a_thread_of_its_own() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        async with line.events("lifecycle", headers=OTHER) as ear:
            await line.start()
            await (await house.started()).end()
            await line.command("run.start", headers=OTHER, assistant_id="script", input=HI)
            theirs = await house.started()
            assert theirs.given.tenant == "b"
            await theirs.end()
            heard = await ear.run()
            assert {event["event_id"].partition(":")[0] for event in heard} == {theirs.given.run_id}

    visit(scene)


def test_a_run_that_fails_says_why() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        await line.start("chat", {"messages": [{"type": "human", "content": "Hel *boom"}]})
        last = (await line.told())[-1]
        assert last["params"]["data"] == {"event": "failed", "graph_name": "chat", "error": "boom"}

    visit(scene, AGENTS)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{}", "channels is required and must be a non-empty array"),
        (b'{"channels":[]}', "channels is required and must be a non-empty array"),
        (b'{"channels":"values"}', "channels is required and must be a non-empty array"),
        (b'{"channels":["bogus"]}', "channels contains unsupported entries: bogus"),
        (b'{"channels":[5]}', "channels contains unsupported entries: 5"),
        (b'{"channels":["values"],"since":"x"}', "since"),
        (b'{"channels":["values"],"namespaces":"x"}', "namespaces"),
        (b"{", "JSON"),
    ],
)
def test_what_cannot_be_heard_is_a_400_that_says_why(body: bytes, said: str) -> None:
    async def scene(house: House) -> None:
        answer = await house.http.post(f"{Line(house).path}/stream/events", content=body)
        assert answer.status_code == 400
        assert said in answer.json()["detail"]

    visit(scene)


def test_silence_is_kept_alive() -> None:
    quick = Dialects(langgraph=NativeDialect(keepalive=0.05))

    async def scene(house: House) -> None:
        line = Line(house)
        body = {"channels": ["lifecycle"]}
        async with house.http.stream("POST", f"{line.path}/stream/events", json=body) as answer:
            async for piece in answer.aiter_bytes():
                assert piece == b": heartbeat\r\n\r\n"
                break

    visit(scene, dialects=quick)


def test_sub_agents_and_tools_are_told_of() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        await line.start()
        run = await house.started()
        call = ToolCallDelta(call_id="c1", name="add", arguments='{"a":1}', part="p", path=("helper",))
        await run.say(TextDelta(text="I", part="p", path=("helper",)), call)
        await run.say(ToolResult(call_id="c1", output="2", path=("helper",)), "done")
        await run.end()
        events = await line.told("tools", "messages")
        tools = [event["params"] for event in events if event["method"] == "tools"]
        assert [(one["namespace"], one["data"]["event"]) for one in tools] == [
            (["helper"], "tool-started"),
            (["helper"], "tool-finished"),
        ]
        assert lives(events) == ["running", "started", "completed", "completed"]
        near = await line.told("messages", namespaces=[[]], depth=0)
        assert text(near) == "done"

    visit(scene)


def test_a_server_that_goes_down_closes_the_stream() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        async with line.events() as ear:
            ended = asyncio.create_task(ear.next())
            await house.app.drain()
            assert await ended is None

    visit(scene)

"""The commands of the event protocol over HTTP, on both mounts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy.events import Interrupt, Paused
from proxy.settings import Agent
from tests.api.native.talking import HI, Line, lives
from tests.api.scripted import SCRIPT, House, visit

MOUNTS = ["", "/api"]
PEER = "tests.peer.graphs"
AGENTS = {
    "script": SCRIPT,
    **{name: Agent(adapter="langgraph", options={"graph": f"{PEER}:{name}"}) for name in ("chat", "review", "many")},
}
both = pytest.mark.parametrize("mount", MOUNTS)
TOO_DEEP = b'{"id":1,"method":"run.start","params":' + b"[" * 300 + b"]" * 300 + b"}"


@both
def test_a_run_is_started_on_a_thread_that_it_makes(mount: str) -> None:
    async def scene(house: House) -> None:
        line = Line(house, mount)
        answer = await line.start(metadata={"k": "v"}, config={"configurable": {"thread_id": line.thread}})
        run = await house.started()
        assert answer["type"] == "success"
        assert answer["result"] == {"run_id": run.given.run_id}
        assert answer["meta"]["applied_through_seq"] > 0
        await run.end()
        thread = (await house.http.get(line.path)).json()
        assert thread["metadata"]["graph_id"] == "script"
        [record] = (await house.http.get(f"{line.path}/runs")).json()
        assert record["metadata"]["k"] == "v"

    visit(scene)


def test_an_early_state_is_gone_on_from() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        for words in ("one", "two"):
            await line.start("chat", {"messages": [{"type": "human", "content": words}]})
            await line.told(runs=1 if words == "one" else 2)
        history = (await house.http.post(f"{line.path}/history", json={"limit": 20})).json()
        fork = next(state for state in reversed(history) if state["next"] == ["speak"])
        await line.start("chat", None, config={"configurable": {"checkpoint_id": fork["checkpoint"]["checkpoint_id"]}})
        await line.told(runs=3)
        state = (await house.http.get(f"{line.path}/state")).json()
        assert [message["content"].strip() for message in state["values"]["messages"]] == ["one", "one"]

    visit(scene, AGENTS)


def test_a_busy_thread_is_met_as_the_command_says() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        await line.start()
        first = await house.started()
        code, said = await line.refused("run.start", assistant_id="script", input=HI, multitaskStrategy="reject")
        assert (code, "busy" in said) == ("unknown_error", True)
        async with line.events() as ear:
            await line.start(multitaskStrategy="interrupt")
            assert lives(await ear.run()) == ["running", "interrupted"]
            assert first.cancelled.is_set()
            await (await house.started()).end()
            assert lives(await ear.run()) == ["running", "completed"]

    visit(scene)


@both
def test_a_question_is_asked_and_answered(mount: str) -> None:
    async def scene(house: House) -> None:
        line = Line(house, mount)
        await line.start("review")
        asked = await line.told("input")
        [question] = [event["params"]["data"] for event in asked if event["method"] == "input.requested"]
        assert question["payload"] == {"question": "ok?"}
        answer = await line.command("input.respond", interrupt_id=question["interrupt_id"], namespace=[], response="y")
        assert (answer["type"], answer["result"]) == ("success", {})
        events = (await line.told("values", runs=2))[len(asked) :]
        values = [event["params"]["data"] for event in events if event["method"] == "values"]
        assert values[-1]["messages"][-1]["content"] == "verdict: y"
        code, _ = await line.refused("input.respond", interrupt_id=question["interrupt_id"], response="y")
        assert code == "no_such_interrupt"

    visit(scene, AGENTS)


def test_several_questions_are_answered_at_once_with_an_update() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        await line.start("many", {"answers": []})
        asked = [one["params"]["data"] for one in await line.told("input") if one["method"] == "input.requested"]
        responses = [
            {"interrupt_id": one["interrupt_id"], "namespace": [], "response": one["payload"] == "right?"}
            for one in asked
        ]
        await line.command("input.respond", responses=responses, update={"answers": ["first"]})
        await line.told(runs=2)
        state = (await house.http.get(f"{line.path}/state")).json()
        assert state["values"]["answers"] == ["first", "left? False", "right? True"]

    visit(scene, AGENTS)


def test_one_of_several_questions_may_be_answered_by_itself() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        await line.start("many", {"answers": []})
        asked = [one["params"]["data"] for one in await line.told("input") if one["method"] == "input.requested"]
        await line.command("input.respond", interrupt_id=asked[0]["interrupt_id"], response="yes")
        await line.told(runs=2)
        await line.command("input.respond", interrupt_id=asked[1]["interrupt_id"], response="no")
        assert lives(await line.told(runs=3))[-1] == "completed"

    visit(scene, AGENTS)


def test_an_agent_without_frames_is_answered_too() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        await line.start()
        run = await house.started()
        await run.end(Paused(interrupts=(Interrupt(id="q-1", value=msgspec.Raw(b'"sure?"')),)))
        asked = await line.told("input")
        assert [one["params"]["data"]["payload"] for one in asked if one["method"] == "input.requested"] == ["sure?"]
        await line.command("input.respond", interrupt_id="q-1", response={"yes": True})
        again = await house.started()
        assert again.given.answer is not None
        assert msgspec.json.decode(again.given.answer.interrupts["q-1"]) == {"yes": True}
        await again.end()

    visit(scene)


def test_while_a_run_is_under_way_no_question_is_open() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        assert (await line.refused("input.respond", interrupt_id="x", response=1))[0] == "no_such_run"
        await line.start()
        run = await house.started()
        assert (await line.refused("input.respond", interrupt_id="x", response=1))[0] == "no_such_interrupt"
        await run.end()

    visit(scene)


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("nope", {}, "unknown_command"),
        ("state.get", {}, "unknown_command"),
        ("subscription.subscribe", {"channels": ["values"]}, "not_supported"),
        ("run.start", {}, "invalid_argument"),
        ("run.start", {"assistant_id": 5}, "invalid_argument"),
        ("run.start", {"assistant_id": "nobody", "input": {}}, "invalid_argument"),
        ("run.start", {"assistant_id": "script", "metadata": 5}, "invalid_argument"),
        ("run.start", {"assistant_id": "script", "multitaskStrategy": "wait"}, "invalid_argument"),
        ("input.respond", {}, "invalid_argument"),
        ("input.respond", {"interrupt_id": 5}, "invalid_argument"),
        ("input.respond", {"responses": []}, "invalid_argument"),
    ],
)
def test_a_command_that_cannot_be_obeyed_is_answered_with_an_error(
    method: str, params: dict[str, Any], code: str
) -> None:
    async def scene(house: House) -> None:
        assert (await Line(house).refused(method, **params))[0] == code

    visit(scene)


def test_an_unknown_assistant_is_named() -> None:
    async def scene(house: House) -> None:
        assert "`nobody`" in (await Line(house).refused("run.start", assistant_id="nobody", input={}))[1]

    visit(scene)


def test_a_thread_that_cannot_be_is_refused() -> None:
    async def scene(house: House) -> None:
        code, said = await Line(house, thread="no-uuid").refused("run.start", assistant_id="script", input=HI)
        assert (code, "UUID" in said) == ("invalid_argument", True)

    visit(scene)


@pytest.mark.parametrize(
    ("body", "id"),
    [
        (b"[]", None),
        (b'"x"', None),
        (b"{}", None),
        (b'{"id":"a","method":"run.start"}', "a"),
        (b'{"id":1.5,"method":"run.start"}', 1.5),
        (b'{"id":true,"method":"run.start"}', True),
        (b'{"method":"run.start"}', None),
        (b'{"id":[1],"method":"run.start"}', None),
    ],
)
def test_what_is_no_command_is_a_400_in_the_protocols_form(body: bytes, id: Any) -> None:
    async def scene(house: House) -> None:
        answer = await house.http.post(f"{Line(house).path}/commands", content=body)
        assert answer.status_code == 400
        assert answer.json() == {
            "type": "error",
            "id": id,
            "error": "invalid_argument",
            "message": "Protocol commands must include an integer id and string method.",
        }

    visit(scene)


@pytest.mark.parametrize("body", [b"", b"{", b'{"id":1,', TOO_DEEP])
def test_what_is_no_json_is_a_400(body: bytes) -> None:
    async def scene(house: House) -> None:
        answer = await house.http.post(f"{Line(house).path}/commands", content=body)
        assert (answer.status_code, list(answer.json())) == (400, ["detail"])

    visit(scene)


def test_a_command_that_is_named_is_obeyed_once() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        body = {"id": 1, "method": "run.start", "params": {"assistant_id": "script", "input": HI}}
        headers = {"idempotency-key": "once"}
        first = await house.http.post(f"{line.path}/commands", json=body, headers=headers)
        again = await house.http.post(f"{line.path}/commands", json=body, headers=headers)
        assert first.json() == again.json()
        assert first.headers["x-run-id"] == first.json()["result"]["run_id"]
        await (await house.started()).end()
        other = await house.http.post(f"{line.path}/commands", json={**body, "id": 2}, headers=headers)
        assert other.json()["type"] == "error"

    visit(scene)

"""Workflow runs that wait for their callers: tools, questions, pauses, races and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from msgspec import Raw

from proxy.adapter import RunInput
from proxy.errors import Conflict, NotFound, ProxyError
from proxy.events import Completed, Event, Interrupt, Paused, PendingCall, TextDelta, ToolCallDelta, ToolResult, Usage
from proxy.testing import ScriptedRun
from proxy.workflow_model import WorkflowRun
from proxy.workflows.board import Policy
from tests.workflows.hall import Hall, stage, text, types
from tests.workflows.specs import Json, fanout, join, llm

CLIENT: Json = {"tools": [{"type": "function", "function": {"name": "look"}}], "tool_execution": {"mode": "client"}}
WAITS = ["node_llm_call", "node_tool_call", "node_waiting"]


def calling(*names: str, tool: str = "look", arguments: str = "{}") -> list[Event]:
    """What a model says that asks its caller for these calls."""
    return [
        ToolCallDelta(call_id=name, index=index, name=tool, arguments=arguments, client=True)
        for index, name in enumerate(names)
    ]


async def asks(hall: Hall, *names: str, **more: str) -> ScriptedRun:
    """Let the next child run ask for these calls."""
    child = await hall.child()
    await child.say(*calling(*names, **more), Usage(model="m", input_tokens=1))
    await child.end(Completed(finish_reason="tool_calls"))
    return child


async def waiting(hall: Hall, run: WorkflowRun) -> Json:
    return (await hall.log(run, until="node_waiting"))[-1]


def test_a_run_waits_for_its_callers_tools_and_goes_on_with_the_whole_conversation() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", "Look!", **CLIENT))
        first = await asks(hall, "c1")
        assert [tool.function.name for tool in first.given.tools if tool.function] == ["look"]
        waits = await waiting(hall, run)
        assert waits["waiting"]["reason"] == "tool_results"
        assert (await hall.record(run)).status == "waiting"
        assert await hall.give(run, waits, {"c1": "a tree"}) == "running"
        second = await hall.reply("A tree.")
        assert [message.role for message in second.given.messages] == ["user", "assistant", "tool"]
        assert second.given.messages[-1].text == "a tree"
        log = await hall.log(run)
        told = ["node_started", *WAITS, "node_tool_result", "node_llm_call", "node_output", "node_succeeded"]
        assert types(log, "a") == told
        steps = [event["llm_call"]["step"] for event in log if event["type"] == "node_llm_call"]
        assert steps == [0, 1]
        assert text((await hall.outputs(run))["result"]) == "A tree."

    stage(scene)


def test_ids_longer_than_clients_take_are_told_as_others_and_answered_by_these() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", **CLIENT))
        names = ["c" * 256, "c" * 257, "c" * 257 + "d"]
        await asks(hall, *names)
        waits = await waiting(hall, run)
        ids = [each["tool_call"]["id"] for each in waits["waiting"]["pending_tool_calls"]]
        assert ids[0] == names[0]
        assert all(len(id) <= 256 for id in ids)
        assert await hall.give(run, waits, {id: str(number) for number, id in enumerate(ids)}) == "running"
        second = await hall.reply("ok")
        assert [call.id for call in second.given.messages[-4].tool_calls or ()] == ids
        assert [(each.tool_call_id, each.text) for each in second.given.messages[-3:]] == list(
            zip(ids, "012", strict=True)
        )
        log = await hall.log(run)
        assert [event["tool_call"]["tool_call"]["id"] for event in log if event["type"] == "node_tool_call"] == ids
        assert [event["tool_result"]["tool_call"]["id"] for event in log if event["type"] == "node_tool_result"] == ids

    stage(scene)


def test_a_part_of_the_results_is_taken_and_the_rest_waited_for() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", **CLIENT))
        await asks(hall, "c1", "c2")
        waits = await waiting(hall, run)
        assert await hall.give(run, waits, {"c2": "two"}) == "waiting"
        with pytest.raises(Conflict):
            await hall.give(run, waits, {"c2": "again"})
        with pytest.raises(Conflict):
            await hall.give(run, waits, {"c1": "one", "c3": "no such call"})
        assert await hall.give(run, waits, {"c1": "one"}) == "running"
        second = await hall.reply("ok")
        assert [message.text for message in second.given.messages[-2:]] == ["one", "two"]
        await hall.log(run)

    stage(scene)


def test_of_many_that_answer_at_once_one_is_taken() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", **CLIENT))
        await asks(hall, "c1")
        waits = await waiting(hall, run)
        answers = await asyncio.gather(
            *(hall.give(run, waits, {"c1": str(number)}) for number in range(20)), return_exceptions=True
        )
        taken = [number for number, answer in enumerate(answers) if answer == "running"]
        assert len(taken) == 1
        assert all(isinstance(answer, Conflict | NotFound) for answer in answers if answer != "running")
        second = await hall.reply("ok")
        assert second.given.messages[-1].text == str(taken[0])
        assert types(await hall.log(run)).count("node_tool_result") == 1

    stage(scene)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"node_id": "b"}, NotFound),
        ({"step": 1}, Conflict),
        ({"request_id": "01a1fcdc-471d-7ea2-b6b8-681c91faffc5"}, Conflict),
    ],
)
def test_results_for_something_else_are_refused(change: Json, error: type[ProxyError]) -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", **CLIENT), llm("b", "{{a}}"))
        await asks(hall, "c1")
        waits = await waiting(hall, run)
        wrong = {
            "node_id": change.get("node_id", "a"),
            "waiting": {**waits["waiting"], **change},
        }
        with pytest.raises(error):
            await hall.give(run, wrong, {"c1": "x"})
        assert await hall.give(run, waits, {"c1": "x"}) == "running"

    stage(scene)


def test_a_question_to_the_user_is_told_with_its_answer() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", tools=["user_ask"]))
        first = await asks(hall, "q1", tool="user_ask", arguments='{"question":"Which?","options":[{"label":"x"}]}')
        assert [tool.function.name for tool in first.given.tools if tool.function] == ["user_ask"]
        log = await hall.log(run, until="node_waiting")
        assert types(log)[-2:] == ["node_user_ask", "node_waiting"]
        assert log[-2]["user_ask"]["question"] == "Which?"
        await hall.give(run, log[-1], {"q1": '{"answer":"x","is_freeform":false}'})
        await hall.reply("ok")
        log = await hall.log(run)
        answers = [event["user_answer"] for event in log if event["type"] == "node_user_answer"]
        assert [(answer["answer"], answer["is_freeform"]) for answer in answers] == [("x", False)]

    stage(scene)


def test_other_branches_go_on_while_one_waits() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(
            llm("a", **CLIENT), llm("b", "Hi", model="echo", depends_on=[]), llm("c", "{{b}}", model="echo")
        )
        await asks(hall, "c1")
        waits = await waiting(hall, run)
        log = await hall.log(run, until="node_succeeded", count=2)
        assert types(log, "b")[-1] == types(log, "c")[-1] == "node_succeeded"
        await hall.give(run, waits, {"c1": "x"})
        await hall.reply("ok")
        await hall.log(run)

    stage(scene)


def test_items_of_a_fan_out_wait_each_for_themselves() -> None:
    async def scene(hall: Hall) -> None:
        inner = llm("one", "{{item}}", **CLIENT)
        run = await hall.begin(fanout("all", inner, items_from_input="items"), input={"items": ["x", "y"]})
        for name in ("c", "c"):
            await asks(hall, name)
        log = await hall.log(run, until="node_waiting", count=2)
        first, second = (event for event in log if event["type"] == "node_waiting")
        assert {first["waiting"]["step"], second["waiting"]["step"]} == {0, 1}
        await hall.give(run, second, {"c": "second"})
        child = await hall.reply("one is done")
        assert child.given.messages[-1].text == "second"
        await hall.give(run, first, {"c": "first"})
        child = await hall.reply("two is done")
        assert child.given.messages[-1].text == "first"
        assert (await hall.log(run))[-1]["type"] == "run_completed"

    stage(scene)


def test_who_does_not_answer_in_time_fails_the_node() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", **CLIENT))
        await asks(hall, "c1")
        log = await hall.log(run)
        assert types(log)[-2:] == ["node_failed", "run_failed"]
        assert log[-1]["error"]["code"] == "tool_wait_timeout"

    stage(scene, policy=Policy(tool_wait=0.05))


def test_a_run_that_waits_can_be_cancelled() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", **CLIENT))
        await asks(hall, "c1")
        waits = await waiting(hall, run)
        assert (await hall.engine.cancel("default", run.run_id)).status == "canceled"
        with pytest.raises(NotFound):
            await hall.give(run, waits, {"c1": "too late"})
        assert (await hall.log(run))[-1]["type"] == "run_canceled"

    stage(scene)


def test_a_cancel_and_results_at_once_leave_one_end() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", **CLIENT))
        await asks(hall, "c1")
        waits = await waiting(hall, run)
        results: list[Any] = await asyncio.gather(
            hall.give(run, waits, {"c1": "x"}), hall.engine.cancel("default", run.run_id), return_exceptions=True
        )
        assert results[1].status == "canceled"
        assert (await hall.log(run))[-1]["type"] == "run_canceled"

    stage(scene)


async def pausing(run: RunInput) -> AsyncGenerator[Event]:
    """Asks once, in a state of its own, and then says what it was told."""
    if run.answer is None:
        yield TextDelta(text="One moment.")
        yield ToolCallDelta(call_id="own", name="save", arguments="{}")
        yield Paused(
            interrupts=(Interrupt(id="i1", value=Raw(b'"Go on?"')),), calls=(PendingCall(call_id="c1", name="look"),)
        )
    else:
        yield ToolResult(call_id="own", output="saved")
        yield TextDelta(text=f"{bytes(run.answer.interrupts['i1']).decode()} {run.answer.calls['c1']} {run.fresh}")


def test_an_agent_that_pauses_is_resumed_where_it_was() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", model="pausing", **CLIENT))
        log = await hall.log(run, until="node_waiting")
        asked = [event["user_ask"]["question"] for event in log if event["type"] == "node_user_ask"]
        assert asked == ["Go on?"]
        await hall.give(run, log[-1], {"call_i1": "yes", "c1": "a tree"})
        log = await hall.log(run)
        assert text((await hall.outputs(run))["result"]) == '"yes" a tree False'
        results = [event["tool_result"] for event in log if event["type"] == "node_tool_result"]
        assert [(each["tool_call"]["name"], each["step"]) for each in results] == [
            ("look", 0),
            ("user_ask", 0),
            ("save", 0),
        ]

    stage(scene, pausing=pausing)


LONG = "c" * 300


async def pausing_at_length(run: RunInput) -> AsyncGenerator[Event]:
    """Asks once under ids that are longer than clients take."""
    if run.answer is None:
        yield ToolCallDelta(call_id=LONG + "own", name="save", arguments="{}")
        yield ToolResult(call_id=LONG + "own", output="saved")
        yield Paused(interrupts=(Interrupt(id=LONG),), calls=(PendingCall(call_id=LONG, name="look"),))
    else:
        yield TextDelta(text=f"{bytes(run.answer.interrupts[LONG]).decode()} {run.answer.calls[LONG]}")


def test_an_agent_that_pauses_is_answered_by_its_own_ids_however_long() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", model="pausing", **CLIENT))
        waits = await waiting(hall, run)
        look, ask = [each["tool_call"]["id"] for each in waits["waiting"]["pending_tool_calls"]]
        await hall.give(run, waits, {ask: "yes", look: "a tree"})
        log = await hall.log(run)
        assert text((await hall.outputs(run))["result"]) == '"yes" a tree'
        [save, *_] = [event["tool_result"]["tool_call"] for event in log if event["type"] == "node_tool_result"]
        assert save["name"] == "save"
        assert max(len(id) for id in (look, ask, save["id"])) <= 256

    stage(scene, pausing=pausing_at_length)


def test_a_branch_that_waits_and_is_needed_no_more_is_no_longer_pending() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(
            llm("a", **CLIENT), llm("b"), join("any", "j", "a", "b"), llm("c", "{{j}}", depends_on=["j"])
        )
        first, second = await hall.child(), await hall.child()
        await first.say(*calling("c1"))
        await first.end(Completed(finish_reason="tool_calls"))
        waits = await waiting(hall, run)
        await second.say("quick")
        await second.end()
        log = await hall.log(run, until="node_failed")
        assert (log[-1]["node_id"], log[-1]["error"]["code"]) == ("a", "canceled")
        with pytest.raises(NotFound):
            await hall.give(run, waits, {"c1": "x"})
        assert (await hall.record(run)).status == "running"
        await hall.reply("ok")
        assert (await hall.log(run))[-1]["type"] == "run_completed"

    stage(scene)

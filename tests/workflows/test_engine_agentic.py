"""Nodes that loop by themselves, and how far they may go: eight calls of a model, sixteen tools in one of them."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.events import Completed, Event, TextDelta, ToolCallDelta, ToolResult, Usage
from proxy.store.memory.store import MemoryStore
from proxy.testing import ScriptedRun
from tests.workflows.hall import Hall, hall, stage, text, types
from tests.workflows.specs import Json, fanout, llm

AGENTIC: Json = {"tool_execution": {"mode": "agentic"}}
ASKING: Json = {**AGENTIC, "tools": ["user_ask"]}
QUESTION = '{"question":"Really?"}'


def looped(step: int, width: int = 1) -> list[Event]:
    """One call of a model that uses tools of the agent's own, and what these give."""
    names = [f"c{step}-{number}" for number in range(width)]
    called = [ToolCallDelta(call_id=name, index=at, name="look", arguments="{}") for at, name in enumerate(names)]
    results = [ToolResult(call_id=name, output="seen") for name in names]
    return [*called, Usage(model="m", input_tokens=1), *results]


async def loops(child: ScriptedRun, times: int, width: int = 1) -> None:
    for step in range(times):
        await child.say(*looped(step, width))


def counted(log: list[Json]) -> tuple[int, int]:
    """Calls of models and of tools that a log tells of."""
    return types(log).count("node_llm_call"), types(log).count("node_tool_call")


def end_of(log: list[Json]) -> Any:
    return log[-1]["error"]["code"], next(each["error"]["message"] for each in log if each["type"] == "node_failed")


def test_eight_calls_of_a_model_are_no_fault() -> None:
    async def scene(here: Hall) -> None:
        run = await here.begin(llm("a", **AGENTIC))
        child = await here.child()
        await loops(child, 7, width=16)
        await child.say("Done.", Usage(model="m", input_tokens=1))
        await child.end()
        log = await here.log(run)
        assert counted(log) == (8, 112)
        assert text((await here.outputs(run))["result"]) == "Done."

    stage(scene)


def test_the_ninth_call_of_a_model_fails_the_node_and_stops_its_run() -> None:
    async def scene(here: Hall) -> None:
        run = await here.begin(llm("a", **AGENTIC))
        child = await here.child()
        await loops(child, 8)
        await child.say(TextDelta(text="And another"))
        log = await here.log(run)
        assert end_of(log) == ("too_many_calls", "The model was asked more than 8 times in a row.")
        assert counted(log) == (8, 8)
        await child.closed.wait()

    stage(scene)


def test_seventeen_tools_at_once_fail_the_node() -> None:
    async def scene(here: Hall) -> None:
        run = await here.begin(llm("a", **AGENTIC))
        child = await here.child()
        await child.say(*looped(0, 17)[:17])
        log = await here.log(run)
        assert end_of(log) == ("too_many_calls", "The model asked for more than 16 tools at once.")
        await child.closed.wait()

    stage(scene)


@pytest.mark.parametrize("more", [{}, {"tool_execution": {"mode": "server"}}])
def test_nodes_of_other_modes_go_as_far_as_their_agents_do(more: Json) -> None:
    async def scene(here: Hall) -> None:
        run = await here.begin(llm("a", **more))
        child = await here.child()
        await loops(child, 12, width=17)
        await child.say("Done.")
        await child.end()
        assert counted(await here.log(run)) == (13, 204)

    stage(scene)


def test_each_item_of_a_fan_out_has_its_own_count() -> None:
    async def scene(here: Hall) -> None:
        run = await here.begin(
            fanout("f", llm("one", "{{item}}", **AGENTIC), items_from_input="items"), input={"items": [1, 2]}
        )
        children = [await here.child() for _ in range(2)]
        for child in children:
            await loops(child, 7)
        for child in children:
            await child.say("ok", Usage(model="m"))
            await child.end()
        assert counted(await here.log(run)) == (16, 14)

    stage(scene)


async def ask_on(here: Hall, run: Any, times: int, before: int = 0) -> None:
    """Let the model ask its user so often, and answer."""
    for number in range(before + 1, before + times + 1):
        child = await here.child()
        await child.say(
            ToolCallDelta(call_id=f"q{number}", index=0, name="user_ask", arguments=QUESTION, client=True),
            Usage(model="m", input_tokens=1),
        )
        await child.end(Completed(finish_reason="tool_calls"))
        if number < 8:
            asked = (await here.log(run, until="node_waiting", count=number))[-1]
            await here.give(run, asked, {f"q{number}": "yes"})


def test_questions_to_the_user_count_as_calls_also_over_a_restart() -> None:
    async def scene(here: Hall) -> None:
        run = await here.begin(llm("a", **ASKING))
        await ask_on(here, run, 7)
        await here.child()
        await here.engine.close()
        async with hall(here.store) as there:
            await ask_on(there, run, 1, before=7)
            log = await there.log(run)
            assert end_of(log)[0] == "too_many_calls"
            assert types(log).count("node_waiting") == 7
            assert counted(log)[0] == 8

    stage(scene, store=MemoryStore())


def test_the_last_call_may_be_the_answer() -> None:
    async def scene(here: Hall) -> None:
        run = await here.begin(llm("a", **ASKING))
        await ask_on(here, run, 7)
        await here.reply("Done.", Usage(model="m"))
        assert (await here.log(run))[-1]["type"] == "run_completed"

    stage(scene)

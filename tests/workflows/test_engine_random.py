"""Workflow runs driven at random: whatever happens, the log is whole and ends once."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from proxy.errors import ProxyError
from proxy.events import Completed, ToolCallDelta, Usage
from proxy.testing import ScriptedRun
from proxy.testing.script import RunOver
from proxy.workflow_model import WorkflowRun
from proxy.workflows.board import Policy
from tests.workflows.hall import Hall, stage, types
from tests.workflows.specs import Json, fanout, join, llm, transform

CLIENT: Json = {"tools": [{"type": "function", "function": {"name": "look"}}], "tool_execution": {"mode": "client"}}


def nodes(dice: random.Random) -> list[Json]:
    """Some nodes, each of which may need those before it."""
    made: list[Json] = []
    for number in range(dice.randint(2, 7)):
        name, before = f"n{number}", [each["id"] for each in made]
        needs = dice.sample(before, min(len(before), dice.randint(0, 3)))
        kind = dice.choice(["llm", "llm", "tools", "all", "any", "collect", "fanout", "transform"])
        if kind in ("all", "any", "collect") and needs:
            more = {"timeout_ms": 20} if kind == "collect" else {}
            made.append(join(kind, name, *needs, **more))
        elif kind == "transform" and needs:
            made.append(transform(name, object={each: {"from": each} for each in needs}))
        elif kind == "fanout":
            inner = llm("one", "{{item}}", **(CLIENT if dice.random() < 0.3 else {}))
            made.append(fanout(name, inner, items_from_input="items", depends_on=needs))
        else:
            own = CLIENT if kind == "tools" else {}
            made.append(llm(name, depends_on=needs, stream=dice.random() < 0.5, **own))
    return made


async def perform(child: ScriptedRun, dice: random.Random, *, failing: float) -> None:
    """What one child run does."""
    offered = bool(child.given.tools) and not any(message.role == "tool" for message in child.given.messages)
    try:
        for word in range(dice.randint(0, 3)):
            await child.say(f"{word} ")
        await child.say(Usage(model="m", input_tokens=1, output_tokens=1))
        if dice.random() < failing:
            await child.fail(RuntimeError("no"))
        elif offered and dice.random() < 0.8:
            count = dice.randint(1, 2)
            await child.say(
                *(ToolCallDelta(call_id=f"c{at}", index=at, name="look", client=True) for at in range(count))
            )
            await child.end(Completed(finish_reason="tool_calls"))
        else:
            await child.end()
    except RunOver:
        pass


async def play(hall: Hall, dice: random.Random, failing: float) -> None:
    """Carry out whatever is started."""
    async with asyncio.TaskGroup() as group:
        while True:
            child = await hall.adapter.started()
            group.create_task(perform(child, dice, failing=failing))


async def answers(hall: Hall, run: WorkflowRun) -> list[Json]:
    """Follow a run, and answer all that it asks."""
    async with asyncio.TaskGroup() as group:
        seen: set[int] = set()
        count = 0
        while True:
            count += 1
            log = await hall.log(run, until="node_waiting", count=count)
            if log[-1]["type"] != "node_waiting":
                return log
            if log[-1]["seq"] not in seen:
                seen.add(log[-1]["seq"])
                group.create_task(answer(hall, run, log[-1]))


async def answer(hall: Hall, run: WorkflowRun, waits: Json) -> None:
    for call in waits["waiting"]["pending_tool_calls"]:
        try:
            await hall.give(run, waits, {call["tool_call"]["id"]: "x"})
        except ProxyError:
            return


def check(log: list[Json]) -> None:
    """Each node starts once and ends once; each step of a node is one call of a model; results follow their calls."""
    ends = ("node_succeeded", "node_failed")
    for node in {event["node_id"] for event in log if "node_id" in event}:
        told = types(log, node)
        assert told[0] == "node_started"
        assert told.count("node_started") == 1
        assert sum(told.count(end) for end in ends) <= 1
        assert not (set(told[:-1]) & set(ends)), "nothing follows the end of a node"
        steps = [event["llm_call"]["step"] for event in log if event.get("node_id") == node and "llm_call" in event]
        assert len(set(steps)) == len(steps)
    asked: set[Any] = set()
    for event in log:
        if "tool_call" in event:
            asked.add((event["node_id"], event["tool_call"]["request_id"], event["tool_call"]["tool_call"]["id"]))
        if "tool_result" in event:
            words = event["tool_result"]
            asked.remove((event["node_id"], words["request_id"], words["tool_call"]["id"]))


@pytest.mark.parametrize("seed", range(40))
def test_any_run_has_one_end_and_a_sound_log(seed: int) -> None:
    dice = random.Random(seed)
    made = nodes(dice)
    failing, cancelling = dice.choice([0.0, 0.0, 0.2]), dice.random() < 0.4

    async def scene(hall: Hall) -> None:
        run = await hall.begin(*made, input={"items": ["x", "y", "z"]}, outputs={"x": made[-1]["id"]})
        playing = asyncio.create_task(play(hall, dice, failing))
        following = asyncio.create_task(answers(hall, run))
        if cancelling:
            for _ in range(dice.randint(0, 200)):
                await asyncio.sleep(0)
            await hall.engine.cancel("default", run.run_id)
        log = await following
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        check(log)
        words = {"run_completed": "succeeded", "run_failed": "failed", "run_canceled": "canceled"}
        record = await hall.record(run)
        assert (record.status, record.last_seq) == (words[log[-1]["type"]], len(log))
        if not failing and not cancelling:
            assert log[-1]["type"] == "run_completed", log[-1]

    stage(scene, policy=Policy(nodes=dice.randint(1, 4), items=dice.randint(1, 3)))

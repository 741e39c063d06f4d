"""Workflow runs from their start to their end: what each kind of node does, and what the log says of it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from proxy.errors import Draining, UpstreamError
from proxy.events import Completed, ToolCallDelta, ToolResult, Usage
from proxy.model import Idempotency
from proxy.runs.agents import Published
from proxy.settings import Limits
from proxy.workflow_model import Session
from proxy.workflows.board import Policy
from proxy.workflows.costs import cents, cents_in
from proxy.workflows.inputs import InvalidInput
from proxy.workflows.issues import InvalidWorkflow
from proxy.workflows.launch import Wanted, prepared
from proxy.workflows.models import Overrides
from tests.workflows.hall import Hall, stage, text, types
from tests.workflows.specs import fanout, join, llm, plan, transform

LLM = ["node_started", "node_llm_call", "node_output", "node_succeeded"]


def test_a_chain_passes_texts_on_and_tells_of_each_step() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a"), llm("b", "Say: {{a}}"))
        await hall.reply("Hello", Usage(model="m", input_tokens=3, output_tokens=2))
        second = await hall.reply("Bye")
        assert second.given.text == "Say: Hello"
        assert second.given.metadata == {"workflow_run_id": run.run_id, "workflow_node_id": "b"}
        log = await hall.log(run)
        assert types(log) == ["run_compiled", "run_started", *LLM, *LLM, "run_completed"]
        assert log[3]["llm_call"]["usage"] == {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
        assert text((await hall.outputs(run))["result"]) == "Bye"
        assert (await hall.record(run)).status == "succeeded"

    stage(scene)


def test_pieces_of_a_text_add_up_to_it() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a"), stream=True)
        child = await hall.child()
        await child.say(*"Hello")
        await child.end()
        log = await hall.log(run)
        deltas = [event["delta"] for event in log if event["type"] == "node_output_delta"]
        assert [deltas[0]["kind"], deltas[-1]["kind"]] == ["message_start", "message_stop"]
        assert "".join(delta.get("text_delta", "") for delta in deltas) == "Hello"
        assert types(log)[-4] == "node_llm_call"

    stage(scene)


def test_pieces_are_seen_while_the_model_goes_on() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", stream=True))
        child = await hall.child()
        await child.say("Hello")
        assert types(await hall.log(run, until="node_output_delta"))[-1] == "node_output_delta"
        await child.end()
        await hall.log(run)

    stage(scene)


def test_a_fan_out_asks_for_each_item_and_keeps_their_order() -> None:
    async def scene(hall: Hall) -> None:
        inner = llm("one", "{{item}}", model="echo")
        run = await hall.begin(fanout("all", inner, items_from_input="items"), input={"items": ["x", "y", "z"]})
        log = await hall.log(run)
        steps = [event["llm_call"]["step"] for event in log if event["type"] == "node_llm_call"]
        assert sorted(steps) == [0, 1, 2]
        results = (await hall.outputs(run))["result"]["results"]
        assert [text(result) for result in results] == ["x", "y", "z"]

    stage(scene)


def test_a_join_of_all_and_a_transform_see_whole_values() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(
            llm("a", "one", model="echo"),
            llm("b", "two", model="echo"),
            join("all", "both", "a", "b"),
            transform("t", object={"first": {"from": "both", "pointer": "/a/output/0/content/0/text"}}),
        )
        await hall.log(run)
        assert (await hall.outputs(run))["result"] == {"first": "one"}

    stage(scene)


def test_the_first_branch_wins_and_the_others_are_stopped() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a"), llm("b", "fast", model="echo"), join("any", "j", "a", "b"))
        slow = await hall.child()
        log = await hall.log(run)
        assert log[-1]["type"] == "run_completed"
        assert list((await hall.outputs(run))["result"]) == ["b"]
        await asyncio.wait_for(slow.closed.wait(), 5)
        assert "node_succeeded" not in types(log, "a")

    stage(scene)


def test_a_collecting_join_goes_on_when_its_time_is_over() -> None:
    async def scene(hall: Hall) -> None:
        collect = join("collect", "j", "a", "b", timeout_ms=50)
        run = await hall.begin(llm("a"), llm("b", "fast", model="echo"), collect)
        slow = await hall.child()
        await hall.log(run)
        assert list((await hall.outputs(run))["result"]) == ["b"]
        await asyncio.wait_for(slow.closed.wait(), 5)

    stage(scene)


def test_a_node_that_fails_ends_the_run_and_stops_its_siblings() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a"), llm("b"), llm("c", "{{a}}{{b}}"))
        first, second = await hall.child(), await hall.child()
        await first.fail(RuntimeError("no"))
        log = await hall.log(run)
        assert types(log)[-2:] == ["node_failed", "run_failed"]
        assert log[-1]["error"]["code"] == "internal_error"
        assert types(log, "c") == []
        await asyncio.wait_for(second.closed.wait(), 5)
        assert (await hall.record(run)).status == "failed"

    stage(scene)


def test_an_answer_that_is_no_json_is_asked_for_again() -> None:
    async def scene(hall: Hall) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
        retry = {"max_attempts": 2, "backoff_ms": 0}
        run = await hall.begin(llm("a", output_format=wanted, retry=retry, max_output_tokens=9, stop=["x"]))
        first = await hall.reply("no json")
        await hall.reply("{}")
        log = await hall.log(run)
        assert types(log).count("node_llm_call") == 2
        assert [event["llm_call"]["step"] for event in log if event["type"] == "node_llm_call"] == [0, 1]
        assert log[-1]["type"] == "run_completed"
        params = {name: msgspec.json.decode(value) for name, value in first.given.params.items()}
        assert params["max_tokens"] == 9
        assert params["stop"] == ["x"]
        assert params["response_format"]["type"] == "json_schema"

    stage(scene)


def test_a_limit_on_runs_makes_nodes_wait_and_not_fail() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a"), llm("b"), llm("c"), outputs={"x": "a"})
        for _ in range(3):
            await hall.reply("ok")
        log = await hall.log(run)
        assert log[-1]["type"] == "run_completed"
        assert types(log).count("node_succeeded") == 3

    stage(scene, limits=Limits(concurrent=1))


def test_tools_of_the_agents_own_are_told_of_with_their_results() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a"))
        child = await hall.child()
        await child.say(ToolCallDelta(call_id="c1", name="add", arguments='{"a":1}'), Usage(model="m", input_tokens=1))
        await child.say(ToolResult(call_id="c1", output="2"), "It is 2.", Usage(model="m", input_tokens=2))
        await child.end()
        log = await hall.log(run)
        told = ["node_started", "node_llm_call", "node_tool_call", "node_tool_result", *LLM[1:]]
        assert types(log, "a") == told
        call, result = log[4]["tool_call"], log[5]["tool_result"]
        assert (result["step"], result["request_id"]) == (call["step"], call["request_id"]) == (0, call["request_id"])
        assert result["output"] == "2"
        assert text((await hall.outputs(run))["result"]) == "It is 2."

    stage(scene)


def test_costs_are_summed_by_model() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a"), llm("b", "{{a}}"))
        for _ in range(2):
            await hall.reply("ok", Usage(model="m", input_tokens=10, output_tokens=5))
        await hall.log(run)
        assert cents_in((await hall.record(run)).summary) == {"m": 4}

    stage(scene)


@pytest.mark.parametrize(("amount", "whole"), [(0.0, 0), (0.004, 0), (0.005, 1), (0.0149, 1), (0.015, 2), (1.0, 100)])
def test_half_a_cent_is_rounded_up(amount: float, whole: int) -> None:
    assert cents(amount) == whole


def test_a_run_says_its_outputs_in_its_session() -> None:
    async def scene(hall: Hall) -> None:
        await hall.store.insert_session(Session(session_id="s"), most=0)
        run = await hall.begin(llm("a", "Hi", model="echo"), session_id="s")
        await hall.log(run)
        [message] = await hall.store.messages("default", "s")
        assert (message.role, message.run_id) == ("assistant", run.run_id)
        assert msgspec.json.decode(message.content) == [{"type": "text", "text": "Hi"}]

    stage(scene)


def test_models_can_be_chosen_for_one_run() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", "Hi"), overrides=Overrides(nodes={"a": "echo"}))
        await hall.log(run)
        assert text((await hall.outputs(run))["result"]) == "Hi"

    stage(scene)


def test_what_cannot_run_is_refused_before_there_is_a_run() -> None:
    async def scene(hall: Hall) -> None:
        with pytest.raises(InvalidWorkflow) as unknown:
            await hall.begin(llm("a", model="nobody"))
        assert [issue.code for issue in unknown.value.issues] == ["unknown_model"]
        with pytest.raises(InvalidInput):
            await hall.begin(llm("a", "{{topic}}"))
        assert await hall.store.open_workflows() == []

    stage(scene)


def test_fifty_requests_with_one_key_make_one_run() -> None:
    async def scene(hall: Hall) -> None:
        wanted = Wanted(plan=plan(llm("a"), model="script"), idempotency=Idempotency(key="k", fingerprint="f"))
        runs = await asyncio.gather(*(hall.engine.start(wanted) for _ in range(50)))
        assert len({run.run_id for run in runs}) == 1
        await hall.reply("once")
        log = await hall.log(runs[0])
        assert types(log).count("node_started") == 1
        assert (await hall.engine.start(wanted)).status == "succeeded"

    stage(scene)


@pytest.mark.parametrize("words", range(6))
def test_a_cancel_at_any_point_leaves_one_end(words: int) -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a", stream=True), llm("b", "{{a}}"), llm("c"), outputs={"x": "b"})
        children = [await hall.child() for _ in range(2 if words else 0)]
        for word in range(words - 1):
            await children[0].say(str(word))
        if words == 5:
            await children[0].end()
        ended = await asyncio.gather(*(hall.engine.cancel("default", run.run_id) for _ in range(3)))
        assert {each.status for each in ended} == {"canceled"}
        log = await hall.log(run)
        assert log[-1]["type"] == "run_canceled"
        assert log[-1]["error"]["code"] == "canceled"
        for child in children:
            await asyncio.wait_for(child.closed.wait(), 5)
        assert not hall.manager.live or all(child.closed.is_set() for child in children)
        assert (await hall.engine.cancel("default", run.run_id)).status == "canceled"

    stage(scene)


def test_a_cancelled_child_fails_its_node() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a"))
        child = await hall.child()
        await hall.manager.cancel("default", child.given.run_id)
        log = await hall.log(run)
        assert types(log)[-2:] == ["node_failed", "run_failed"]

    stage(scene)


def test_a_server_that_goes_down_takes_no_runs() -> None:
    async def scene(hall: Hall) -> None:
        await hall.engine.close()
        with pytest.raises(Draining):
            await hall.begin(llm("a"))

    stage(scene)


def test_a_text_cut_short_is_a_value_like_any_other() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a"))
        child = await hall.child()
        await child.say("Once upon")
        await child.end(Completed(finish_reason="length"))
        await hall.log(run)
        assert (await hall.outputs(run))["result"]["stop_reason"] == "max_tokens"

    stage(scene)


def test_a_failure_of_ours_ends_the_node_and_hangs_nobody() -> None:
    async def scene(hall: Hall) -> None:
        async def breaks(name: str) -> Published:
            raise ValueError("a bug")

        wanted = Wanted(plan=plan(llm("a"), model="script"))
        start, score = await prepared(wanted, hall.manager.agents, Policy())
        hall.manager.agents.find = breaks  # type: ignore[method-assign]
        run = await hall.engine._begin(start, score)
        log = await hall.log(run)
        assert types(log)[-2:] == ["node_failed", "run_failed"]
        assert log[-1]["error"]["code"] == "internal_error"

    stage(scene)


def test_a_catalogue_that_cannot_be_read_is_a_failed_run_and_not_a_refusal() -> None:
    async def scene(hall: Hall) -> None:
        async def away(name: str) -> Published:
            raise UpstreamError("The upstream is away.")

        hall.manager.agents.find = away  # type: ignore[method-assign]
        run = await hall.begin(llm("a"))
        log = await hall.log(run)
        assert (log[-1]["type"], log[-1]["error"]["code"]) == ("run_failed", "llm_error")
        assert "node_llm_call" not in types(log)

    stage(scene)


def test_a_tool_without_a_name_does_not_spoil_the_log() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a"))
        await hall.reply("ok", ToolCallDelta(call_id="c1", name=""))
        calls = [event["tool_call"]["tool_call"] for event in await hall.log(run) if "tool_call" in event]
        assert [call["name"] for call in calls] == ["unknown"]

    stage(scene)

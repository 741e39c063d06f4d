from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.workflows.compile import compile_workflow
from proxy.workflows.faults import Fault
from proxy.workflows.tasks import (
    NodeState,
    RunFailed,
    RunState,
    RunSucceeded,
)
from tests.workflows.driver import Driver, outputs, prompt, words
from tests.workflows.specs import fanout, join, llm, plan, said, spec, transform

NO = {"source": "node_output", "op": "matches", "path": "$.output[0].content[0].text", "value": "^yes"}


def test_a_chain_runs_one_node_after_the_other_and_gives_the_last_ones_response() -> None:
    run = Driver(plan(llm("a", "Say {{task}}."), llm("b", "Shout {{a}}!")), {"task": "hello"})
    assert words(run.latest) == ["NodeStarted a", "Start a"]
    assert prompt(run, "a") == "Say hello."
    assert words(run.say("a", "hi")) == ["NodeSucceeded a", "NodeStarted b", "Start b"]
    assert prompt(run, "b") == "Shout hi!"
    assert words(run.say("b", "HI")) == ["NodeSucceeded b", "RunSucceeded"]
    assert outputs(run) == {"result": said("HI")}
    assert set(run.schedule.states.values()) == {NodeState.SUCCEEDED}
    assert run.schedule.state is RunState.SUCCEEDED


def test_a_join_of_all_gives_whole_values_by_node_to_prompts_as_json() -> None:
    run = Driver(plan(llm("a"), llm("b"), join("all", "j", "b", "a"), llm("c", "{{j}}")))
    assert run.running() == ["a", "b"]
    run.say("a", "1")
    assert words(run.say("b", "2")) == [
        "NodeSucceeded b", "NodeStarted j", "NodeSucceeded j", "NodeStarted c", "Start c",
    ]  # fmt: skip
    assert prompt(run, "c") == json.dumps({"b": said("2"), "a": said("1")}, separators=(",", ":"))


def test_a_failing_node_fails_the_run_stops_its_siblings_and_cancels_what_follows() -> None:
    run = Driver(plan(llm("a"), llm("b"), join("all", "j", "a", "b")))
    decisions = run.fail("a", Fault(code="llm_error", message="It broke."))
    assert words(decisions) == ["NodeFailed a", "Stop b", "RunFailed"]
    assert run.end == RunFailed(Fault(code="llm_error", message="Node `a` failed: It broke."))
    assert dict(run.schedule.states) == {"a": "failed", "b": "canceled", "j": "canceled"}
    assert run.schedule.faults["a"].message == "It broke."


def test_what_is_reported_of_a_stopped_task_changes_nothing() -> None:
    run = Driver(plan(llm("a"), llm("b"), join("all", "j", "a", "b")))
    late = run.task("b")
    run.fail("a")
    assert run.schedule.succeeded(late, said("x"), 1.0) == []
    assert run.schedule.failed(late, Fault(code="x", message="x"), 1.0) == []
    assert run.schedule.waiting(late, 1.0) == run.schedule.answered(late, 1.0) == []
    assert run.schedule.tick(99.0) == run.schedule.cancel(99.0) == []


def test_a_join_of_any_takes_the_first_accepted_branch_and_stops_the_others() -> None:
    run = Driver(plan(llm("a"), llm("b"), llm("c"), join("any", "j", "a", "b", "c", predicate=NO)))
    assert words(run.say("b", "no")) == ["NodeSucceeded b"]
    assert words(run.say("c", "yes, c")) == [
        "NodeSucceeded c", "NodeStarted j", "NodeSucceeded j", "Stop a", "NodeCanceled a", "RunSucceeded",
    ]  # fmt: skip
    assert outputs(run) == {"result": {"c": said("yes, c")}}


def test_a_losing_branch_that_something_else_needs_goes_on() -> None:
    run = Driver(plan(llm("a"), llm("b"), join("any", "j", "a", "b"), outputs={"j": "j", "b": "b"}))
    run.say("a")
    assert run.running() == ["b"]
    run.say("b", "late")
    assert outputs(run)["b"] == said("late")


def test_the_failure_of_a_branch_costs_a_join_of_any_that_branch_and_the_last_one_the_run() -> None:
    run = Driver(plan(llm("a"), llm("b"), join("any", "j", "a", "b")))
    assert words(run.fail("a")) == ["NodeFailed a"]
    assert run.schedule.state is RunState.RUNNING
    assert words(run.fail("b")) == ["NodeFailed b", "NodeStarted j", "NodeFailed j", "RunFailed"]
    assert run.schedule.faults["j"].code == "no_branch_accepted"


def test_a_branch_is_all_that_serves_the_join_alone() -> None:
    run = Driver(plan(llm("a"), llm("a2", "{{a}}"), llm("b"), llm("b2", "{{b}}"), join("any", "j", "a2", "b2")))
    assert words(run.fail("a")) == ["NodeFailed a", "NodeCanceled a2"]
    run.say("b")
    run.say("b2")
    assert isinstance(run.end, RunSucceeded)


def test_a_failed_branch_that_is_an_output_too_fails_the_run() -> None:
    run = Driver(plan(llm("a"), llm("b"), join("any", "j", "a", "b"), outputs={"j": "j", "a": "a"}))
    run.fail("a")
    assert isinstance(run.end, RunFailed)


def test_a_collecting_join_goes_on_at_its_limit_in_the_order_of_its_branches() -> None:
    run = Driver(plan(llm("a"), llm("b"), llm("c"), join("collect", "j", "a", "b", "c", limit=2)))
    run.say("c", "3")
    assert words(run.say("a", "1")) == [
        "NodeSucceeded a", "NodeStarted j", "NodeSucceeded j", "Stop b", "NodeCanceled b", "RunSucceeded",
    ]  # fmt: skip
    assert list(outputs(run)["result"]) == ["a", "c"]


def test_a_collecting_join_goes_on_with_what_was_accepted_when_all_have_ended() -> None:
    run = Driver(plan(llm("a"), llm("b"), llm("c"), join("collect", "j", "a", "b", "c", limit=3, predicate=NO)))
    run.say("a", "yes")
    run.say("b", "no")
    run.fail("c")
    assert outputs(run) == {"result": {"a": said("yes")}}


def test_a_collecting_join_goes_on_after_its_time_counted_from_the_start_of_its_first_branch() -> None:
    slow = plan(llm("x"), llm("a", "{{x}}"), llm("b", "{{x}}"), join("collect", "j", "a", "b", timeout_ms=5000))
    run = Driver(slow, at=100.0)
    assert run.schedule.wake_at is None
    run.at = 150.0
    run.say("x")
    assert run.schedule.wake_at == 155.0
    assert run.wait(4.9) == []
    run.say("b", "in time")
    assert words(run.wait(0.1)) == ["NodeStarted j", "NodeSucceeded j", "Stop a", "NodeCanceled a", "RunSucceeded"]
    assert outputs(run) == {"result": {"b": said("in time")}}


def test_a_collecting_join_that_nobody_answers_in_time_gives_an_empty_object() -> None:
    run = Driver(plan(llm("a"), join("collect", "j", "a", timeout_ms=1)))
    run.wait(1)
    assert outputs(run) == {"result": {}}


def test_an_output_follows_its_pointer_and_fails_the_run_if_that_leads_nowhere() -> None:
    def ended(pointer: str) -> Driver:
        document = {**spec(llm("a")), "outputs": [{"name": "o", "from": "a", "pointer": pointer}]}
        run = Driver(compile_workflow(document))
        run.say("a", "hi")
        return run

    assert outputs(ended("/output/0/content/0/text")) == {"o": "hi"}
    end = ended("/output/7").end
    assert isinstance(end, RunFailed)
    assert end.fault.code == "missing_value"
    assert end.fault.message.startswith("Output `o` is missing. In the value of node `a`, the array at /output has 1")


def test_transforms_and_joins_take_no_turn() -> None:
    made = transform("t", object={"text": {"from": "a", "pointer": "/output/0/content/0/text"}})
    run = Driver(plan(llm("a"), made, transform("m", merge=[{"from": "t"}, {"from": "t"}]), max_parallelism=1))
    run.say("a", "hi")
    assert outputs(run) == {"result": {"text": "hi"}}


def test_a_transform_of_what_is_not_there_fails_the_run() -> None:
    run = Driver(plan(llm("a"), transform("t", object={"x": {"from": "a", "pointer": "/nothing"}})))
    assert words(run.say("a")) == ["NodeSucceeded a", "NodeStarted t", "NodeFailed t", "RunFailed"]
    assert run.schedule.faults["t"].code == "missing_value"


def test_no_more_nodes_run_at_once_than_the_spec_allows_in_the_order_of_the_document() -> None:
    run = Driver(plan(*(llm(f"n{i}") for i in range(5)), max_parallelism=2))
    assert run.running() == ["n0", "n1"]
    run.say("n1")
    assert run.running() == ["n0", "n2"]
    assert run.schedule.states["n3"] == "pending"


def test_a_fanout_runs_its_items_within_its_bound_and_gives_their_values_in_order() -> None:
    run = Driver(
        plan(llm("list"), fanout("each", llm("one", "Do {{item}}."), items_from="list", max_parallelism=2)),
    )
    assert words(run.say("list", '```json\n["x",{"k":1},null]\n```')) == [
        "NodeSucceeded list", "NodeStarted each", "Start each[0]", "Start each[1]",
    ]  # fmt: skip
    assert (prompt(run, "each", 0), prompt(run, "each", 1)) == ("Do x.", 'Do {"k":1}.')
    assert words(run.say("each", "B", 1)) == ["Start each[2]"]
    assert prompt(run, "each", 2) == "Do null."
    run.say("each", "C", 2)
    assert words(run.say("each", "A", 0)) == ["NodeSucceeded each", "RunSucceeded"]
    assert outputs(run) == {"result": {"results": [said("A"), said("B"), said("C")]}}


def test_items_do_not_count_against_the_bound_on_nodes() -> None:
    run = Driver(plan(fanout("each", llm("one"), items_from_input="xs"), llm("b"), max_parallelism=1), {"xs": [1, 2]})
    assert run.running() == ["each[0]", "each[1]"]


def test_a_fanout_over_nothing_succeeds_at_once() -> None:
    run = Driver(plan(fanout("each", llm("one"), items_from_input="xs")), {"xs": []})
    assert outputs(run) == {"result": {"results": []}}


def test_a_fanout_of_transforms_asks_no_model() -> None:
    made = transform("one", object={"name": {"from": "item", "pointer": "/n"}, "all": {"from": "t"}})
    source = transform("t", object={"xs": {"from": "j"}})
    run = Driver(
        plan(llm("a"), join("all", "j", "a"), source, fanout("each", made, items_from_input="xs")),
        {"xs": [{"n": 1}, {"n": 2}]},
    )
    run.say("a")
    other = {"xs": {"a": said("ok")}}
    assert outputs(run) == {"result": {"results": [{"name": 1, "all": other}, {"name": 2, "all": other}]}}


def test_one_failing_item_fails_the_fanout_and_stops_the_others() -> None:
    run = Driver(plan(fanout("each", llm("one"), items_from_input="xs")), {"xs": [1, 2, 3]})
    run.say("each", item=0)
    assert words(run.fail("each", item=1)) == ["Stop each[2]", "NodeFailed each", "RunFailed"]


@pytest.mark.parametrize(
    ("text", "more", "code"),
    [
        ("no json", {}, "invalid_items"),
        ('{"a":1}', {}, "invalid_items"),
        ('{"a":1}', {"items_path": "/b"}, "missing_value"),
        ("[1]", {"items_pointer": "/output/3"}, "missing_value"),
        (json.dumps(list(range(1001))), {}, "too_many_items"),
        ("[" * 5000 + "]" * 5000, {}, "invalid_items"),
    ],
)
def test_items_that_are_none_fail_the_fanout(text: str, more: dict[str, Any], code: str) -> None:
    run = Driver(plan(llm("list"), fanout("each", llm("one"), items_from="list", **more)))
    run.say("list", text)
    assert isinstance(run.end, RunFailed)
    assert run.end.fault.code == code


@pytest.mark.parametrize("path", ["/deep/0", "$.deep[0]"])
def test_the_path_to_the_items_is_a_pointer_or_jsonpath(path: str) -> None:
    run = Driver(plan(llm("list"), fanout("each", llm("one"), items_from="list", items_path=path)))
    run.say("list", '{"deep": [["x", "y"]]}')
    assert run.running() == ["each[0]", "each[1]"]

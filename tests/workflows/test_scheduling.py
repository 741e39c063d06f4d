from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.workflows.board import Policy
from proxy.workflows.compile import compile_workflow
from proxy.workflows.faults import Fault, fault_of
from proxy.workflows.spec import Bounds
from proxy.workflows.tasks import (
    Decision,
    NodeCanceled,
    NodeFailed,
    NodeStarted,
    NodeState,
    NodeSucceeded,
    Past,
    Resume,
    RunCanceled,
    RunFailed,
    RunState,
    RunSucceeded,
    Settled,
    Start,
    Stop,
    Task,
)
from tests.workflows.driver import Driver
from tests.workflows.specs import fanout, join, llm, plan, said, spec, transform

NO = {"source": "node_output", "op": "matches", "path": "$.output[0].content[0].text", "value": "^yes"}


def words(decisions: list[Decision]) -> list[str]:
    """Decisions in short: their kind, and what they are about."""
    return [f"{type(each).__name__} {getattr(each, 'node', '') or shown(each)}".strip() for each in decisions]


def shown(decision: Decision) -> str:
    if not isinstance(decision, Start | Resume | Stop):
        return ""
    task = decision.task
    return task.node + ("" if task.item is None else f"[{task.item}]") + (f"#{task.attempt}" * (task.attempt > 1))


def outputs(run: Driver) -> dict[str, Any]:
    assert isinstance(run.end, RunSucceeded)
    assert json.loads(run.end.json) == run.end.outputs
    return run.end.outputs


def prompt(run: Driver, name: str, item: int | None = None) -> str:
    [call] = [call for task, call in run.calls.items() if (task.node, task.item) == (name, item)]
    return call.messages[-1].text


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
    assert [each["name"] for each in outputs(run)["result"]["results"]] == [1, 2]


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


RETRY = {"max_attempts": 3, "retryable_errors": ["rate_limit", "invalid_json"], "backoff_ms": 2000}


def test_a_failure_that_can_be_retried_is_after_twice_the_time_each() -> None:
    run = Driver(plan(llm("a", retry=RETRY)))
    busy = fault_of("llm_rate_limit", "Busy.")
    assert run.fail("a", busy) == []
    assert run.schedule.states["a"] == "running"
    assert run.schedule.wake_at == 2.0
    assert words(run.wait(2)) == ["Start a#2"]
    run.fail("a", busy)
    assert run.schedule.wake_at == 6.0
    assert words(run.wait(4)) == ["Start a#3"]
    assert words(run.fail("a", busy)) == ["NodeFailed a", "RunFailed"]


def test_a_model_that_says_when_to_come_back_is_heeded() -> None:
    run = Driver(plan(llm("a", retry=RETRY)))
    run.fail("a", fault_of("llm_rate_limit", "Busy.", retry_after=30.0))
    assert run.schedule.wake_at == 30.0


def test_other_failures_are_not_retried() -> None:
    run = Driver(plan(llm("a", retry=RETRY)))
    run.fail("a", fault_of("llm_timeout", "Slow."))
    assert isinstance(run.end, RunFailed)


def test_a_late_report_of_an_earlier_attempt_is_ignored() -> None:
    run = Driver(plan(llm("a", retry=RETRY)))
    first = run.task("a")
    run.fail("a", fault_of("llm_rate_limit", "Busy."))
    run.wait(2)
    assert run.schedule.succeeded(first, said("late"), run.at) == []
    run.say("a", "second")
    assert outputs(run) == {"result": said("second")}


FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


def test_an_answer_that_is_not_json_where_it_has_to_be_is_a_failure_that_can_be_retried() -> None:
    run = Driver(plan(llm("a", output_format=FORMAT, retry={"max_attempts": 2})))
    assert run.say("a", "no json") == []
    assert words(run.wait(1)) == ["Start a#2"]
    decisions = run.give("a", said('{"a":', finish_reason="length"))
    assert words(decisions) == ["NodeFailed a", "RunFailed"]
    assert run.schedule.faults["a"].code == "truncated"


def test_a_node_between_attempts_gives_its_place_to_others() -> None:
    run = Driver(plan(llm("a", retry=RETRY), llm("b"), max_parallelism=1))
    run.fail("a", fault_of("llm_rate_limit", "Busy."))
    assert run.running() == ["b"]
    assert run.wait(2) == []
    assert words(run.say("b")) == ["NodeSucceeded b", "Start a#2"]


def test_while_a_node_waits_for_its_caller_others_go_on_and_it_gets_the_next_free_place() -> None:
    run = Driver(plan(llm("a"), llm("b"), llm("c"), max_parallelism=1))
    assert words(run.sleep("a")) == ["NodeStarted b", "Start b"]
    assert (run.schedule.state, run.schedule.states["a"]) == ("waiting", "waiting")
    assert run.wake("a") == []
    assert (run.schedule.state, run.schedule.states["a"]) == ("running", "running")
    assert words(run.say("b")) == ["NodeSucceeded b", "Resume a"]
    run.say("a")
    run.say("c")
    assert isinstance(run.end, RunSucceeded)


def test_an_item_that_waits_gives_its_place_to_others() -> None:
    each = fanout("each", llm("one"), items_from_input="xs", max_parallelism=1)
    run = Driver(plan(each), {"xs": [1, 2]})
    assert words(run.sleep("each", 0)) == ["Start each[1]"]
    assert run.schedule.states["each"] == "waiting"
    run.wake("each", 0)
    assert words(run.say("each", item=1)) == ["Resume each[0]"]
    assert words(run.say("each", item=0)) == ["NodeSucceeded each", "RunSucceeded"]


def test_a_caller_that_never_answers_fails_the_node() -> None:
    run = Driver(plan(llm("a")), policy=Policy(tool_wait=900))
    run.sleep("a")
    assert run.wait(899) == []
    assert words(run.wait(1)) == ["Stop a", "NodeFailed a", "RunFailed"]
    assert run.schedule.faults["a"].code == "tool_wait_timeout"


def test_a_canceled_run_stops_all_its_tasks() -> None:
    run = Driver(plan(llm("a"), llm("b"), llm("c", "{{a}}")))
    run.sleep("b")
    assert words(run.cancel()) == ["Stop a", "Stop b", "RunCanceled"]
    assert run.end == RunCanceled(Fault(code="canceled", message="The run was canceled."))
    assert set(run.schedule.states.values()) == {NodeState.CANCELED}


def test_values_that_double_with_each_node_end_in_a_failure_not_in_a_full_memory() -> None:
    doubling = [transform("t0", object={"x": {"from": "a"}})]
    for i in range(1, 60):
        doubling.append(transform(f"t{i}", object={"x": {"from": f"t{i - 1}"}, "y": {"from": f"t{i - 1}"}}))
    run = Driver(plan(llm("a"), *doubling))
    run.say("a", "x" * 100)
    assert isinstance(run.end, RunFailed)
    assert run.end.fault.code == "value_too_large"


def test_values_that_deepen_with_each_node_end_in_a_failure_too() -> None:
    chain = [transform(f"t{i}", object={"x": {"from": f"t{i - 1}" if i else "a"}}) for i in range(300)]
    run = Driver(plan(llm("a"), *chain))
    run.say("a")
    assert isinstance(run.end, RunFailed)
    assert run.end.fault.code == "value_too_large"


@pytest.mark.parametrize("bounds", [Bounds(value_bytes=300), Bounds(run_bytes=600)])
def test_all_that_a_fanout_gives_is_bound(bounds: Bounds) -> None:
    each = fanout("each", llm("one"), items_from_input="xs")
    run = Driver(plan(each), {"xs": [1, 2, 3]}, policy=Policy(bounds=bounds))
    for item in range(3):
        run.say("each", "x", item)
    assert isinstance(run.end, RunFailed)
    assert run.end.fault.code == "value_too_large"


def test_a_prompt_that_grows_too_large_fails_its_node() -> None:
    run = Driver(plan(llm("a", "{{x}}" * 1000)), {"x": "x" * 100_000})
    assert words(run.latest) == ["NodeStarted a", "NodeFailed a", "RunFailed"]


def test_a_run_asks_no_more_often_than_it_may() -> None:
    each = fanout("each", llm("one"), items_from_input="xs", max_parallelism=1)
    run = Driver(plan(each), {"xs": [1, 2, 3]}, policy=Policy(bounds=Bounds(calls=2)))
    run.say("each", item=0)
    run.say("each", item=1)
    assert isinstance(run.end, RunFailed)
    assert run.end.fault.code == "too_many_calls"


def test_a_long_chain_of_values_is_made_without_recursion() -> None:
    chain = [
        transform(f"t{i}", merge=[{"from": f"t{i - 1}" if i else "a"}]) for i in range(900)
    ]  # fmt: skip
    run = Driver(plan(llm("a"), *chain))
    run.say("a")
    assert isinstance(run.end, RunSucceeded)


def test_a_run_goes_on_after_a_restart_from_what_had_ended() -> None:
    past = Past(
        settled=(Settled(node="a", state=NodeState.SUCCEEDED, value=said("hi")),),
        started={"a": 1.0, "b": 2.0},
    )
    run = Driver(plan(llm("a"), llm("b", "{{a}}"), llm("c", "{{b}}")), past=past, at=50.0)
    assert words(run.latest) == ["Start b"], "a node in flight starts again, without being told of twice"
    assert prompt(run, "b") == "hi"
    run.say("b")
    assert words(run.say("c")) == ["NodeSucceeded c", "RunSucceeded"]


def test_a_waiting_run_waits_on_after_a_restart() -> None:
    task = Task("a", None, 2)
    past = Past(started={"a": 1.0, "b": 1.0}, waiting={task: 10.0})
    run = Driver(plan(llm("a"), llm("b"), max_parallelism=1), past=past, at=50.0)
    assert run.running() == ["b"]
    assert (run.schedule.state, run.schedule.wake_at) == ("waiting", 910.0)
    run.wake("a")
    run.say("b")
    assert run.running() == ["a"]
    run.say("a")
    assert isinstance(run.end, RunSucceeded)


def test_items_that_had_ended_are_not_asked_again_after_a_restart() -> None:
    past = Past(started={"each": 1.0}, results={("each", 1): said("B")}, waiting={Task("each", 2): 1.0})
    run = Driver(plan(fanout("each", llm("one"), items_from_input="xs")), {"xs": [1, 2, 3]}, past=past, at=2.0)
    assert words(run.latest) == ["Start each[0]"]
    run.wake("each", 2)
    run.say("each", "C", 2)
    run.say("each", "A", 0)
    assert [each["output"][0]["content"][0]["text"] for each in outputs(run)["result"]["results"]] == ["A", "B", "C"]


def test_a_failure_that_had_not_ended_the_run_yet_does_so_after_a_restart() -> None:
    failed = Settled(node="a", state=NodeState.FAILED, fault=Fault(code="llm_error", message="It broke."))
    run = Driver(plan(llm("a"), llm("b")), past=Past(settled=(failed,), started={"a": 1.0, "b": 1.0}), at=2.0)
    assert words(run.latest) == ["RunFailed"]


def test_a_join_whose_time_was_over_before_the_restart_goes_on_at_once() -> None:
    past = Past(settled=(Settled(node="a", state=NodeState.SUCCEEDED, value=said("hi")),), started={"a": 1.0, "b": 1.0})
    run = Driver(plan(llm("a"), llm("b"), join("collect", "j", "a", "b", timeout_ms=1000)), past=past, at=50.0)
    assert list(outputs(run)["result"]) == ["a"]


def test_losers_stay_canceled_after_a_restart() -> None:
    past = Past(
        settled=(
            Settled(node="a", state=NodeState.SUCCEEDED, value=said("hi")),
            Settled(node="j", state=NodeState.SUCCEEDED, value={"a": said("hi")}),
        ),
        started={"a": 1.0, "b": 1.0, "j": 2.0},
    )
    run = Driver(plan(llm("a"), llm("b"), join("any", "j", "a", "b"), llm("c", "{{j}}")), past=past, at=3.0)
    assert run.schedule.states["b"] == "canceled"
    assert "c" in run.running()
    assert isinstance(run.decisions[-1], Start)
    assert not [each for each in run.decisions if isinstance(each, NodeSucceeded | NodeFailed)]
    assert NodeCanceled("b") in run.decisions
    assert NodeStarted("c") in run.decisions


def test_nothing_is_decided_after_a_run_has_failed_within_the_effects_of_one_report() -> None:
    nodes = (llm("a"), join("any", "j", "a"), llm("t", "{{a}}"), llm("b"), join("any", "k", "t", "b"))
    run = Driver(plan(*nodes, outputs={"j": "j", "k": "k"}))
    assert words(run.fail("a")) == ["NodeFailed a", "NodeStarted j", "NodeFailed j", "Stop b", "RunFailed"]


def test_a_node_fails_once_though_several_of_its_items_wait_too_long() -> None:
    each = fanout("each", llm("one"), items_from_input="xs")
    run = Driver(plan(each, llm("b"), join("any", "j", "each", "b")), {"xs": [1, 2]})
    run.sleep("each", 0)
    run.sleep("each", 1)
    assert words(run.wait(900)) == ["Stop each[0]", "Stop each[1]", "NodeFailed each"]


def test_a_task_that_fails_before_its_turn_to_go_on_does_not_go_on() -> None:
    run = Driver(plan(llm("a", retry=RETRY), llm("b"), llm("c"), max_parallelism=1))
    task = run.task("a")
    run.sleep("a")
    run.wake("a")
    run.asleep.remove(task)
    assert run.schedule.failed(task, fault_of("llm_rate_limit", "Busy."), 0.0) == []
    assert words(run.say("b")) == ["NodeSucceeded b", "NodeStarted c", "Start c"]

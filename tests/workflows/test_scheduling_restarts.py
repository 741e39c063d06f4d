"""Runs that would grow without bounds, and runs that go on after a restart."""

from __future__ import annotations

import pytest

from proxy.workflows.board import Policy
from proxy.workflows.faults import Fault
from proxy.workflows.spec import Bounds
from proxy.workflows.tasks import (
    NodeCanceled,
    NodeFailed,
    NodeStarted,
    NodeState,
    NodeSucceeded,
    Past,
    RunFailed,
    RunSucceeded,
    Settled,
    Start,
    Task,
)
from tests.workflows.driver import Driver, outputs, prompt, words
from tests.workflows.specs import fanout, join, llm, plan, said, transform


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


def test_a_lost_branch_stays_lost_after_a_restart_and_costs_no_more() -> None:
    failed = Settled(node="a", state=NodeState.FAILED, fault=Fault(code="llm_error", message="It broke."))
    past = Past(settled=(failed,), started={"a": 1.0, "b": 1.0})
    run = Driver(plan(llm("a"), llm("b"), join("any", "j", "a", "b")), past=past, at=2.0)
    assert words(run.latest) == ["Start b"]
    assert run.schedule.faults["a"].message == "It broke."
    run.say("b", "hi")
    assert outputs(run) == {"result": {"b": said("hi")}}

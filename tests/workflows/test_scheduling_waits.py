"""Attempts that are repeated, tasks that wait for their callers, and ends."""

from __future__ import annotations

import pytest

from proxy.workflows.board import Policy
from proxy.workflows.faults import Fault, fault_of
from proxy.workflows.tasks import (
    NodeState,
    RunCanceled,
    RunFailed,
    RunSucceeded,
)
from tests.workflows.driver import Driver, outputs, words
from tests.workflows.specs import fanout, join, llm, plan, said

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


@pytest.mark.parametrize("asked", [3600.0, float("inf")])
def test_nobody_is_kept_waiting_for_longer_than_a_minute_whatever_a_model_says(asked: float) -> None:
    run = Driver(plan(llm("a", retry=RETRY)))
    run.fail("a", fault_of("llm_rate_limit", "Busy.", retry_after=asked))
    assert run.schedule.wake_at == 60.0


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

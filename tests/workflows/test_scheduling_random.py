"""Random workflows under random reports: bounds hold, every attempt starts once, and every run ends."""

from __future__ import annotations

import random
from typing import Any

import pytest

from proxy.workflows.board import Policy
from proxy.workflows.compile import Plan
from proxy.workflows.faults import Fault, fault_of
from proxy.workflows.spec import Fanout, Llm, Racing
from proxy.workflows.tasks import (
    NodeFailed,
    NodeStarted,
    NodeState,
    NodeSucceeded,
    Past,
    RunFailed,
    RunState,
    RunSucceeded,
    Settled,
    Start,
)
from tests.workflows.driver import Driver
from tests.workflows.specs import Json, fanout, join, llm, plan, said, transform

SEEDS = range(250)
FAULTS = (fault_of("llm_rate_limit", "Busy."), Fault(code="llm_error", message="It broke."))
ENDED = (NodeState.SUCCEEDED, NodeState.FAILED, NodeState.CANCELED)


def drawn(dice: random.Random) -> Plan:
    """A workflow of up to twelve nodes of all kinds, each needing some before it."""
    nodes: list[Json] = []
    for index in range(dice.randint(1, 12)):
        earlier = [node["id"] for node in nodes]
        nodes.append(node(dice, f"n{index}", dice.sample(earlier, min(len(earlier), dice.randint(0, 3)))))
    more: Json = {"max_parallelism": dice.randint(1, 4)} if dice.random() < 0.7 else {}
    told = dice.sample([node["id"] for node in nodes], dice.randint(1, min(3, len(nodes))))
    return plan(*nodes, outputs={name: name for name in told}, **more)


def node(dice: random.Random, name: str, needs: list[str]) -> Json:
    kind = dice.choice(["llm", "llm", "fanout", "any", "all", "collect", "transform"]) if needs else "llm"
    if kind == "fanout":
        more = {"max_parallelism": dice.randint(1, 3)} if dice.random() < 0.5 else {}
        return fanout(name, llm("one", **retry(dice)), items_from_input="xs", depends_on=needs, **more)
    if kind == "transform":
        return transform(name, object={need: {"from": need} for need in needs})
    if kind == "collect":
        more = {"limit": dice.randint(1, 2)} if dice.random() < 0.5 else {}
        return join(kind, name, *needs, **more, **({"timeout_ms": 5000} if dice.random() < 0.5 else {}))
    if kind in ("any", "all"):
        return join(kind, name, *needs)
    return llm(name, depends_on=needs, **retry(dice))


def retry(dice: random.Random) -> Json:
    if dice.random() < 0.5:
        return {}
    return {"retry": {"max_attempts": 3, "backoff_ms": 1000, "retryable_errors": ["rate_limit"]}}


def played(run: Driver, dice: random.Random, steps: int = 2000) -> int:
    """Reports at random until the run ends, or there have been so many; gives their number."""
    for count in range(steps):
        if run.schedule.ended:
            return count
        moves: list[str] = ["say"] * 6 * bool(run.active) + ["fail", "sleep"] * bool(run.active)
        moves += ["wake"] * 2 * bool(run.asleep) + ["wait"] * (run.schedule.wake_at is not None)
        assert moves, "a run that has not ended always has something under way"
        move = dice.choice(moves)
        if move == "wait":
            run.wait(dice.choice([0.5, 1.0, 4.0]))
            continue
        task = dice.choice(run.asleep if move == "wake" else run.active)
        match move:
            case "say":
                run.say(task.node, f"{task}", task.item)
            case "fail":
                run.fail(task.node, dice.choice(FAULTS), task.item)
            case "sleep":
                run.sleep(task.node, task.item)
            case _:
                if task not in waking(run):
                    run.wake(task.node, task.item)
                else:
                    run.wait(0.1)
    return steps


def waking(run: Driver) -> set[Any]:
    """Tasks that have their answers and wait for their turn."""
    return {task for task in run.asleep if run.schedule.states[task.node] is not NodeState.WAITING}


def check_end(run: Driver) -> None:
    schedule = run.schedule
    assert schedule.ended
    assert all(state in ENDED for state in schedule.states.values())
    started = {each.node for each in run.decisions if isinstance(each, NodeStarted)}
    ended = {each.node for each in run.decisions if isinstance(each, NodeSucceeded | NodeFailed)}
    assert ended <= started | run.begun_before
    for node in run.plan.workflow.nodes:
        if schedule.states[node.id] is NodeState.SUCCEEDED and not isinstance(node, Racing):
            assert all(schedule.states[name] is NodeState.SUCCEEDED for name in node.depends_on)
    if schedule.state is RunState.SUCCEEDED:
        assert isinstance(run.end, RunSucceeded)
        assert run.end.outputs.keys() == {output.name for output in run.plan.workflow.outputs}
    else:
        assert isinstance(run.end, RunFailed)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_run_ends_and_keeps_its_bounds(seed: int) -> None:
    dice = random.Random(seed)
    run = Driver(drawn(dice), {"xs": list(range(dice.randint(0, 5)))}, policy=Policy(nodes=3, items=2))
    played(run, dice)
    check_end(run)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_without_failures_succeeds_and_asks_for_each_item_and_node_once(seed: int) -> None:
    dice = random.Random(seed)
    run = Driver(drawn(dice), {"xs": [1, 2, 3]})
    while run.active:
        task = dice.choice(run.active)
        run.say(task.node, "x", task.item)
    check_end(run)
    assert isinstance(run.end, RunSucceeded)
    starts = [each.task for each in run.decisions if isinstance(each, Start)]
    assert len(starts) == len(set(starts))
    for node in run.plan.workflow.nodes:
        if run.schedule.states[node.id] is NodeState.SUCCEEDED and isinstance(node, Llm | Fanout):
            assert [task.node for task in starts].count(node.id) == (1 if isinstance(node, Llm) else 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_reports_make_the_same_decisions(seed: int) -> None:
    runs = []
    for _ in range(2):
        dice = random.Random(seed)
        runs.append(Driver(drawn(dice), {"xs": [1, 2]}))
        played(runs[-1], dice)
    assert runs[0].decisions == runs[1].decisions


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_goes_on_to_its_end_after_a_restart_at_any_point(seed: int) -> None:
    dice = random.Random(seed)
    found, inputs = drawn(dice), {"xs": [1, 2, 3]}
    before = Driver(found, inputs)
    played(before, dice, steps=dice.randint(0, 12))
    if before.schedule.ended:
        return
    after = Driver(found, inputs, past=past(before), at=before.at)
    settled = {name for name, state in before.schedule.states.items() if state in ENDED[:2]}
    assert not settled & {task.node for task in after.active}
    assert not {each.node for each in after.decisions if isinstance(each, NodeStarted)} & before_started(before)
    assert all(after.schedule.values[name] == value for name, value in before.schedule.values.items())
    played(after, dice)
    check_end(after)


def before_started(run: Driver) -> set[str]:
    return {each.node for each in run.decisions if isinstance(each, NodeStarted)}


def past(run: Driver) -> Past:
    """What a log would tell of a run."""
    settled = []
    for each in run.decisions:
        if isinstance(each, NodeSucceeded):
            settled.append(Settled(node=each.node, state=NodeState.SUCCEEDED, value=each.value))
        elif isinstance(each, NodeFailed):
            settled.append(Settled(node=each.node, state=NodeState.FAILED, fault=each.fault))
    asleep = [task for task in run.asleep if task not in waking(run)]
    return Past(
        settled=tuple(settled),
        started=dict.fromkeys(before_started(run), 0.0),
        waiting=dict.fromkeys(asleep, run.at),
    )


def test_a_wide_and_a_long_workflow_are_no_effort() -> None:
    wide = [llm(f"w{i}") for i in range(400)]
    run = Driver(plan(*wide, join("collect", "j", *(each["id"] for each in wide)), llm("z", "{{j}}")))
    while run.active:
        task = run.active[0]
        run.give(task.node, said("x"), task.item)
    assert isinstance(run.end, RunSucceeded)

"""Runs a schedule by hand: keeps what it decides, and checks of each decision that it may be made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from proxy.workflows.board import Policy
from proxy.workflows.compile import Plan
from proxy.workflows.faults import Fault
from proxy.workflows.prompts import Call
from proxy.workflows.scheduling import Schedule
from proxy.workflows.spec import Fanout
from proxy.workflows.tasks import (
    Decision,
    NodeCanceled,
    NodeFailed,
    NodeStarted,
    NodeSucceeded,
    Past,
    Resume,
    RunCanceled,
    RunFailed,
    RunSucceeded,
    Start,
    Stop,
    Task,
)
from tests.workflows.specs import said

ENDS = (RunSucceeded, RunFailed, RunCanceled)


class Driver:
    """`active` tasks are carried out, `asleep` ones wait for answers."""

    def __init__(
        self,
        plan: Plan,
        inputs: Mapping[str, Any] | None = None,
        *,
        policy: Policy | None = None,
        past: Past | None = None,
        at: float = 0.0,
    ) -> None:
        self.plan = plan
        self.schedule = Schedule(plan, inputs or {}, policy, past)
        self.policy = policy or Policy()
        self.begun_before = set(past.started) if past else set()
        self.at = at
        self.decisions: list[Decision] = []
        self.calls: dict[Task, Call] = {}
        self.active: list[Task] = []
        self.asleep: list[Task] = list(past.waiting) if past else []
        self.seen: set[Task] = set()
        self.most_nodes = self.most_items = 0
        self.latest = self._take(self.schedule.begin(at))

    def say(self, name: str, text: str = "ok", item: int | None = None) -> list[Decision]:
        return self.give(name, said(text), item)

    def give(self, name: str, value: Any, item: int | None = None) -> list[Decision]:
        task = self.task(name, item)
        self.active.remove(task)
        return self._take(self.schedule.succeeded(task, value, self.at))

    def fail(self, name: str, fault: Fault | None = None, item: int | None = None) -> list[Decision]:
        task = self.task(name, item)
        self.active.remove(task)
        fault = fault or Fault(code="llm_error", message="It broke.")
        return self._take(self.schedule.failed(task, fault, self.at))

    def sleep(self, name: str, item: int | None = None) -> list[Decision]:
        task = self.task(name, item)
        self.active.remove(task)
        self.asleep.append(task)
        return self._take(self.schedule.waiting(task, self.at))

    def wake(self, name: str, item: int | None = None) -> list[Decision]:
        [task] = [each for each in self.asleep if (each.node, each.item) == (name, item)]
        return self._take(self.schedule.answered(task, self.at))

    def wait(self, seconds: float) -> list[Decision]:
        self.at += seconds
        return self._take(self.schedule.tick(self.at))

    def cancel(self) -> list[Decision]:
        return self._take(self.schedule.cancel(self.at))

    def task(self, name: str, item: int | None = None) -> Task:
        [task] = [each for each in self.active if (each.node, each.item) == (name, item)]
        return task

    def running(self) -> list[str]:
        return [task.node if task.item is None else f"{task.node}[{task.item}]" for task in self.active]

    @property
    def end(self) -> Decision:
        return self.decisions[-1]

    def _take(self, decisions: list[Decision]) -> list[Decision]:
        for decision in decisions:
            assert not self.decisions or not isinstance(self.decisions[-1], ENDS), "nothing follows the end"
            self.decisions.append(decision)
            self._carry_out(decision)
        self._check_bounds()
        self.latest = decisions
        return decisions

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Start(task=task, call=call):
                assert task not in self.seen, "each attempt starts once"
                assert NodeStarted(task.node) in self.decisions or task.node in self.begun_before
                self.seen.add(task)
                self.active.append(task)
                self.calls[task] = call
            case Resume(task=task):
                self.asleep.remove(task)
                self.active.append(task)
            case Stop(task=task):
                (self.active if task in self.active else self.asleep).remove(task)
            case NodeStarted() | NodeCanceled():
                assert self.decisions.count(decision) == 1
            case NodeSucceeded(node=name) | NodeFailed(node=name):
                ends = [each for each in self.decisions if isinstance(each, NodeSucceeded | NodeFailed)]
                assert [each.node for each in ends].count(name) == 1, "each node ends once"

    def _check_bounds(self) -> None:
        nodes = {task.node for task in self.active}
        assert len(nodes) <= (self.plan.workflow.max_parallelism or self.policy.nodes)
        self.most_nodes = max(self.most_nodes, len(nodes))
        for node in self.plan.workflow.nodes:
            count = sum(task.node == node.id for task in self.active)
            width = (node.max_parallelism or self.policy.items) if isinstance(node, Fanout) else 1
            assert count <= width
            self.most_items = max(self.most_items, count)
        if self.schedule.ended:
            assert not self.active
            assert not self.asleep
            assert self.schedule.wake_at is None


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

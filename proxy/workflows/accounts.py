"""What a workflow run keeps count of while it is under way: steps, costs, times, conversations that wait."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw
from msgspec.structs import replace

from proxy.events import Usage
from proxy.runs.cost import cost
from proxy.settings import Price
from proxy.workflows.costs import summary_of
from proxy.workflows.memory import Ended, Memory, Talk
from proxy.workflows.scheduling import Schedule
from proxy.workflows.tasks import OPEN, Task


class Accounts:
    """All of one run. `talks` are those that have begun and not ended."""

    def __init__(self, memory: Memory, prices: Mapping[str, Price]) -> None:
        self._prices = prices
        self._next = dict(memory.steps)
        self._steps = dict(memory.steps)
        self._costs = dict(memory.costs)
        self.started = dict(memory.started)
        self.talks: dict[Task, Talk] = {talk.task: talk for talk in memory.talks}

    @property
    def summary(self) -> Raw:
        return summary_of(self._costs)

    def number(self, node: str) -> int:
        """The number of a node's next step."""
        number = self._next.get(node, 0)
        self._next[node] = number + 1
        return number

    def charge(self, node: str, step: int, model: str, usage: Usage) -> None:
        """A step is over; `model` is what it counts under."""
        self._steps[node] = max(self._steps.get(node, 0), step + 1)
        self._costs[model] = self._costs.get(model, 0.0) + cost(replace(usage, model=model), self._prices)

    def memory(self, schedule: Schedule) -> Memory:
        """What is to be remembered now."""
        faults = schedule.faults
        return Memory(
            ended={
                name: Ended(state, faults.get(name)) for name, state in schedule.states.items() if state not in OPEN
            },
            started=self.started,
            talks=tuple(self.talks.values()),
            steps=self._steps,
            costs=self._costs,
        )

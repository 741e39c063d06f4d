"""Whose turn it is: the tasks that are under way or want to be, within the bounds of the plan and its fan-outs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from proxy.workflows.spec import Fanout, Llm
from proxy.workflows.tasks import Task


class Phase(StrEnum):
    QUEUED = "queued"
    ACTIVE = "active"
    WAITING = "waiting"
    RESTING = "resting"
    """Between two attempts."""


class Work:
    """A task that has not ended."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.phase = Phase.QUEUED
        self.begun = False
        """Whether somebody carries it out already."""
        self.due: float | None = None
        """When its phase ends by itself."""


class Lane:
    """The tasks of one node under way: one of an llm node, one for each item of a fan-out."""

    def __init__(self, node: Llm | Fanout, width: int) -> None:
        self.node = node
        self.width = width
        """How many tasks may be active at once."""
        self.opened = False
        self.items: list[Any] = []
        self.results: dict[int, Any] = {}
        """Values of items that have ended."""
        self.works: dict[int | None, Work] = {}
        self.wants: deque[Work] = deque()
        self.active: set[int | None] = set()
        self.listed = False

    @property
    def talker(self) -> Llm | None:
        """The node that asks a model."""
        found = self.node.subnode if isinstance(self.node, Fanout) else self.node
        return found if isinstance(found, Llm) else None

    @property
    def waits(self) -> bool:
        return any(work.phase is Phase.WAITING for work in self.works.values())


class Lanes:
    """All nodes under way. One with an active task takes a place, of which there are `places`."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._lanes: dict[str, Lane] = {}
        self._busy: set[str] = set()
        self._filling: deque[Lane] = deque()
        self._ready: deque[Lane] = deque()

    def add(self, lane: Lane) -> None:
        self._lanes[lane.node.id] = lane
        self._list(lane)

    def named(self, name: str) -> Lane | None:
        """The lane of a node that is under way."""
        return self._lanes.get(name)

    def find(self, task: Task) -> tuple[Lane, Work] | None:
        """The work on a task that somebody carries out; None if it has ended."""
        lane = self._lanes.get(task.node)
        work = lane.works.get(task.item) if lane is not None else None
        return (lane, work) if lane is not None and work is not None and work.begun and work.task == task else None

    def next(self) -> tuple[Lane, Work | None] | None:
        """Whose turn it is: a work, which is active from now on, or none for a lane that is to be opened first."""
        while self._filling:
            lane = self._filling[0]
            if lane.node.id in self._busy and lane.wants and len(lane.active) < lane.width:
                return lane, self._activate(lane)
            self._filling.popleft()
            lane.listed = False
            if lane.node.id not in self._busy:
                self._list(lane)
        while self._ready and len(self._busy) < self._places:
            lane = self._ready[0]
            if self._lanes.get(lane.node.id) is lane and not lane.opened:
                return lane, None
            self._ready.popleft()
            lane.listed = False
            if self._lanes.get(lane.node.id) is lane and lane.wants:
                work = self._activate(lane)
                self._list(lane)
                return lane, work
        return None

    def want(self, lane: Lane, work: Work, *, first: bool = False) -> None:
        """A work is to be carried out when its turn comes; `first` before others of its node, and its node before
        others."""
        work.phase, work.due = Phase.QUEUED, None
        lane.works[work.task.item] = work
        if first:
            lane.wants.appendleft(work)
        else:
            lane.wants.append(work)
        self._list(lane, first=first)

    def pause(self, lane: Lane, work: Work, phase: Phase, due: float) -> None:
        """A work, or another in its stead, gives its place away until it is wanted again, or `due`."""
        self.drop(lane, work.task.item)
        lane.works[work.task.item] = work
        work.phase, work.due = phase, due

    def drop(self, lane: Lane, item: int | None) -> None:
        """A work has ended."""
        work = lane.works.pop(item, None)
        if work is not None and work.phase is Phase.QUEUED:
            lane.wants.remove(work)
        lane.active.discard(item)
        if not lane.active:
            self._busy.discard(lane.node.id)
        self._list(lane)

    def close(self, name: str) -> list[Task]:
        """A node has ended; what of it is still being carried out, or waits."""
        lane = self._lanes.pop(name, None)
        self._busy.discard(name)
        return [work.task for work in lane.works.values() if work.begun] if lane else []

    def close_all(self) -> list[Task]:
        return [task for name in list(self._lanes) for task in self.close(name)]

    def expired(self, at: float) -> list[tuple[Lane, Work]]:
        return [(lane, work) for lane, work in self._works() if work.due is not None and work.due <= at]

    def dues(self) -> Iterator[float]:
        yield from (work.due for _, work in self._works() if work.due is not None)

    def begun(self) -> list[Task]:
        """The tasks that somebody carries out, or that wait for answers."""
        return [work.task for _, work in self._works() if work.begun]

    def _works(self) -> Iterator[tuple[Lane, Work]]:
        yield from ((lane, work) for lane in self._lanes.values() for work in lane.works.values())

    def _activate(self, lane: Lane) -> Work:
        work = lane.wants.popleft()
        work.phase = Phase.ACTIVE
        lane.active.add(work.task.item)
        self._busy.add(lane.node.id)
        return work

    def _list(self, lane: Lane, *, first: bool = False) -> None:
        if lane.listed or (lane.opened and not lane.wants):
            return
        lane.listed = True
        queue = self._filling if lane.node.id in self._busy else self._ready
        if first:
            queue.appendleft(lane)
        else:
            queue.append(lane)

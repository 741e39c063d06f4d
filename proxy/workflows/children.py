"""The child runs of one workflow run that are under way, by the task that they carry out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from msgspec import Struct

from proxy.events import Event, Failed
from proxy.runs.manager import RunManager
from proxy.workflows.errands import Errand, carry_out
from proxy.workflows.hearing import Hearing
from proxy.workflows.tasks import Task

logger = structlog.get_logger(__name__)

BROKEN = Failed(code="internal_error", message="The server failed.")
Tell = Callable[[Task, Errand, Sequence[Event]], None]


class Live(Struct, frozen=True, eq=False):
    """A child run under way."""

    errand: Errand
    hearing: Hearing
    work: asyncio.Task[None]


class Children:
    """One for each task at most; `tell` gets what they do."""

    def __init__(self, manager: RunManager, tell: Tell) -> None:
        self._manager = manager
        self._tell = tell
        self._live: dict[Task, Live] = {}

    @property
    def draining(self) -> bool:
        """The server goes down, and ends all runs."""
        return self._manager.draining

    @property
    def any(self) -> bool:
        """Some are under way."""
        return bool(self._live)

    def send(self, task: Task, errand: Errand, hearing: Hearing) -> None:
        work = asyncio.create_task(carry_out(self._manager, errand, partial(self._tell, task, errand)))
        self._live[task] = Live(errand, hearing, work)
        work.add_done_callback(partial(self._broke, task, errand))

    def _broke(self, task: Task, errand: Errand, work: asyncio.Task[None]) -> None:
        """No failure of ours leaves a node without an end."""
        if not work.cancelled() and (error := work.exception()) is not None:
            logger.error("a child run could not be made", run_id=errand.run_id, exc_info=error)
            self._tell(task, errand, [BROKEN])

    def of(self, task: Task, errand: Errand) -> Live | None:
        """The child, unless the task has another by now, or none."""
        live = self._live.get(task)
        return live if live is not None and live.errand is errand else None

    def end(self, task: Task) -> None:
        """A child has ended."""
        self._live.pop(task, None)

    def drop(self, task: Task) -> None:
        """Stop a child, if there is one; what it still tells is nobody's."""
        live = self._live.pop(task, None)
        if live is not None:
            live.work.cancel()

    def drop_all(self) -> None:
        for task in list(self._live):
            self.drop(task)

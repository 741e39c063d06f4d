"""When runs start: at once, or when their thread is theirs and their time has come."""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog

from proxy.errors import ProxyError
from proxy.events import Cancelled, Failed, RunStarted
from proxy.model import Action, RunStatus
from proxy.runs.agents import Agents
from proxy.runs.chores import Chores
from proxy.runs.order import Order
from proxy.runs.queues import Key, Queues, Waiting, key_of
from proxy.runs.worker import Execution
from proxy.store.base import RunStore

logger = structlog.get_logger(__name__)

GOING_DOWN = Failed(
    code="server_shutting_down", message="The server is shutting down.", status=503, retryable=True, retry_after=1
)
RETRY = 1.0
"""Seconds until a run that the store did not let start is tried again."""


class Admission:
    """Gives each thread's one slot to its runs in turn; hidden threads have one run, and no queue."""

    def __init__(self, store: RunStore, agents: Agents, chores: Chores) -> None:
        self.closed = False
        """Nothing starts any more: what waits is for the next process."""
        self._store = store
        self._agents = agents
        self._chores = chores
        self.queues = Queues()

    def admit(self, execution: Execution, order: Order, action: Action | None) -> None:
        """Start the run or queue it; what it is to push aside is cancelled. With an action, cancel it instead."""
        run = execution.run
        if action is not None:
            execution.stop(Cancelled(action=action))
            return
        if run.status is RunStatus.RUNNING:
            self._start(execution, order)
        else:
            self.queues.add(Waiting(execution, order))
            asyncio.get_running_loop().call_soon(self._due, key_of(run), run.not_before or 0.0)
        strategy = order.choices.strategy
        if not run.temporary and strategy in ("interrupt", "rollback"):
            for other in self.queues.others(run):
                other.stop(Cancelled(action="rollback" if strategy == "rollback" else "interrupt"))

    def leave(self, execution: Execution) -> None:
        """A run has ended: its thread is the next one's."""
        self.queues.leave(execution)  # also a hidden thread has a slot where its run had to wait for its time
        if not execution.run.temporary:
            self._advance(key_of(execution.run))

    def _start(self, execution: Execution, order: Order) -> None:
        run, asked = execution.run, order.input
        if not run.temporary:
            self.queues.take(execution)
        if execution.started:  # it was stopped while it was given its slot
            return
        execution.log.append(RunStarted(run_id=run.run_id, thread_id=run.thread_id, agent=run.agent))
        agent, bounds = self._agents.named(run.agent), execution.bounds
        assert agent is not None
        if asked.timeout != bounds.timeout:
            asked = msgspec.structs.replace(asked, timeout=bounds.timeout)
        execution.start(agent.adapter.stream, asked)
        if self.closed:  # it was being stored when the draining began, which therefore did not see it
            execution.stop(GOING_DOWN)

    def _due(self, key: Key, at: float) -> None:
        """A run's time has come; or not quite, for timers do not go by the clock that its time was told by."""
        if (later := at - time.time()) > 0:
            asyncio.get_running_loop().call_later(later, self._due, key, at)
        else:
            self._advance(key)

    def _advance(self, key: Key) -> None:
        """Let the next run of a thread start, if there is one and the thread is free."""
        if not self.closed and (waiting := self.queues.next(key)) is not None:
            self._chores.add(self._promote(waiting))

    async def _promote(self, waiting: Waiting) -> None:
        execution = waiting.execution
        run = msgspec.structs.replace(execution.run, status=RunStatus.RUNNING, updated_at=time.time())
        while not execution.started:
            try:
                await self._store.transition(run, frm=frozenset({RunStatus.PENDING}))
            except ProxyError as error:
                logger.warning("a run could not be started yet", run_id=run.run_id, error=error.code)
                await asyncio.sleep(RETRY)
            else:
                self._start(execution, waiting.order)

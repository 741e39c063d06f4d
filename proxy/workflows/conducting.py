"""The workflow runs that this process conducts, each by a task of its own."""

from __future__ import annotations

import asyncio

import structlog

import proxy.wire.workflow as wire
from proxy.errors import NotFound, ProxyError, Unavailable
from proxy.model import ACTIVE
from proxy.runs.manager import RunQuery
from proxy.store.base import Store
from proxy.wire.workflow_parts import Problem
from proxy.workflow_model import WorkflowRun, WorkflowStatus
from proxy.workflows.compile import load
from proxy.workflows.conductor import Conductor, Desk
from proxy.workflows.launch import Left, Score, taken_up
from proxy.workflows.ledger import Ledger, Overtaken
from proxy.workflows.memory import Given, unpack
from proxy.workflows.tasks import Task

logger = structlog.get_logger(__name__)

CLOSING = 5.0
"""Seconds that runs get to write what they have when the server goes down."""
MOST = 10_000
"""Child runs of an earlier conductor that are looked for."""
RESTARTED = Problem(message="The server was restarted, and the run cannot go on.", code="server_restarted")
BROKEN = Problem(message="The server failed.", code="internal_error")


class Conducting:
    """The conductors, by run. A run that the server leaves without an end is released, and others take it up."""

    def __init__(self, store: Store, desk: Desk) -> None:
        self._store = store
        self._desk = desk
        self._conductors: dict[str, Conductor] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._coming: set[str] = set()
        """Runs that are being stored or read."""
        self.closed = False
        """No more runs are begun or taken up."""
        store.lease.listen(self._renewed)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._tasks or run_id in self._coming

    def get(self, run_id: str) -> Conductor | None:
        return self._conductors.get(run_id)

    def expect(self, run_id: str) -> None:
        """A run will be conducted here, or `miss` is called."""
        self._coming.add(run_id)

    def miss(self, run_id: str) -> None:
        self._coming.discard(run_id)

    def begin(self, run: WorkflowRun, score: Score, answers: dict[Task, dict[str, Given]] | None = None) -> None:
        """Conduct a run from here on, unless it was lost meanwhile; `answers` are not in its log yet."""
        self._coming.discard(run.run_id)
        if run.owner != self._store.lease.owner:
            return
        conductor = Conductor(self._desk, Ledger(self._store, run), score.plan, score.schedule, score.memory)
        self._conductors[run.run_id] = conductor
        self._tasks[run.run_id] = asyncio.create_task(self._follow(run, conductor, answers or {}))
        if self.closed:
            conductor.leave()

    async def take_up(self, run: WorkflowRun) -> None:
        """Go on with a run of this process that has been left by another. Raises `Unavailable`."""
        if run.run_id in self:
            return
        self.expect(run.run_id)
        try:
            left = await self._left(run)
            score, answers = taken_up(left, self._desk.policy)
            await self._stop_children(run)
        except Unavailable:
            raise
        except Exception:
            logger.exception("a workflow run cannot go on", run_id=run.run_id)
            await self._break_off(run, RESTARTED)
        else:
            self.begin(run, score, answers)
        finally:
            self.miss(run.run_id)

    async def _left(self, run: WorkflowRun) -> Left:
        plan = await self._store.get_plan(run.tenant, run.plan_hash)
        state = await self._store.workflow_state(run.tenant, run.run_id)
        if plan is None or not state:
            raise NotFound("The plan of the run is gone.")
        return Left(
            run=run,
            plan=load(bytes(plan.body)),
            memory=unpack(state),
            outputs=await self._store.node_outputs(run.tenant, run.run_id),
            results=await self._store.taken_results(run.tenant, run.run_id),
        )

    async def _stop_children(self, run: WorkflowRun) -> None:
        """What workers still do for the conductor before is nobody's any more."""
        query = RunQuery(tenant=run.tenant, group=run.run_id, statuses=ACTIVE, limit=MOST)
        for child in await self._desk.manager.find(query):
            self._desk.manager.stop(child)

    async def _follow(self, run: WorkflowRun, conductor: Conductor, answers: dict[Task, dict[str, Given]]) -> None:
        """See a run to its end; a failure of ours ends it as well."""
        try:
            await conductor.conduct(answers)
        except Exception:
            logger.exception("a workflow run broke", run_id=run.run_id)
            await self._break_off(run, BROKEN)
        finally:
            del self._conductors[run.run_id]
            del self._tasks[run.run_id]
        if self.closed and not conductor.run.ended:
            await self._release(conductor.run)

    async def _release(self, run: WorkflowRun) -> None:
        try:
            await self._store.release_workflow(run)
        except ProxyError as error:  # it is anybody's anyway once this process is gone
            logger.warning("a workflow run could not be released", run_id=run.run_id, error=error.code)

    async def _break_off(self, run: WorkflowRun, why: Problem) -> None:
        """End a run that nobody can go on with."""
        known = await self._store.get_workflow(run.tenant, run.run_id)
        if known is None or known.ended or known.owner != run.owner:
            return
        ledger = Ledger(self._store, known)
        ledger.add(wire.RunFailed(plan_hash=known.plan_hash, error=why))
        try:
            await ledger.flush(status=WorkflowStatus.FAILED)
        except Overtaken:
            logger.warning("a workflow run was taken over or deleted", run_id=run.run_id)

    def _renewed(self, kept: bool) -> None:
        """After a loss all runs of this process are others'."""
        for conductor in () if kept else self._conductors.values():
            conductor.close()

    def leave(self) -> None:
        """Begin no more, and release each run as soon as nothing is asked for it."""
        self.closed = True
        for conductor in self._conductors.values():
            conductor.leave()

    async def close(self) -> None:
        """Release all runs now."""
        self.closed = True
        for conductor in self._conductors.values():
            conductor.close()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks.values(), timeout=CLOSING)
            for task in stuck:  # the store is away, and what could not be written is done again
                task.cancel()
            await asyncio.gather(*stuck, return_exceptions=True)

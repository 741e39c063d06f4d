"""All workflow runs of this server: started, answered, cancelled, and taken up again after a restart.

Each is conducted by a task of its own. Routes call this, and nothing below it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from msgspec import Raw, Struct

import proxy.wire.workflow as wire
from proxy.errors import Conflict, Draining, NotFound, Unavailable
from proxy.runs.manager import RunManager
from proxy.settings import Price
from proxy.store.workflow import Start, WorkflowStore
from proxy.wire.workflow_parts import Problem
from proxy.workflow_model import TakenResult, WorkflowRun, WorkflowStatus
from proxy.workflows.board import Policy
from proxy.workflows.compile import load
from proxy.workflows.conductor import Conductor, Desk
from proxy.workflows.launch import Left, Score, Wanted, prepared, taken_up
from proxy.workflows.ledger import Ledger, Overtaken
from proxy.workflows.memory import Given, unpack
from proxy.workflows.seats import Seats
from proxy.workflows.tasks import Task

logger = structlog.get_logger(__name__)
encode = msgspec.json.Encoder().encode

CLOSING = 5.0
"""Seconds that runs get to write what they have when the server goes down."""
RESTARTED = Problem(message="The server was restarted, and the run cannot go on.", code="server_restarted")
BROKEN = Problem(message="The server failed.", code="internal_error")


class Results(Struct, frozen=True, kw_only=True):
    """What a caller's tools gave, by call, for one step of a node."""

    node: str
    step: int
    request_id: str
    results: tuple[tuple[str, Given], ...]


class Engine:
    """The runs under way. `open` before the first call, `close` before the manager's."""

    def __init__(
        self, store: WorkflowStore, manager: RunManager, prices: Mapping[str, Price], policy: Policy | None = None
    ) -> None:
        self._store = store
        self._manager = manager
        self._policy = policy or Policy()
        self._seats = Seats(self._policy.runs)
        self._desk = Desk(store=store, manager=manager, prices=prices, policy=self._policy)
        self._conductors: dict[str, Conductor] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    async def open(self) -> None:
        """Take up the runs that have not ended."""
        self._closed = False
        for run in await self._store.open_workflows():
            try:
                score, answers = taken_up(await self._left(run), self._policy)
            except Unavailable:
                raise
            except Exception:
                logger.exception("a workflow run cannot go on", run_id=run.run_id)
                await self._break_off(run, RESTARTED)
            else:
                self._seats.take(run)
                self._conduct(run, score, answers)

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

    async def close(self) -> None:
        """Stop all child runs; the logs stay without an end, and the next server goes on with them."""
        self._closed = True
        for conductor in self._conductors.values():
            conductor.close()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks.values(), timeout=CLOSING)
            for task in stuck:  # the store is away, and what could not be written is done again
                task.cancel()
            await asyncio.gather(*stuck, return_exceptions=True)

    async def start(self, wanted: Wanted) -> WorkflowRun:
        """Start a run, durably; with an idempotency key that was used before, the run of then as it is now.

        Raises `InvalidWorkflow`, `InvalidInput`, `NotFound` for the session, `Conflict`, `Draining`, and `TooMany`
        where its tenant has as many under way as it may have.
        """
        if self._manager.draining or self._closed:
            raise Draining
        start, score = await prepared(wanted, self._manager.agents, self._policy)
        self._seats.admit(start.run, start.idempotency)
        return await asyncio.shield(self._begin(start, score))

    async def _begin(self, start: Start, score: Score) -> WorkflowRun:
        """Not to be broken off: a run that is stored has to be conducted."""
        new, conducted = start.run.run_id, False
        try:
            run = await self._store.start_workflow(start)
            conducted = run.run_id == new and not self._closed
        finally:
            if not conducted:
                self._seats.leave(new)
        if conducted:
            self._conduct(run, score, {})
        return run

    async def answer(self, tenant: str, run_id: str, given: Results) -> WorkflowStatus:
        """Take results, durably, all or none; the status is waiting while the run waits for more.

        Raises `NotFound` where nothing waits for any, and `Conflict` where something waits for others.
        """
        run = await self._known(tenant, run_id)
        conductor = self._conductors.get(run.run_id)
        if conductor is None:
            raise NotFound(f"The run waits for no tool results; it has {run.status.value}.", param="run_id")
        return await asyncio.shield(self._take(run, conductor, given))

    async def _take(self, run: WorkflowRun, conductor: Conductor, given: Results) -> WorkflowStatus:
        """Not to be broken off: what is taken has to be told."""
        results = dict(given.results)
        talk = conductor.open_talk(given.node, given.step, given.request_id, [name for name, _ in given.results])
        taken = [
            TakenResult(node_id=given.node, step=given.step, call_id=name, body=Raw(encode(each)))
            for name, each in results.items()
        ]
        if not await self._store.take_results(run.tenant, run.run_id, taken):
            raise Conflict("These calls have just been answered, or the run has ended.", param="results")
        told = conductor.answer(talk.task, results)
        await self._ended(run.run_id, told)
        return WorkflowStatus.WAITING if told.done() and told.result() else WorkflowStatus.RUNNING

    async def cancel(self, tenant: str, run_id: str) -> WorkflowRun:
        """Cancel a run; returns its record, which is final unless the server goes down. Raises `NotFound`."""
        run = await self._store.cancel_workflow(tenant, run_id)
        if run is None:
            raise missing(run_id)
        conductor = self._conductors.get(run_id)
        if conductor is None:
            return run
        conductor.cancel()
        await self._ended(run_id)
        return await self._known(tenant, run_id)

    async def settled(self, run_id: str) -> None:
        """Wait until nobody conducts a run here: it has ended, or somebody else has it."""
        await self._ended(run_id)

    async def _ended(self, run_id: str, told: asyncio.Future[bool] | None = None) -> None:
        """Wait until a run is conducted no more, or this is told."""
        awaited: list[asyncio.Future[Any]] = [one for one in (self._tasks.get(run_id), told) if one is not None]
        if awaited:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)

    async def _known(self, tenant: str, run_id: str) -> WorkflowRun:
        run = await self._store.get_workflow(tenant, run_id)
        if run is None:
            raise missing(run_id)
        return run

    def _conduct(self, run: WorkflowRun, score: Score, answers: dict[Task, dict[str, Given]]) -> None:
        ledger = Ledger(self._store, run)
        conductor = Conductor(self._desk, ledger, score.plan, score.schedule, score.memory)
        self._conductors[run.run_id] = conductor
        self._tasks[run.run_id] = asyncio.create_task(self._follow(run, conductor, answers))

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
            self._seats.leave(run.run_id)

    async def _break_off(self, run: WorkflowRun, why: Problem) -> None:
        """End a run that nobody can go on with."""
        known = await self._store.get_workflow(run.tenant, run.run_id)
        if known is None or known.ended:
            return
        ledger = Ledger(self._store, known)
        ledger.add(wire.RunFailed(plan_hash=known.plan_hash, error=why))
        try:
            await ledger.flush(status=WorkflowStatus.FAILED)
        except Overtaken:
            logger.warning("a workflow run was taken over or deleted", run_id=run.run_id)


def missing(run_id: str) -> NotFound:
    return NotFound(f"There is no workflow run {run_id}.", param="run_id")

"""All workflow runs: started here, and answered and cancelled wherever they are conducted.

Routes call this, and nothing below it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, suppress

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

import proxy.wire.workflow as wire
from proxy.errors import Conflict, Draining, LeaseLost, NotFound, Unavailable
from proxy.runs.manager import RunManager
from proxy.settings import Price
from proxy.store.base import Store
from proxy.store.workflow import EventQuery, Start
from proxy.workflow_model import TakenResult, WorkflowRun, WorkflowStatus
from proxy.workflows.asks import open_talk
from proxy.workflows.board import Policy
from proxy.workflows.conducting import Conducting
from proxy.workflows.conductor import Desk
from proxy.workflows.launch import Score, Wanted, prepared
from proxy.workflows.lookout import Lookout
from proxy.workflows.memory import Given, Talk, fitting, unpack

encode = msgspec.json.Encoder().encode

PATIENCE = 3.0
"""Seconds that whoever conducts a run gets to act on an answer or a cancel before its caller is told how far it is."""


class Results(Struct, frozen=True, kw_only=True):
    """What a caller's tools gave, by call, for one step of a node."""

    node: str
    step: int
    request_id: str
    results: tuple[tuple[str, Given], ...]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.results]


class Engine:
    """The way to all runs, and the conductor of those that were started here or are nobody's. `open` before the first
    call, `close` before the manager's."""

    def __init__(
        self, store: Store, manager: RunManager, prices: Mapping[str, Price], policy: Policy | None = None
    ) -> None:
        self._store = store
        self._manager = manager
        self._policy = policy or Policy()
        desk = Desk(store=store, manager=manager, prices=prices, policy=self._policy)
        self._conducting = Conducting(store, desk)
        self._lookout = Lookout(store, self._conducting)
        self._looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take up the runs that nobody conducts, now and from now on. Raises `Unavailable`."""
        self._conducting.closed = False
        await self._lookout.look()
        self._looking = asyncio.create_task(self._lookout.run())

    def leave(self) -> None:
        """The server will go down: where others share the store, let them have each run as soon as nothing is under way
        for it here."""
        if self._store.shared:
            self._conducting.leave()

    async def close(self) -> None:
        """Stop all child runs; the logs stay without an end, and other servers go on with them, or the next one."""
        self._conducting.closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._conducting.close()

    async def start(self, wanted: Wanted) -> WorkflowRun:
        """Start a run, durably; with an idempotency key that was used before, the run of then as it is now.

        Raises `InvalidWorkflow`, `InvalidInput`, `NotFound` for the session, `Conflict`, `Draining`, `Unavailable`, and
        `TooMany` where its tenant has as many under way as it may have.
        """
        if self._manager.draining or self._conducting.closed:
            raise Draining
        start, score = await prepared(wanted, self._manager.agents, self._policy)
        return await asyncio.shield(self._begin(start, score))

    async def _begin(self, start: Start, score: Score) -> WorkflowRun:
        """Not to be broken off: a run that is stored has to be conducted."""
        new = start.run.run_id
        self._conducting.expect(new)
        try:
            run = await self._store.start_workflow(start, most=self._policy.runs)
            if run.run_id == new:
                self._conducting.begin(run, score)
        except LeaseLost:
            raise Unavailable("This process was cut off from the others; ask again.", retry_after=1) from None
        finally:
            self._conducting.miss(new)
        return run

    async def answer(self, tenant: str, run_id: str, given: Results) -> WorkflowStatus:
        """Take results, durably, all or none; the status is waiting while the run waits for more.

        Raises `NotFound` where nothing waits for any, and `Conflict` where something waits for others.
        """
        run = await self._known(tenant, run_id)
        if run.ended:
            raise NotFound(f"The run waits for no tool results; it has {run.status.value}.", param="run_id")
        talks = await self._talks(run)
        talk = open_talk(talks, given.node, (given.step, given.request_id), given.names)
        taken = [
            TakenResult(node_id=given.node, step=given.step, call_id=name, body=Raw(encode(each)))
            for name, each in given.results
        ]
        if not await self._store.take_results(tenant, run_id, taken):
            raise Conflict("These calls have just been answered, or the run has ended.", param="results")
        await self._follow(run, given)
        left = len(talk.open) - len(taken) + sum(len(other.open) for other in talks if other is not talk)
        return WorkflowStatus.WAITING if left else WorkflowStatus.RUNNING

    async def _talks(self, run: WorkflowRun) -> list[Talk]:
        """What waits for its caller, with all answers that were taken, also those its conductor has not heard of."""
        memory = unpack(await self._store.workflow_state(run.tenant, run.run_id) or b"{}")
        results = await self._store.taken_results(run.tenant, run.run_id)
        return [replace(talk, answers={**talk.answers, **fitting(results, talk)}) for talk in memory.talks]

    async def cancel(self, tenant: str, run_id: str) -> WorkflowRun:
        """Cancel a run, durably; returns its record, which is final unless its server goes down or was lost, for the
        next one has to do it then. Raises `NotFound`."""
        run = await self._store.cancel_workflow(tenant, run_id)
        if run is None:
            raise missing(run_id)
        if run.ended:
            return run
        await self._follow(run)
        return await self._known(tenant, run_id)

    async def _follow(self, run: WorkflowRun, given: Results | None = None) -> None:
        """Wait until the log of a run says that these results have come, or that it has ended; but not for ever."""
        left = None if given is None else set(given.names)
        query = EventQuery(tenant=run.tenant, run_id=run.run_id, after=run.last_seq)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE), aclosing(self._store.follow_events(query, idle=0)) as batches:
                async for batch in batches:
                    for event in batch:
                        if given is not None and left is not None and event.type == "node_tool_result":
                            left.discard(answered(event.body, given))
                    if left is not None and not left:
                        return

    async def _known(self, tenant: str, run_id: str) -> WorkflowRun:
        run = await self._store.get_workflow(tenant, run_id)
        if run is None:
            raise missing(run_id)
        return run


def answered(line: bytes, given: Results) -> str:
    """The call that an event of a log gives the result of, if it is one of these."""
    _, word = wire.read(line)
    if not isinstance(word, wire.NodeToolResult) or word.node_id != given.node:
        return ""
    return word.tool_result.tool_call.id if word.tool_result.step == given.step else ""


def missing(run_id: str) -> NotFound:
    return NotFound(f"There is no workflow run {run_id}.", param="run_id")

"""The only way in: runs are made, followed, waited for, cancelled and deleted here. Routes never touch a store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial

import msgspec
import structlog

from proxy.adapter import RunInput, thread_key
from proxy.errors import Draining, NotFound, UnknownAgent
from proxy.events import NULL, Cancelled, Entry, Failed, Final
from proxy.model import Action, Pause, Run, RunStatus
from proxy.runs.admission import GOING_DOWN, Admission
from proxy.runs.agents import Agent, Agents
from proxy.runs.chores import Chores
from proxy.runs.ends import ended, left
from proxy.runs.limits import RunBounds, Slots
from proxy.runs.locks import Locks
from proxy.runs.order import Order
from proxy.runs.queues import key_of
from proxy.runs.report import report, report_content
from proxy.runs.states import States
from proxy.runs.sweeper import Sweep, Sweeper
from proxy.runs.watch import Watch
from proxy.runs.worker import Execution, failed
from proxy.settings import Runs
from proxy.store.base import RunQuery, Store
from proxy.transcript import Tally

__all__ = ["RunManager", "RunQuery"]

logger = structlog.get_logger(__name__)
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(RunInput).decode

RESTARTED = Failed(
    code="server_restarted", message="The server was restarted during the run.", status=503, retryable=True
)
TAKEOVER = 10_000
"""How far ahead a run is numbered on that lost its process: beyond any number that a reader may have seen."""
PAGE = 1000


class RunManager:
    """All runs of this server. `on_end` is told of each that has ended; `scrub` blots secrets out of a text."""

    def __init__(
        self,
        store: Store,
        agents: Agents,
        settings: Runs,
        states: States | None = None,
        *,
        on_end: Callable[[Run], None] = lambda run: None,
        scrub: Callable[[str], str] = str,
    ) -> None:
        self.agents = agents
        self.watch = Watch()
        self.locks = Locks()
        """Held while a run of a lasting thread is made; who holds a thread's finds none made meanwhile."""
        self.sweeps: list[Sweep] = []
        """What is swept besides runs."""
        self._store = store
        self._settings = settings
        self._states = states
        self._on_end = on_end
        self._bounds = {agent.name: RunBounds.of(agent.settings, settings, scrub) for agent in agents}
        self._slots = Slots()
        self._executions: dict[str, Execution] = {}
        self._doomed: dict[str, Action] = {}
        """Runs that were cancelled between their record and their beginning."""
        self._chores = Chores()
        self.admission = Admission(store, agents, self._chores)
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def draining(self) -> bool:
        """No more work is taken."""
        return self.admission.closed

    @property
    def live(self) -> list[Run]:
        """The runs of this process that have not ended."""
        return [execution.run for execution in self._executions.values()]

    async def open(self) -> None:
        """Close the runs that an earlier process left unfinished, queue those that it left waiting, begin to sweep."""
        left_over = await self._store.unfinished()
        for run, last in left_over:
            if run.status is RunStatus.RUNNING:
                await self._close_up(run, RESTARTED, last)
        for run, last in left_over:
            if run.status is RunStatus.PENDING:
                await self._queue_again(run, last)
        self._sweeper = self._chores.add(Sweeper(self._store, self._settings, self._forget, self.sweeps).run())

    async def _close_up(self, run: Run, final: Final, last: int) -> None:
        log = self._store.begin(run, inserted=True, after=last + TAKEOVER)
        thread = None if run.temporary else left(final)
        record = ended(run, final, Tally(), last)
        await log.settle(final, record, thread=thread)
        self._on_end(record)

    async def _queue_again(self, run: Run, last: int) -> None:
        """A run that waited goes on waiting, unless it was cancelled or nobody is left to run it."""
        agent = self.agents.named(run.agent)
        if run.cancel is not None:
            await self._close_up(run, Cancelled(action=run.cancel), last)
        elif agent is None or run.input == NULL:
            await self._close_up(run, failed(UnknownAgent(f"There is no agent `{run.agent}` any more.")), last)
        else:
            order = Order(input=decode(run.input), choices=run.choices)
            self._slots.add(run.tenant, run.agent)
            self.admission.admit(self._begin(run, agent, order, inserted=True), order, None)

    async def close(self) -> None:
        """Stop sweeping, and finish what was begun: content that is not to be kept has to go."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._chores.done()

    async def ready(self) -> None:
        """Raises `Draining`, or `Unavailable` if the store cannot be reached."""
        if self.draining:
            raise Draining
        await self._store.ping()

    async def create(self, order: Order) -> Run:
        """Start a run, or let it wait for its thread or its time. With an idempotency key that was used before, the
        run that was made then.

        Raises `Draining`, `TooMany`, `Busy`, `Conflict`, `NotWaiting`, `Unavailable`.
        """
        if self.draining:
            raise Draining
        agent = self.agents.named(order.input.agent)
        if agent is None:
            raise UnknownAgent(f"There is no agent `{order.input.agent}`.")
        run = self._record(order)
        if run.temporary:
            return await self._make(run, agent, order)
        async with self.locks.of(key_of(run)):
            return await self._make(run, agent, order)

    async def _make(self, run: Run, agent: Agent, order: Order) -> Run:
        durable = order.durable or bool(order.idempotency or order.pause or order.delay) or not run.temporary
        self._slots.take(run.tenant, run.agent, agent.settings.limits.concurrent)
        try:
            if durable:
                stored = await self._store.insert(run, idempotency=order.idempotency, thread=order.thread)
                if stored.run_id != run.run_id:
                    self._slots.free(run.tenant, run.agent)
                    return stored
                run = stored
        except BaseException:
            self._slots.free(run.tenant, run.agent)
            raise
        execution = self._begin(run, agent, order, inserted=durable)
        self.admission.admit(execution, order, run.cancel or self._doomed.pop(run.run_id, None))
        return execution.run

    def _record(self, order: Order) -> Run:
        asked, pause, now = order.input, order.pause, time.time()
        waits = order.delay > 0 or order.choices.strategy != "reject"
        return Run(
            run_id=asked.run_id,
            thread_id=asked.thread_id,
            agent=asked.agent,
            tenant=asked.tenant,
            status=RunStatus.PENDING if order.delay > 0 else RunStatus.RUNNING,
            created_at=now,
            updated_at=now,
            turn_id=asked.run_id if pause is None else pause.turn_id,
            resumes=None if pause is None else pause.run_id,
            group=order.group,
            temporary=asked.temporary,
            choices=order.choices,
            input=msgspec.Raw(encode(asked)) if waits or self._keeps(order.choices.store) else NULL,
            not_before=now + order.delay if order.delay > 0 else None,
            webhook=order.webhook,
        )

    def _begin(self, run: Run, agent: Agent, order: Order, *, inserted: bool) -> Execution:
        """Open the run's log, so that it can be followed and cancelled, though it may have to wait."""
        log = self._store.begin(run, inserted=inserted)
        keeper = None
        if self._states is not None:
            keeper = self._states.keeper(run, order.input, agent, partial(self._page, run.run_id))
        execution = Execution(log, self._bounds[agent.name], self._ended, keeper)
        self._executions[run.run_id] = execution
        self.watch.tell(run)
        return execution

    def _ended(self, execution: Execution) -> None:
        run = execution.done.result()
        del self._executions[run.run_id]
        self._slots.free(run.tenant, run.agent)
        self.admission.leave(execution)
        report(run)
        if self._settings.log_content:
            self._chores.add(report_content(run, self.follow(run, idle=0)))
        if not self._keeps(run.choices.store):
            self._chores.add(self._store.strip(run))
        self._on_end(run)

    def _keeps(self, store: bool) -> bool:
        return store and self._settings.keep_content

    async def get(self, tenant: str, run_id: str) -> Run:
        """Also one that was rolled back. Raises `NotFound`, also for another tenant's run."""
        run = await self._store.get(tenant, run_id)
        if run is None:
            raise NotFound(f"There is no run `{run_id[:64]}`.")
        return run

    async def named(self, tenant: str, name: str) -> list[Run]:
        """The run of that id, or all runs of that group, oldest first. Raises `NotFound`."""
        run = await self._store.get(tenant, name)
        runs = [run] if run else await self._store.find(RunQuery(tenant=tenant, group=name))
        if not runs:
            raise NotFound(f"There is no run `{name[:64]}`.")
        return runs[::-1]

    async def find(self, query: RunQuery) -> list[Run]:
        return await self._store.find(query)

    async def read(self, run: Run, *, after: int, limit: int) -> list[Entry]:
        """A page of the run's log."""
        return await self._store.read(run.run_id, after=after, limit=limit)

    async def _page(self, run_id: str, after: int) -> list[Entry]:
        return await self._store.read(run_id, after=after, limit=PAGE)

    def last(self, run: Run) -> int | None:
        """The number of the last entry of a run's log, as far as it has come; None unless the run is under way."""
        execution = self._executions.get(run.run_id)
        return None if execution is None else execution.log.last

    def follow(
        self,
        run: Run,
        *,
        after: int = 0,
        idle: float = 15.0,
        first: float | None = None,
        sink: Callable[[Entry], bool] | None = None,
    ) -> AsyncGenerator[list[Entry]]:
        """See `EventLog.follow`."""
        return self._store.follow(run.run_id, after=after, idle=idle, first=first, sink=sink)

    async def wait(self, run: Run) -> Run:
        """The record of the run once it has ended."""
        execution = self._executions.get(run.run_id)
        if execution is not None:
            return await asyncio.shield(execution.done)
        return await self.get(run.tenant, run.run_id)

    def stop(self, run: Run, action: Action = "interrupt") -> None:
        """Cancel a run of this process, if it is still under way."""
        execution = self._executions.get(run.run_id)
        if execution is not None:
            execution.stop(Cancelled(action=action))

    async def cancel(self, tenant: str, run_id: str, action: Action = "interrupt") -> list[Run]:
        """Cancel a run, the run of its turn that is under way, or all runs of a group; return their records.

        A run that has ended already, or whose other end is being stored, is returned as it ended. That a waiting run
        never starts is durable when this returns. Raises `NotFound`.
        """
        live = self._live(tenant, run_id)
        if not live:
            runs = await self.named(tenant, run_id)
            live = self._live(tenant, runs[0].turn_id)
            if not live:
                self._doomed.update((run.run_id, action) for run in runs if not run.ended)
                return runs
        awaited = [execution for execution in live if not execution.started]
        awaited += [one for one in live if not one.stop(Cancelled(action=action)) and not one.cancelled]
        for execution in awaited:
            await asyncio.shield(execution.done)
        return [execution.run for execution in live]

    async def cancel_key(self, tenant: str, key: str, action: Action = "interrupt") -> list[Run]:
        """Cancel the run that was asked for with this idempotency key; one that is still to come never starts."""
        run_id = await self._store.cancel_key(tenant, key)
        return [] if run_id is None else await self.cancel(tenant, run_id, action)

    def _live(self, tenant: str, name: str) -> list[Execution]:
        """Executions that go by this name: a run's id, its group's, or that of its turn."""
        return [
            execution
            for execution in self._executions.values()
            if execution.run.tenant == tenant
            and name in (execution.run.run_id, execution.run.group, execution.run.turn_id)
        ]

    async def delete(self, tenant: str, run_id: str) -> None:
        """Cancel the run if need be, then remove its record, its log, and the agent's state if no run is left on it."""
        run = await self.get(tenant, run_id)
        self.stop(run)
        await self.wait(run)
        await self._store.delete(tenant, run_id)
        await self._forget(run)

    async def _forget(self, run: Run) -> None:
        """Let the agent forget a thread that has neither a record nor a run."""
        agent = self.agents.named(run.agent)
        query = RunQuery(tenant=run.tenant, thread_id=run.thread_id, gone=True, limit=1)
        if agent is None or await self._store.find(query):
            return
        if run.temporary or await self._store.get_thread(run.tenant, run.thread_id) is None:
            await agent.adapter.forget(thread_key(run.tenant, run.thread_id))
            await self._store.cut_states(run.tenant, run.thread_id)

    async def pauses(self, tenant: str, thread_id: str | None, agent: str, *, answered: bool = False) -> list[Pause]:
        """See `RunStore.pauses`."""
        return await self._store.pauses(tenant, thread_id, agent=agent, answered=answered)

    async def drain(self, seconds: float) -> None:
        """Take no more work, give running runs that long, then end them as `server_shutting_down`.

        Runs that wait go on waiting for the next server; who follows them is told to come back.
        """
        self.admission.closed = True
        waiting = [execution.done for execution in self._executions.values() if execution.started]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)
        self.abort()
        left_over = [execution.done for execution in self._executions.values() if execution.started]
        if left_over:
            await asyncio.wait(left_over, timeout=self._settings.cancel_grace + 1)

    def abort(self) -> None:
        """End all runs now."""
        self.admission.closed = True
        self.watch.close()
        for execution in list(self._executions.values()):
            if execution.started:
                execution.stop(GOING_DOWN)
            else:
                execution.log.release()

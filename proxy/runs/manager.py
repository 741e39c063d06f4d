"""The only way in: runs are made, followed, waited for, cancelled and deleted here. Routes never touch a store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial

import msgspec
import structlog

from proxy.adapter import RunInput, thread_key
from proxy.errors import Draining, NotFound, ProxyError, UnknownAgent
from proxy.events import NULL, Cancelled, Entry, Failed, RunStarted
from proxy.model import Choices, Idempotency, Pause, Run, RunStatus
from proxy.runs.agents import Agent, Agents
from proxy.runs.chores import Chores
from proxy.runs.limits import RunBounds, Slots
from proxy.runs.report import report, report_content
from proxy.runs.worker import Execution, ended
from proxy.settings import Runs
from proxy.store.base import RunQuery, Store
from proxy.transcript import Tally

logger = structlog.get_logger(__name__)
encode = msgspec.json.Encoder().encode

GOING_DOWN = Failed(
    code="server_shutting_down", message="The server is shutting down.", status=503, retryable=True, retry_after=1
)
RESTARTED = Failed(
    code="server_restarted", message="The server was restarted during the run.", status=503, retryable=True
)
TAKEOVER = 10_000
"""How far ahead a run is numbered on that lost its process: beyond any number that a reader may have seen."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be made. `pause` is what it answers, `group` the request it shares with others."""

    input: RunInput
    choices: Choices = Choices()
    pause: Pause | None = None
    group: str | None = None
    idempotency: Idempotency | None = None
    durable: bool = False
    """True: the record is on disk before `create` returns."""


class RunManager:
    """All runs of this server."""

    def __init__(self, store: Store, agents: Agents, settings: Runs) -> None:
        self.agents = agents
        self.draining = False
        self._store = store
        self._settings = settings
        self._bounds = {agent.name: RunBounds.of(agent.settings, settings) for agent in agents}
        self._slots = Slots()
        self._executions: dict[str, Execution] = {}
        self._chores = Chores()
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def live(self) -> list[Run]:
        """The runs that are under way in this process."""
        return [execution.run for execution in self._executions.values()]

    async def open(self) -> None:
        """Close the runs that an earlier process left unfinished, and begin to sweep."""
        for run, last in await self._store.unfinished():
            log = self._store.begin(run, inserted=True, after=last + TAKEOVER)
            await log.settle(RESTARTED, ended(run, RESTARTED, Tally(), last))
        self._sweeper = self._chores.add(self._sweep())

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
        """Start a run. With an idempotency key that was used before, the run that was started then.

        Raises `Draining`, `TooMany`, `Busy`, `Conflict`, `NotWaiting`, `Unavailable`.
        """
        if self.draining:
            raise Draining
        agent = self.agents.named(order.input.agent)
        if agent is None:
            raise UnknownAgent(f"There is no agent `{order.input.agent}`.")
        run = self._record(order)
        durable = order.durable or bool(order.idempotency or order.pause) or not run.temporary
        self._slots.take(run.tenant, run.agent, agent.settings.limits.concurrent)
        try:
            if durable:
                stored = await self._store.insert(run, idempotency=order.idempotency, exclusive=not run.temporary)
                if stored.run_id != run.run_id:
                    self._slots.free(run.tenant, run.agent)
                    return stored
        except BaseException:
            self._slots.free(run.tenant, run.agent)
            raise
        self._start(run, agent, order, durable)
        return run

    def _record(self, order: Order) -> Run:
        asked, pause, now = order.input, order.pause, time.time()
        kept = order.choices.store and self._settings.keep_content
        return Run(
            run_id=asked.run_id,
            thread_id=asked.thread_id,
            agent=asked.agent,
            tenant=asked.tenant,
            status=RunStatus.RUNNING,
            created_at=now,
            updated_at=now,
            turn_id=asked.run_id if pause is None else pause.turn_id,
            resumes=None if pause is None else pause.run_id,
            group=order.group,
            temporary=asked.temporary,
            choices=order.choices,
            input=msgspec.Raw(encode(asked)) if kept else NULL,
        )

    def _start(self, run: Run, agent: Agent, order: Order, inserted: bool) -> None:
        log = self._store.begin(run, inserted=inserted)
        log.append(RunStarted(run_id=run.run_id, thread_id=run.thread_id, agent=run.agent))
        bounds, asked = self._bounds[agent.name], order.input
        if asked.timeout != bounds.timeout:
            asked = msgspec.structs.replace(asked, timeout=bounds.timeout)
        execution = Execution(log, bounds, self._ended)
        self._executions[run.run_id] = execution
        execution.start(partial(agent.adapter.stream, asked))
        if self.draining:  # it was being stored when the draining began, which therefore did not see it
            execution.stop(GOING_DOWN)

    def _ended(self, execution: Execution) -> None:
        run = execution.done.result()
        del self._executions[run.run_id]
        self._slots.free(run.tenant, run.agent)
        report(run)
        if self._settings.log_content:
            self._chores.add(report_content(run, self.follow(run, idle=0)))
        if not self._kept(run):
            self._chores.add(self._store.strip(run))

    def _kept(self, run: Run) -> bool:
        return run.choices.store and self._settings.keep_content

    async def get(self, tenant: str, run_id: str) -> Run:
        """Raises `NotFound`, also for another tenant's run."""
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

    def stop(self, run: Run, action: str = "interrupt") -> None:
        """Cancel a run of this process, if it is still under way."""
        execution = self._executions.get(run.run_id)
        if execution is not None:
            execution.stop(Cancelled(action=action))

    async def cancel(self, tenant: str, run_id: str, action: str = "interrupt") -> list[Run]:
        """Cancel a run, the run of its turn that is under way, or all runs of a group; return their records.

        A run that has ended already is returned as it is. Raises `NotFound`.
        """
        live = self._live(tenant, run_id)
        if not live:
            runs = await self.named(tenant, run_id)
            live = self._live(tenant, runs[0].turn_id)
            if not live:
                return runs
        for execution in live:
            execution.stop(Cancelled(action=action))
        return [execution.run for execution in live]

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
        agent = self.agents.named(run.agent)
        if agent is None or await self._store.find(RunQuery(tenant=run.tenant, thread_id=run.thread_id, limit=1)):
            return
        await agent.adapter.forget(thread_key(run.tenant, run.thread_id))

    async def pauses(self, tenant: str, thread_id: str | None, agent: str, *, answered: bool = False) -> list[Pause]:
        """See `RunStore.pauses`."""
        return await self._store.pauses(tenant, thread_id, agent=agent, answered=answered)

    async def drain(self, seconds: float) -> None:
        """Take no more work, give running runs that long, then end them as `server_shutting_down`."""
        self.draining = True
        waiting = [execution.done for execution in self._executions.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)
        for execution in list(self._executions.values()):
            execution.stop(GOING_DOWN)
        left = [execution.done for execution in self._executions.values()]
        if left:
            await asyncio.wait(left, timeout=self._settings.cancel_grace + 1)

    def abort(self) -> None:
        """End all runs now."""
        self.draining = True
        for execution in list(self._executions.values()):
            execution.stop(GOING_DOWN)

    async def _sweep(self) -> None:
        """Delete what is older or more than the config keeps, again and again; a store that is away is asked later."""
        while True:
            swept = False
            try:
                swept = await self._sweep_once()
            except ProxyError as error:
                logger.warning("old runs could not be deleted", error=error.code, message=error.message)
            if not swept:
                await asyncio.sleep(self._settings.retention.every)

    async def _sweep_once(self) -> bool:
        """Delete a bounded number of runs; False if there were none."""
        keep = self._settings.retention
        before = time.time() - keep.age if keep.age else 0.0
        swept = await self._store.sweep(before=before, keep=keep.count)
        for run in swept:
            await self._forget(run)
        return bool(swept)

"""How runs are made: counted, stored, and begun here, unless they wait for their turn or for another process."""

from __future__ import annotations

import asyncio
import time

import msgspec

from proxy.adapter import RunInput
from proxy.errors import Draining, LeaseLost, Unavailable, UnknownAgent
from proxy.events import NULL
from proxy.model import Run, RunStatus
from proxy.runs.agents import Agent, Agents
from proxy.runs.cancels import Cancels
from proxy.runs.leases import Leases
from proxy.runs.live import Live
from proxy.runs.order import Order
from proxy.runs.watch import Watch
from proxy.settings import Runs
from proxy.store.base import Store

encode = msgspec.json.Encoder().encode


class Admission:
    """Makes runs; `leases` knows which agents have a worker, and `watch` is told of each run."""

    def __init__(
        self, store: Store, agents: Agents, live: Live, cancels: Cancels, leases: Leases, settings: Runs
    ) -> None:
        self.watch = Watch(store)
        self._store = store
        self._agents = agents
        self._live = live
        self._cancels = cancels
        self._leases = leases
        self._settings = settings

    async def make(self, order: Order) -> Run:
        """See `RunManager.create`."""
        if self._live.closed:
            raise Draining
        agent = self._agents.named(order.input.agent)
        if agent is None:
            raise UnknownAgent(f"There is no agent `{order.input.agent}`.")
        run = self._record(order, agent)
        if not agent.here:
            self._leases.want(agent.name)
        if not self._lasts(run, order):
            self._live.slots.take(run.tenant, run.agent, agent.settings.limits.concurrent)
            return self._begun(run, order.input, inserted=False)
        # A run that is in the store has to be begun, also where its caller has left meanwhile.
        making = asyncio.ensure_future(self._make(run, agent, order))
        making.add_done_callback(lambda made: made.cancelled() or made.exception())
        return await asyncio.shield(making)

    def _lasts(self, run: Run, order: Order) -> bool:
        """Whether somebody relies on it: its record is durable before the caller hears of it."""
        relied_on = order.durable or order.idempotency or order.pause or order.delay
        return bool(self._store.shared or relied_on or not run.temporary)

    async def _make(self, run: Run, agent: Agent, order: Order) -> Run:
        slots, limit, made = self._live.slots, agent.settings.limits.concurrent, False
        slots.take(run.tenant, run.agent, limit)
        try:
            stored = await self._stored(run, order, most=limit if self._store.shared else 0)
            made = stored.run_id == run.run_id
        finally:
            if not made:
                slots.free(run.tenant, run.agent)
        if not made:
            return stored
        if stored.status is RunStatus.RUNNING and self._live.owns(stored):
            return self._begun(stored, order.input, inserted=True)
        self.watch.tell(stored)
        if stored.cancel is not None:  # its idempotency key was cancelled beforehand
            return await self._cancels.one(stored, stored.cancel) or stored
        return stored

    async def _stored(self, run: Run, order: Order, *, most: int) -> Run:
        try:
            return await self._store.insert(run, idempotency=order.idempotency, thread=order.thread, most=most)
        except LeaseLost as error:
            raise Unavailable("The server has to find its place among the others; ask again.", retry_after=1) from error

    def _begun(self, run: Run, asked: RunInput, *, inserted: bool) -> Run:
        run = self._live.execute(run, asked, inserted=inserted).run
        self.watch.tell(run)
        return run

    def _record(self, order: Order, agent: Agent) -> Run:
        asked, pause, now = order.input, order.pause, time.time()
        queued = order.delay > 0 or self._left_to_others(order, agent)
        waits = queued or order.choices.strategy != "reject"
        keeps = order.choices.store and self._settings.keep_content
        return Run(
            run_id=asked.run_id,
            thread_id=asked.thread_id,
            agent=asked.agent,
            tenant=asked.tenant,
            status=RunStatus.PENDING if queued else RunStatus.RUNNING,
            created_at=now,
            updated_at=now,
            turn_id=asked.run_id if pause is None else pause.turn_id,
            resumes=None if pause is None else pause.run_id,
            group=order.group,
            temporary=asked.temporary,
            choices=order.choices,
            input=msgspec.Raw(encode(asked)) if waits or keeps else NULL,
            not_before=now + order.delay if order.delay > 0 else None,
            webhook=order.webhook,
            owner=None if queued else self._store.lease.owner,
        )

    def _left_to_others(self, order: Order, agent: Agent) -> bool:
        """Whether a process that takes runs from the queue is to do it."""
        return not agent.here or (order.background and agent.name in self._leases.served)

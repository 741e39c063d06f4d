"""The workflow runs of `memory://`; see `proxy.store.workflow` for the contracts."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import islice

import msgspec

from proxy.errors import NotFound
from proxy.store.admission import joined
from proxy.store.base import KEY_AGE
from proxy.store.lease import Lease
from proxy.store.logs.bells import Bells, bare, size_of
from proxy.store.memory.sessions import MemorySessions
from proxy.store.signals import ANY, Signals, Topic
from proxy.store.workflow import (
    MOST_SWEPT,
    Advance,
    EventPage,
    EventQuery,
    Standing,
    Start,
    check_numbers,
    check_open_runs,
)
from proxy.workflow_model import SavedPlan, TakenResult, WorkflowEvent, WorkflowRun

Name = tuple[str, str]
"""A tenant, and the name of something of it."""


class Held(msgspec.Struct):
    """One run, with all that belongs to it."""

    run: WorkflowRun
    state: bytes
    events: list[WorkflowEvent]
    outputs: dict[str, bytes] = {}
    results: dict[tuple[str, int, str], TakenResult] = {}


class UsedKey(msgspec.Struct, frozen=True):
    """What an idempotency key was used for, and when (seconds since 1970)."""

    run_id: str
    fingerprint: str
    at: float


class MemoryWorkflows(MemorySessions):
    """The part of a store that keeps workflow runs, and lets them be followed."""

    lease: Lease
    signals: Signals

    def __init__(self) -> None:
        super().__init__()
        self._plans: dict[Name, tuple[SavedPlan, float]] = {}
        """Plans, and when they were asked for last."""
        self._workflows: dict[Name, Held] = {}
        self._workflow_keys: dict[Name, UsedKey] = {}
        self._bells = Bells()

    async def put_plan(self, plan: SavedPlan) -> None:
        known, _ = self._plans.get((plan.tenant, plan.plan_hash), (plan, 0.0))
        self._plans[plan.tenant, plan.plan_hash] = known, time.time()

    async def get_plan(self, tenant: str, plan_hash: str) -> SavedPlan | None:
        known, _ = self._plans.get((tenant, plan_hash), (None, 0.0))
        return known

    async def start_workflow(self, start: Start, *, most: int = 0) -> WorkflowRun:
        check_numbers(start.events)
        run, asked = msgspec.structs.replace(start.record, owner=self.lease.owner), start.idempotency
        used = None if asked is None else self._workflow_keys.get((run.tenant, asked.key))
        if used is not None and asked is not None:
            known = await self.get_workflow(run.tenant, used.run_id)
            return joined(known, same=used.fingerprint == asked.fingerprint)
        check_open_runs(sum(held.run.tenant == run.tenant for held in self._open()), most)
        if run.session_id is not None and await self.get_session(run.tenant, run.session_id) is None:
            raise NotFound(f"There is no session {run.session_id}.", param="session_id")
        await self.put_plan(start.plan)
        self._workflows[run.tenant, run.run_id] = Held(run, start.state, list(start.events))
        if asked is not None:
            self._workflow_keys[run.tenant, asked.key] = UsedKey(run.run_id, asked.fingerprint, time.time())
        return run

    async def get_workflow(self, tenant: str, run_id: str) -> WorkflowRun | None:
        held = self._workflows.get((tenant, run_id))
        return None if held is None else held.run

    async def workflow_state(self, tenant: str, run_id: str) -> bytes | None:
        held = self._workflows.get((tenant, run_id))
        return None if held is None else held.state

    async def advance(self, change: Advance) -> WorkflowRun | None:
        check_numbers(change.events, change.run.last_seq)
        held = self._workflows.get((change.run.tenant, change.run.run_id))
        stored = None if held is None else change.over(held.run)
        if held is None or stored is None or change.run.owner != self.lease.owner:
            return None
        held.run = stored
        held.state = held.state if change.state is None else change.state
        held.events += change.events
        held.outputs |= change.outputs
        if change.says is not None and stored.session_id is not None:
            await self.append_message(stored.tenant, stored.session_id, change.says)
        self._bells.ring(stored.run_id, change.events)
        return stored

    async def cancel_workflow(self, tenant: str, run_id: str) -> WorkflowRun | None:
        held = self._workflows.get((tenant, run_id))
        if held is not None and not held.run.ended:
            held.run = msgspec.structs.replace(held.run, cancel=True)
            self.signals.ring([(Topic.WANTED, run_id)])
        return None if held is None else held.run

    async def open_workflows(self) -> list[WorkflowRun]:
        return sorted((held.run for held in self._open()), key=lambda run: run.run_id)

    def _open(self) -> Iterator[Held]:
        return (held for held in self._workflows.values() if not held.run.ended)

    async def claim_workflows(self, *, limit: int) -> list[WorkflowRun]:
        lost = sorted(
            (held for held in self._open() if held.run.owner != self.lease.owner), key=lambda one: one.run.run_id
        )
        for held in lost[:limit]:
            held.run = msgspec.structs.replace(held.run, owner=self.lease.owner)
        return [held.run for held in lost[:limit]]

    async def release_workflow(self, run: WorkflowRun) -> None:
        held = self._workflows.get((run.tenant, run.run_id))
        if held is not None and not held.run.ended and held.run.owner == run.owner:
            held.run = msgspec.structs.replace(held.run, owner=None)
            self.signals.ring([(Topic.WANTED, ANY)])

    async def standing_workflows(self) -> list[Standing]:
        mine = [held for held in self._open() if held.run.owner == self.lease.owner]
        return [
            Standing(tenant=held.run.tenant, run_id=held.run.run_id, cancel=held.run.cancel, results=len(held.results))
            for held in mine
        ]

    async def take_results(self, tenant: str, run_id: str, results: Sequence[TakenResult]) -> bool:
        held = self._workflows.get((tenant, run_id))
        new = {(result.node_id, result.step, result.call_id): result for result in results}
        if held is None or held.run.ended or len(new) < len(results) or new.keys() & held.results.keys():
            return False
        held.results |= new
        self.signals.ring([(Topic.WANTED, run_id)])
        return True

    async def taken_results(self, tenant: str, run_id: str) -> list[TakenResult]:
        held = self._workflows.get((tenant, run_id))
        return [] if held is None else list(held.results.values())

    async def node_outputs(self, tenant: str, run_id: str) -> dict[str, bytes]:
        held = self._workflows.get((tenant, run_id))
        return {} if held is None else dict(held.outputs)

    async def read_events(self, query: EventQuery) -> EventPage:
        held = self._workflows.get((query.tenant, query.run_id))
        if held is None:
            return EventPage([], False)
        found = islice(held.events, query.after, query.after + size_of(query))
        return EventPage([event if query.contents else bare(event) for event in found], not held.run.ended)

    def follow_events(self, query: EventQuery, *, idle: float = 15.0) -> AsyncGenerator[list[WorkflowEvent]]:
        return self._bells.follow(query, self.read_events, idle)

    def leave_events(self) -> None:
        self._bells.close()

    async def sweep_workflows(self, *, before: float, keep: int) -> bool:
        ended = sorted(
            (held.run for held in self._workflows.values() if held.run.ended), key=lambda run: run.updated_at
        )
        spare = len(ended) - keep if keep else 0
        old = [run for at, run in enumerate(ended[:MOST_SWEPT]) if at < spare or run.updated_at < before]
        for run in old:
            del self._workflows[run.tenant, run.run_id]
        self._forget_workflow_keys()
        used = {(held.run.tenant, held.run.plan_hash) for held in self._workflows.values()}
        self._plans = {name: plan for name, plan in self._plans.items() if plan[1] >= before or name in used}
        return bool(old)

    def _forget_workflow_keys(self) -> None:
        young = time.time() - KEY_AGE
        self._workflow_keys = {
            (tenant, key): used
            for (tenant, key), used in self._workflow_keys.items()
            if used.at > young or (tenant, used.run_id) in self._workflows
        }

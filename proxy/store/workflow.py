"""The port for what workflow runs keep: plans, runs with their events, tool results.

Each backend implements it beside those of `proxy.store.base`, and `check_store` holds it to it. Sessions have one of
their own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

import msgspec

from proxy.errors import TooMany
from proxy.model import Idempotency
from proxy.workflow_model import (
    Said,
    SavedPlan,
    TakenResult,
    WorkflowEvent,
    WorkflowRun,
)

MOST_EVENTS = 1000
"""Events that one page holds at most."""
PAGE_BYTES = 4 * 1024 * 1024
"""A page ends after the event that goes over this."""
MOST_SWEPT = 50
"""Runs that one sweep deletes at most."""
LATER = 5.0
"""Seconds after which it is worth asking again where too many runs are under way: they last."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A new run, with all that is stored with it in one transaction. `events` are numbered from 1, and counted."""

    run: WorkflowRun
    plan: SavedPlan
    events: tuple[WorkflowEvent, ...] = ()
    state: bytes = b""
    """The engine's own; nobody else looks at it."""
    idempotency: Idempotency | None = None

    @property
    def record(self) -> WorkflowRun:
        """The run as it is stored."""
        return msgspec.structs.replace(self.run, last_seq=len(self.events))


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction changes of a run.

    `run` is the record as it is to be, but its `last_seq` is that of the last event that its writer knows; the events
    are numbered from there on. Its `owner` is the process that writes; its `cancel` is never written, for others set
    that.
    """

    run: WorkflowRun
    events: tuple[WorkflowEvent, ...] = ()
    state: bytes | None = None
    """None where it stays as it is."""
    outputs: dict[str, bytes] = {}
    """JSON of the values of nodes, by their ids: what is new."""
    says: Said | None = None
    """What the run says in its session, if that is still there."""

    @property
    def last_seq(self) -> int:
        return self.events[-1].seq if self.events else self.run.last_seq

    def over(self, known: WorkflowRun) -> WorkflowRun | None:
        """The record that replaces this one; None where it has gone on since, or ended, or is another's."""
        if known.ended or (known.last_seq, known.owner) != (self.run.last_seq, self.run.owner):
            return None
        return msgspec.structs.replace(
            known,
            status=self.run.status,
            updated_at=self.run.updated_at,
            summary=self.run.summary,
            last_seq=self.last_seq,
        )


class EventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a run's log: what stands after `after`, at most `limit` events; to the run's end with `wait`."""

    tenant: str
    run_id: str
    after: int = 0
    limit: int | None = None
    wait: bool = True
    contents: bool = False
    """Give the events their `content`; it is None otherwise."""


class EventPage(msgspec.Struct, frozen=True):
    """Events in order, and whether more may come after the last of all."""

    events: list[WorkflowEvent]
    open: bool


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """An open run as its conductor looks at it: what others want of it."""

    tenant: str
    run_id: str
    cancel: bool = False
    results: int = 0
    """How many answers to tool calls were taken for it."""


def check_open_runs(taken: int, most: int) -> None:
    """Raises `TooMany` where a tenant has as many runs under way as it may have (0: no bound)."""
    if most and taken >= most:
        reason = f"There are {most} workflow runs under way already; let some end, or cancel some."
        raise TooMany(reason, retry_after=LATER)


def check_numbers(events: Sequence[WorkflowEvent], after: int = 0) -> None:
    """Raises `ValueError` unless the events are numbered on from `after`, without a gap."""
    if any(event.seq != number for number, event in enumerate(events, after + 1)):
        raise ValueError("The events are not numbered on from the last one.")


class WorkflowStore(Protocol):
    """Plans, and the runs of them."""

    async def put_plan(self, plan: SavedPlan) -> None:
        """Keep a plan durably; one of that hash that is there already counts as used now."""
        ...

    async def get_plan(self, tenant: str, plan_hash: str) -> SavedPlan | None: ...

    async def start_workflow(self, start: Start, *, most: int = 0) -> WorkflowRun:
        """Store a new run durably and return it, which is this process's (`owner`); or the one that came with this
        idempotency key before, as it is now.

        A key holds as long as its run, and 24 hours at least, within the tenant: whoever wants it narrower puts more
        into it. Raises `Conflict` if it came with another fingerprint or its run was deleted, `NotFound` for a session
        that is not there, and `TooMany` if its tenant has `most` open runs already (0: no bound), in all processes
        together; nothing is stored then. Raises `ValueError` as `advance` does.
        """
        ...

    async def get_workflow(self, tenant: str, run_id: str) -> WorkflowRun | None: ...

    async def workflow_state(self, tenant: str, run_id: str) -> bytes | None:
        """The engine's own state of a run; None if there is no such run."""
        ...

    async def advance(self, change: Advance) -> WorkflowRun | None:
        """Append events, and change the record and what belongs to it, in one transaction; then wake the followers.

        Returns the record as it is stored. None, and nothing changes, if `change.run.last_seq` is not the number of
        the last event, the run has ended or is gone, or is not this process's as `change.run.owner`: of several writers
        that know the same, one goes on. Raises `LeaseLost` as well where that is found out only now, and `ValueError`
        for events that are not numbered on from there.
        """
        ...

    async def cancel_workflow(self, tenant: str, run_id: str) -> WorkflowRun | None:
        """Unless the run has ended, set `cancel` and tell its owner. Returns the record; None if there is none."""
        ...

    async def open_workflows(self) -> list[WorkflowRun]:
        """The runs of all tenants that have not ended, oldest first."""
        ...

    async def claim_workflows(self, *, limit: int) -> list[WorkflowRun]:
        """Open runs that nobody conducts, now this process's, the oldest first: they were released, or their process
        is gone. Of two processes that look at once, one gets a run."""
        ...

    async def release_workflow(self, run: WorkflowRun) -> None:
        """Let others take up an open run of this process, and tell them."""
        ...

    async def standing_workflows(self) -> list[Standing]:
        """The open runs of this process."""
        ...

    async def take_results(self, tenant: str, run_id: str, results: Sequence[TakenResult]) -> bool:
        """Store the answers to tool calls durably, all of them or none, and tell the run's owner.

        False, and nothing is stored, if one of the calls has its answer already or comes twice, or the run is not
        there or has ended."""
        ...

    async def taken_results(self, tenant: str, run_id: str) -> list[TakenResult]:
        """All that were taken, in that order."""
        ...

    async def node_outputs(self, tenant: str, run_id: str) -> dict[str, bytes]:
        """JSON of the values of all nodes that have one."""
        ...

    async def read_events(self, query: EventQuery) -> EventPage:
        """The next events that there are, whatever `wait` says; at most `MOST_EVENTS`, fewer where they are large.

        An unknown run has none, and none come."""
        ...

    def follow_events(self, query: EventQuery, *, idle: float = 15.0) -> AsyncGenerator[list[WorkflowEvent]]:
        """Replay and live in one: all events that are ready, no gap, no duplicate, the same for every follower.

        Yields an empty list after `idle` seconds of silence (0: never). Ends after the run's last event or `limit`
        events, at once where `after` is at or past the end of a run that has ended, and when the store closes or lets
        its followers go; without `wait`, after what there is. Where the store is away: as `EventLog.follow`."""
        ...

    def leave_events(self) -> None:
        """Let all followers go: each ends after what it has."""
        ...

    async def sweep_workflows(self, *, before: float, keep: int) -> bool:
        """Delete a bounded number of ended runs with all that belongs to them: those older than `before` (seconds
        since 1970), and those beyond the newest `keep` (0: no bound). Then plans that no run uses and nobody has asked
        for since, and idempotency keys that have outlived their runs and their time. False if there were no runs."""
        ...

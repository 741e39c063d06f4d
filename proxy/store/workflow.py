"""The ports for what workflow runs keep: plans, runs with their events, tool results, and sessions.

Each backend implements them beside those of `proxy.store.base`, and `check_store` holds it to them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

import msgspec

from proxy.errors import BadRequest, Conflict
from proxy.model import Idempotency, new_id
from proxy.workflow_model import (
    Said,
    SavedPlan,
    Session,
    SessionMessage,
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
METADATA = 64 * 1024
"""Bytes that a session's metadata may have, as JSON."""


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
    are numbered from there on. Its `cancel` is never written, for others set that.
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
        """The record that replaces this one; None where it has gone on since, or ended."""
        if known.ended or known.last_seq != self.run.last_seq:
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


class SessionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions to list, newest first."""

    tenant: str
    customer_id: str | None = None
    limit: int = 50
    offset: int = 0

    def matches(self, session: Session) -> bool:
        return session.tenant == self.tenant and self.customer_id in (None, session.customer_id)


def counted(count: int, most: int) -> None:
    """Raises `Conflict` where one session more is one too many."""
    if most and count >= most:
        raise Conflict(f"There are {most} sessions already; delete some.")


def patched(session: Session, metadata: dict[str, Any], at: float) -> Session:
    """With the metadata merged, key by key; None removes a key. Raises `BadRequest` where there is too much of it."""
    merged = {name: value for name, value in {**session.metadata, **metadata}.items() if value is not None}
    if len(msgspec.json.encode(merged)) > METADATA:
        raise BadRequest(f"The metadata of a session has at most {METADATA} bytes.", param="metadata")
    return msgspec.structs.replace(session, metadata=merged, updated_at=at)


def cleared(session: Session, at: float) -> Session:
    """Without messages."""
    return msgspec.structs.replace(session, message_count=0, size=0, updated_at=at)


def appended(session: Session, said: Said, most: int) -> tuple[Session, SessionMessage]:
    """With one more message, and that message. Raises `Conflict` where it would be larger than `most` bytes."""
    size = session.size + len(bytes(said.content))
    if most and size > most:
        raise Conflict(f"A session holds at most {most} bytes; clear it, or go on in another.")
    seq = session.message_count + 1
    message = SessionMessage(
        message_id=new_id(), seq=seq, role=said.role, content=said.content, run_id=said.run_id, created_at=said.at
    )
    return msgspec.structs.replace(session, message_count=seq, size=size, updated_at=said.at), message


def check_numbers(events: Sequence[WorkflowEvent], after: int = 0) -> None:
    """Raises `ValueError` unless the events are numbered on from `after`, without a gap."""
    if any(event.seq != number for number, event in enumerate(events, after + 1)):
        raise ValueError("The events are not numbered on from the last one.")


def rejoined(known: WorkflowRun | None, *, same: bool) -> WorkflowRun:
    """The run that an idempotency key was used for before. Raises `Conflict`."""
    if not same:
        raise Conflict("This idempotency key was used for another request.")
    if known is None:
        raise Conflict("The run that this idempotency key was used for has been deleted.")
    return known


class WorkflowStore(Protocol):
    """Plans, and the runs of them."""

    async def put_plan(self, plan: SavedPlan) -> None:
        """Keep a plan durably; one of that hash that is there already counts as used now."""
        ...

    async def get_plan(self, tenant: str, plan_hash: str) -> SavedPlan | None: ...

    async def start_workflow(self, start: Start) -> WorkflowRun:
        """Store a new run durably and return it, or the one that came with this idempotency key before, as it is now.

        A key holds as long as its run, and 24 hours at least, within the tenant: whoever wants it narrower puts more
        into it. Raises `Conflict` if it came with another fingerprint or its run was deleted, and `NotFound` for a
        session that is not there; nothing is stored then. Raises `ValueError` as `advance` does.
        """
        ...

    async def get_workflow(self, tenant: str, run_id: str) -> WorkflowRun | None: ...

    async def workflow_state(self, tenant: str, run_id: str) -> bytes | None:
        """The engine's own state of a run; None if there is no such run."""
        ...

    async def advance(self, change: Advance) -> WorkflowRun | None:
        """Append events, and change the record and what belongs to it, in one transaction; then wake the followers.

        Returns the record as it is stored. None, and nothing changes, if `change.run.last_seq` is not the number of
        the last event, or the run has ended or is gone: of several writers that know the same, one goes on. Raises
        `ValueError` for events that are not numbered on from there.
        """
        ...

    async def cancel_workflow(self, tenant: str, run_id: str) -> WorkflowRun | None:
        """Set `cancel`, unless the run has ended. The record as it is then; None if there is none."""
        ...

    async def open_workflows(self) -> list[WorkflowRun]:
        """The runs of all tenants that have not ended, oldest first."""
        ...

    async def take_results(self, tenant: str, run_id: str, results: Sequence[TakenResult]) -> bool:
        """Store the answers to tool calls durably, all of them or none.

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
        its followers go; without `wait`, after what there is."""
        ...

    def leave_events(self) -> None:
        """Let all followers go: each ends after what it has."""
        ...

    async def sweep_workflows(self, *, before: float, keep: int) -> bool:
        """Delete a bounded number of ended runs with all that belongs to them: those older than `before` (seconds
        since 1970), and those beyond the newest `keep` (0: no bound). Then plans that no run uses and nobody has asked
        for since, and idempotency keys that have outlived their runs and their time. False if there were no runs."""
        ...


class SessionStore(Protocol):
    """Sessions and their messages."""

    async def insert_session(self, session: Session, *, most: int = 0) -> None:
        """Store a new one durably. Raises `Conflict` if its tenant has `most` already (0: no bound)."""
        ...

    async def get_session(self, tenant: str, session_id: str) -> Session | None: ...

    async def patch_session(self, tenant: str, session_id: str, metadata: dict[str, Any], at: float) -> Session | None:
        """Merge into the metadata, key by key; None removes a key. None if there is no such session.

        Raises `BadRequest` if it had more than `METADATA` bytes then."""
        ...

    async def clear_session(self, tenant: str, session_id: str, at: float) -> Session | None:
        """Delete its messages; the next one is number 1 again. None if there is no such session."""
        ...

    async def delete_session(self, tenant: str, session_id: str) -> bool:
        """With its messages. False if there is none."""
        ...

    async def find_sessions(self, query: SessionQuery) -> list[Session]: ...

    async def append_message(
        self, tenant: str, session_id: str, said: Said, *, most: int = 0
    ) -> tuple[Session, SessionMessage] | None:
        """Append a message, numbered one above the last, and return it with the session as it is then.

        Raises `Conflict` if the contents of the session would have more than `most` bytes (0: no bound). None if there
        is no such session."""
        ...

    async def messages(self, tenant: str, session_id: str) -> list[SessionMessage]:
        """All messages, in the order in which they were appended."""
        ...

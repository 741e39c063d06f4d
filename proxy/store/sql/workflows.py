"""The workflow runs and sessions of a SQL store; see `proxy.store.workflow` for the contracts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from proxy.store.lease import Lease
from proxy.store.logs.bells import Bells
from proxy.store.session import SessionQuery
from proxy.store.sql.engine import Reader
from proxy.store.sql.writer import Writer
from proxy.store.statements import sessions, workflow_claims, workflows
from proxy.store.workflow import Advance, EventPage, EventQuery, Standing, Start, check_numbers
from proxy.workflow_model import (
    Said,
    SavedPlan,
    Session,
    SessionMessage,
    TakenResult,
    WorkflowEvent,
    WorkflowRun,
)


class SqlSessions:
    """The part of a store that keeps sessions."""

    _reader: Reader
    _writer: Writer

    async def insert_session(self, session: Session, *, most: int = 0) -> None:
        await self._writer.call(sessions.put, session, most)

    async def get_session(self, tenant: str, session_id: str) -> Session | None:
        return await self._reader.read(sessions.get, tenant, session_id)

    async def patch_session(self, tenant: str, session_id: str, metadata: dict[str, Any], at: float) -> Session | None:
        return await self._writer.call(sessions.patch, tenant, session_id, metadata, at)

    async def clear_session(self, tenant: str, session_id: str, at: float) -> Session | None:
        return await self._writer.call(sessions.clear, tenant, session_id, at)

    async def delete_session(self, tenant: str, session_id: str) -> bool:
        return await self._writer.call(sessions.remove, tenant, session_id)

    async def find_sessions(self, query: SessionQuery) -> list[Session]:
        return await self._reader.read(sessions.find, query)

    async def append_message(
        self, tenant: str, session_id: str, said: Said, *, most: int = 0
    ) -> tuple[Session, SessionMessage] | None:
        return await self._writer.call(sessions.append, tenant, session_id, said, most)

    async def messages(self, tenant: str, session_id: str) -> list[SessionMessage]:
        return await self._reader.read(sessions.messages, tenant, session_id)


class SqlWorkflows(SqlSessions):
    """The part of a store that keeps workflow runs, and lets them be followed."""

    lease: Lease
    _bells: Bells

    async def put_plan(self, plan: SavedPlan) -> None:
        await self._writer.call(workflows.put_plan, plan)

    async def get_plan(self, tenant: str, plan_hash: str) -> SavedPlan | None:
        return await self._reader.read(workflows.get_plan, tenant, plan_hash)

    async def start_workflow(self, start: Start, *, most: int = 0) -> WorkflowRun:
        check_numbers(start.events)
        return await self._writer.call(workflows.start, self.lease.owner, start, most)

    async def get_workflow(self, tenant: str, run_id: str) -> WorkflowRun | None:
        return await self._reader.read(workflows.get, tenant, run_id)

    async def workflow_state(self, tenant: str, run_id: str) -> bytes | None:
        return await self._reader.read(workflows.state, tenant, run_id)

    async def advance(self, change: Advance) -> WorkflowRun | None:
        check_numbers(change.events, change.run.last_seq)
        if change.run.owner != self.lease.owner:  # lost: the writer would look at the lease of now
            return None
        stored = await self._writer.call(workflows.advance, change)
        if stored is not None:
            self._bells.ring(stored.run_id, change.events)
        return stored

    async def cancel_workflow(self, tenant: str, run_id: str) -> WorkflowRun | None:
        return await self._writer.call(workflows.cancel, tenant, run_id)

    async def open_workflows(self) -> list[WorkflowRun]:
        return await self._reader.read(workflows.unfinished)

    async def claim_workflows(self, *, limit: int) -> list[WorkflowRun]:
        return await self._writer.call(workflow_claims.claim, self.lease.owner, limit)

    async def release_workflow(self, run: WorkflowRun) -> None:
        await self._writer.call(workflow_claims.release, run)

    async def standing_workflows(self) -> list[Standing]:
        return await self._reader.read(workflow_claims.standing, self.lease.owner)

    async def take_results(self, tenant: str, run_id: str, results: Sequence[TakenResult]) -> bool:
        return await self._writer.call(workflows.take, tenant, run_id, results)

    async def taken_results(self, tenant: str, run_id: str) -> list[TakenResult]:
        return await self._reader.read(workflows.taken, tenant, run_id)

    async def node_outputs(self, tenant: str, run_id: str) -> dict[str, bytes]:
        return await self._reader.read(workflows.node_outputs, tenant, run_id)

    async def read_events(self, query: EventQuery) -> EventPage:
        return await self._reader.read(workflows.page, query)

    def follow_events(self, query: EventQuery, *, idle: float = 15.0) -> AsyncGenerator[list[WorkflowEvent]]:
        return self._bells.follow(query, self.read_events, idle)

    def leave_events(self) -> None:
        self._bells.close()

    async def sweep_workflows(self, *, before: float, keep: int) -> bool:
        return await self._writer.call(workflows.sweep, before, keep) > 0

"""The logs of workflow runs, for whoever reads them: any run, finished or not, from any position."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from proxy.errors import NotFound
from proxy.store.workflow import EventQuery, WorkflowStore
from proxy.workflow_model import WorkflowEvent, WorkflowRun

__all__ = ["EventQuery", "Journal"]


class Journal:
    """All logs of all tenants."""

    def __init__(self, store: WorkflowStore) -> None:
        self._store = store

    async def run(self, tenant: str, run_id: str) -> WorkflowRun:
        """The record of a run. Raises `NotFound`."""
        run = await self._store.get_workflow(tenant, run_id)
        if run is None:
            raise NotFound(f"There is no workflow run {run_id}.", param="run_id")
        return run

    async def outputs(self, run: WorkflowRun) -> dict[str, bytes]:
        """JSON of the values of its nodes, and of its outputs."""
        return await self._store.node_outputs(run.tenant, run.run_id)

    def follow(self, query: EventQuery, *, idle: float) -> AsyncGenerator[list[WorkflowEvent]]:
        """See `WorkflowStore.follow_events`."""
        return self._store.follow_events(query, idle=idle)

    def close(self) -> None:
        """The server goes down: all followers end after what they have."""
        self._store.leave_events()

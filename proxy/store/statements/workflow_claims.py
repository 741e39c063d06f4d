"""Who conducts which workflow run, as functions of a connection. Each is called within one transaction."""

from __future__ import annotations

from sqlalchemy import Connection, func, or_, select, update

from proxy.store.signals import Topic
from proxy.store.statements.ringing import tell
from proxy.store.statements.tables import servers
from proxy.store.statements.workflow_tables import RECORD, results, workflow_of, workflows
from proxy.store.statements.workflows import OPEN, RESULT, WORKFLOW, is_workflow
from proxy.store.workflow import Standing
from proxy.workflow_model import WorkflowRun


def claim(connection: Connection, me: str, limit: int) -> list[WorkflowRun]:
    """See `WorkflowStore.claim_workflows`; processes that have let their lease run out are gone from `servers`."""
    alive = select(servers.c.server_id).where(servers.c.server_id == WORKFLOW.owner).exists()
    lost = WORKFLOW.owner.is_(None) | ((WORKFLOW.owner != me) & ~alive)
    asked = select(WORKFLOW.tenant, WORKFLOW.run_id).where(OPEN, lost).order_by(WORKFLOW.run_id).limit(limit)
    found = [is_workflow(row.tenant, row.run_id) for row in connection.execute(asked.with_for_update(skip_locked=True))]
    if not found:
        return []
    changed = connection.execute(update(workflows).where(or_(*found)).values(owner=me).returning(*RECORD))
    return sorted(map(workflow_of, changed), key=lambda run: run.run_id)


def release(connection: Connection, run: WorkflowRun) -> None:
    """See `WorkflowStore.release_workflow`."""
    mine = is_workflow(run.tenant, run.run_id) & OPEN & (WORKFLOW.owner == run.owner)
    if connection.execute(update(workflows).where(mine).values(owner=None)).rowcount:
        tell(connection, Topic.WANTED)


def standing(connection: Connection, me: str) -> list[Standing]:
    """See `WorkflowStore.standing_workflows`."""
    taken = select(func.count()).select_from(results).where(RESULT.run_id == WORKFLOW.run_id).scalar_subquery()
    asked = select(WORKFLOW.tenant, WORKFLOW.run_id, WORKFLOW.cancel, taken.label("results"))
    rows = connection.execute(asked.where(OPEN, WORKFLOW.owner == me))
    return [Standing(tenant=row.tenant, run_id=row.run_id, cancel=row.cancel, results=row.results) for row in rows]

"""The tables of workflow runs and sessions, and how their records become rows and rows records.

As in `proxy.store.statements.tables`, texts that are JSON are kept as bytes, and NULL stands for the default value.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw
from sqlalchemy import Boolean, Column, Double, Index, Integer, LargeBinary, Row, Table, Text

from proxy.events import NULL
from proxy.store.statements.tables import encode, metadata
from proxy.workflow_model import OPEN, Session, SessionMessage, WorkflowEvent, WorkflowRun, WorkflowStatus

plans = Table(
    "workflow_plans",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("plan_hash", Text, primary_key=True),
    Column("used_at", Double, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
Index("workflow_plans_by_age", plans.c.used_at)

workflows = Table(
    "workflows",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("plan_hash", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("session_id", Text),
    Column("stream", Boolean, nullable=False),
    Column("input", LargeBinary, nullable=False),
    Column("overrides", LargeBinary, nullable=False),
    Column("summary", LargeBinary),
    Column("last_seq", Integer, nullable=False),
    Column("cancel", Boolean, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("owner", Text),
)
Index("workflows_by_age", workflows.c.status, workflows.c.updated_at)
Index("workflows_by_plan", workflows.c.tenant, workflows.c.plan_hash)
RECORD = [column for column in workflows.c if column is not workflows.c.state]

events = Table(
    "workflow_events",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

contents = Table(
    "workflow_contents",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

outputs = Table(
    "workflow_outputs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("node_id", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

results = Table(
    "workflow_results",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("node_id", Text, primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("call_id", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

keys = Table(
    "workflow_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("workflow_keys_by_age", keys.c.created_at)

sessions = Table(
    "sessions",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("session_id", Text, primary_key=True),
    Column("customer_id", Text),
    Column("metadata", LargeBinary),
    Column("message_count", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

messages = Table(
    "session_messages",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("session_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("message_id", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("run_id", Text),
    Column("created_at", Double, nullable=False),
)

OPEN_WORDS = sorted(OPEN)
ENDED_WORDS = sorted(set(WorkflowStatus) - OPEN)


def workflow_values(run: WorkflowRun) -> dict[str, Any]:
    """The values of `workflows`, by the names of its columns, but for the state."""
    return {
        "tenant": run.tenant,
        "run_id": run.run_id,
        "plan_hash": run.plan_hash,
        "created_at": run.created_at,
        "session_id": run.session_id,
        "stream": run.stream,
        "input": bytes(run.input),
        "overrides": bytes(run.overrides),
        "cancel": run.cancel,
        "owner": run.owner,
        **changing_values(run),
    }


def changing_values(run: WorkflowRun) -> dict[str, Any]:
    """What of `workflows` changes as a run goes on."""
    return {
        "status": str(run.status),
        "updated_at": run.updated_at,
        "summary": None if run.summary == NULL else bytes(run.summary),
        "last_seq": run.last_seq,
    }


def workflow_of(row: Row[Any]) -> WorkflowRun:
    return WorkflowRun(
        tenant=row.tenant,
        run_id=row.run_id,
        plan_hash=row.plan_hash,
        status=WorkflowStatus(row.status),
        created_at=row.created_at,
        updated_at=row.updated_at,
        session_id=row.session_id,
        stream=row.stream,
        input=Raw(row.input),
        overrides=Raw(row.overrides),
        summary=NULL if row.summary is None else Raw(row.summary),
        last_seq=row.last_seq,
        cancel=row.cancel,
        owner=row.owner,
    )


def event_of(row: Row[Any]) -> WorkflowEvent:
    """The row has `content` besides the columns."""
    return WorkflowEvent(seq=row.seq, type=row.type, body=row.body, content=row.content)


def session_values(session: Session) -> dict[str, Any]:
    values = {name: getattr(session, name) for name in session.__struct_fields__}
    return {**values, "metadata": encode(session.metadata) if session.metadata else None}


def session_of(row: Row[Any]) -> Session:
    values = {name: getattr(row, name) for name in Session.__struct_fields__}
    return Session(**{**values, "metadata": {} if row.metadata is None else msgspec.json.decode(row.metadata)})


def message_of(row: Row[Any]) -> SessionMessage:
    values = {name: getattr(row, name) for name in SessionMessage.__struct_fields__}
    return SessionMessage(**{**values, "content": Raw(row.content)})

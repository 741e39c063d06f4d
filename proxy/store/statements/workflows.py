"""Reads and changes of workflow runs, as functions of a connection. Each is called within one transaction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from msgspec import Raw
from msgspec.structs import replace
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    func,
    insert,
    null,
    select,
    tuple_,
    update,
)

from proxy.errors import NotFound
from proxy.model import Idempotency
from proxy.store.admission import joined
from proxy.store.base import KEY_AGE
from proxy.store.logs.bells import size_of
from proxy.store.signals import Topic
from proxy.store.statements import locks, sessions
from proxy.store.statements.pages import within
from proxy.store.statements.ringing import tell
from proxy.store.statements.workflow_tables import (
    ENDED_WORDS,
    OPEN_WORDS,
    RECORD,
    changing_values,
    contents,
    event_of,
    events,
    keys,
    outputs,
    plans,
    results,
    workflow_of,
    workflow_values,
    workflows,
)
from proxy.store.workflow import (
    MOST_SWEPT,
    PAGE_BYTES,
    Advance,
    EventPage,
    EventQuery,
    Start,
    check_open_runs,
)
from proxy.workflow_model import SavedPlan, TakenResult, WorkflowEvent, WorkflowRun

WORKFLOW = workflows.c
PLAN = plans.c
RESULT = results.c
KEY = keys.c
OPEN = WORKFLOW.status.in_(OPEN_WORDS)
NEAR = 250
"""So close to its bound a tenant's runs are counted by one process at a time; farther from it, what others are just
storing makes no difference."""
Text = str | ColumnElement[str]


def is_workflow(tenant: Text, run_id: Text) -> ColumnElement[bool]:
    return (WORKFLOW.tenant == tenant) & (WORKFLOW.run_id == run_id)


def is_plan(tenant: str, plan_hash: str) -> ColumnElement[bool]:
    return (PLAN.tenant == tenant) & (PLAN.plan_hash == plan_hash)


def put_plan(connection: Connection, plan: SavedPlan) -> None:
    mine, now = is_plan(plan.tenant, plan.plan_hash), time.time()
    if connection.execute(update(plans).where(mine).values(used_at=now)).rowcount == 0:
        row = {"tenant": plan.tenant, "plan_hash": plan.plan_hash, "used_at": now, "body": bytes(plan.body)}
        connection.execute(insert(plans), row)


def get_plan(connection: Connection, tenant: str, plan_hash: str) -> SavedPlan | None:
    body = connection.execute(select(PLAN.body).where(is_plan(tenant, plan_hash))).scalar()
    return None if body is None else SavedPlan(tenant=tenant, plan_hash=plan_hash, body=Raw(body))


def start(connection: Connection, me: str, new: Start, most: int) -> WorkflowRun:
    """See `WorkflowStore.start_workflow`."""
    run, idempotency = replace(new.record, owner=me), new.idempotency
    used = _used(connection, run.tenant, idempotency)
    if used is None and most and (open_runs := _open(connection, run.tenant, most)) >= most:
        used = _used(connection, run.tenant, idempotency)  # another process may have made it meanwhile
        if used is None:
            check_open_runs(open_runs, most)
    if used is not None:
        return used
    if run.session_id is not None and sessions.get(connection, run.tenant, run.session_id) is None:
        raise NotFound(f"There is no session {run.session_id}.", param="session_id")
    put_plan(connection, new.plan)
    connection.execute(insert(workflows), {**workflow_values(run), "state": new.state})
    _append(connection, run.run_id, new.events)
    tell(connection, Topic.WORKFLOW, run.run_id)
    if idempotency is not None:
        key = {"key": idempotency.key, "fingerprint": idempotency.fingerprint, "run_id": run.run_id}
        connection.execute(insert(keys), {"tenant": run.tenant, "created_at": time.time(), **key})
    return run


def _open(connection: Connection, tenant: str, most: int) -> int:
    """How many open runs a tenant has; near the bound, no other process makes one until the transaction is over."""
    counted = select(func.count()).select_from(workflows).where(WORKFLOW.tenant == tenant, OPEN)
    count = connection.execute(counted).scalar() or 0
    if count < most - NEAR:
        return count
    locks.alone(connection, "workflows", tenant)
    return connection.execute(counted).scalar() or 0


def _used(connection: Connection, tenant: str, asked: Idempotency | None) -> WorkflowRun | None:
    if asked is None:
        return None
    used = connection.execute(select(keys).where(KEY.tenant == tenant, KEY.key == asked.key)).first()
    if used is None:
        return None
    return joined(get(connection, tenant, used.run_id), same=used.fingerprint == asked.fingerprint)


def get(connection: Connection, tenant: str, run_id: str) -> WorkflowRun | None:
    return _get(connection, select(*RECORD).where(is_workflow(tenant, run_id)))


def to_change(connection: Connection, tenant: str, run_id: str) -> WorkflowRun | None:
    """It stays as it is until the transaction is over, but for what that makes of it."""
    return _get(connection, select(*RECORD).where(is_workflow(tenant, run_id)).with_for_update())


def _get(connection: Connection, asked: Select[Any]) -> WorkflowRun | None:
    row = connection.execute(asked).first()
    return None if row is None else workflow_of(row)


def state(connection: Connection, tenant: str, run_id: str) -> bytes | None:
    kept: bytes | None = connection.execute(select(WORKFLOW.state).where(is_workflow(tenant, run_id))).scalar()
    return kept


def advance(connection: Connection, change: Advance) -> WorkflowRun | None:
    """See `WorkflowStore.advance`."""
    tenant, run_id = change.run.tenant, change.run.run_id
    known = to_change(connection, tenant, run_id)
    stored = None if known is None else change.over(known)
    if stored is None:
        return None
    values = changing_values(stored) | ({} if change.state is None else {"state": change.state})
    connection.execute(update(workflows).where(is_workflow(tenant, run_id)).values(values))
    _append(connection, run_id, change.events)
    if change.outputs:
        mine = (outputs.c.run_id == run_id) & outputs.c.node_id.in_(sorted(change.outputs))
        connection.execute(delete(outputs).where(mine))
        rows = [{"run_id": run_id, "node_id": name, "body": body} for name, body in change.outputs.items()]
        connection.execute(insert(outputs), rows)
    if change.says is not None and stored.session_id is not None:
        sessions.append(connection, tenant, stored.session_id, change.says)
    tell(connection, Topic.WORKFLOW, run_id)
    return stored


def _append(connection: Connection, run_id: str, new: Sequence[WorkflowEvent]) -> None:
    if not new:
        return
    rows = [{"run_id": run_id, "seq": each.seq, "type": each.type, "body": each.body} for each in new]
    connection.execute(insert(events), rows)
    if inner := [{"run_id": run_id, "seq": each.seq, "body": each.content} for each in new if each.content is not None]:
        connection.execute(insert(contents), inner)


def cancel(connection: Connection, tenant: str, run_id: str) -> WorkflowRun | None:
    mine = is_workflow(tenant, run_id) & OPEN
    if connection.execute(update(workflows).where(mine).values(cancel=True)).rowcount:
        tell(connection, Topic.WANTED, run_id)
    return get(connection, tenant, run_id)


def unfinished(connection: Connection) -> list[WorkflowRun]:
    asked = select(*RECORD).where(OPEN).order_by(WORKFLOW.run_id)
    return [workflow_of(row) for row in connection.execute(asked)]


def take(connection: Connection, tenant: str, run_id: str, new: Sequence[TakenResult]) -> bool:
    """See `WorkflowStore.take_results`."""
    run = to_change(connection, tenant, run_id)
    names = {(result.node_id, result.step, result.call_id) for result in new}
    if run is None or run.ended or len(names) < len(new):
        return False
    mine = RESULT.run_id == run_id
    calls = tuple_(RESULT.node_id, RESULT.step, RESULT.call_id)
    taken = select(func.count()).select_from(results).where(mine, calls.in_(sorted(names)))
    if connection.execute(taken).scalar():
        return False
    count = connection.execute(select(func.count()).select_from(results).where(mine)).scalar() or 0
    if rows := [_result_row(run_id, count + place, result) for place, result in enumerate(new)]:
        connection.execute(insert(results), rows)
        tell(connection, Topic.WANTED, run_id)
    return True


def _result_row(run_id: str, number: int, result: TakenResult) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "node_id": result.node_id,
        "step": result.step,
        "call_id": result.call_id,
        "number": number,
        "body": bytes(result.body),
    }


def taken(connection: Connection, tenant: str, run_id: str) -> list[TakenResult]:
    asked = select(results).join(workflows, WORKFLOW.run_id == RESULT.run_id)
    rows = connection.execute(asked.where(is_workflow(tenant, run_id)).order_by(RESULT.number))
    return [TakenResult(node_id=row.node_id, step=row.step, call_id=row.call_id, body=Raw(row.body)) for row in rows]


def node_outputs(connection: Connection, tenant: str, run_id: str) -> dict[str, bytes]:
    asked = select(outputs.c.node_id, outputs.c.body).join(workflows, WORKFLOW.run_id == outputs.c.run_id)
    return {row.node_id: row.body for row in connection.execute(asked.where(is_workflow(tenant, run_id)))}


def page(connection: Connection, query: EventQuery) -> EventPage:
    """See `WorkflowStore.read_events`."""
    run = get(connection, query.tenant, query.run_id)
    if run is None:
        return EventPage([], False)
    asked = select(events, null().label("content"))
    if query.contents:
        inner = (contents.c.run_id == events.c.run_id) & (contents.c.seq == events.c.seq)
        asked = select(events, contents.c.body.label("content")).outerjoin(contents, inner)
    asked = asked.where(events.c.run_id == query.run_id, events.c.seq > query.after)
    found: list[WorkflowEvent] = []
    size = 0
    asked = asked.order_by(events.c.seq).limit(size_of(query))
    bytes_of = func.length(events.c.body) + (func.coalesce(func.length(contents.c.body), 0) if query.contents else 0)
    with connection.execute(within(connection, asked, events.c.seq, bytes_of, PAGE_BYTES)) as rows:
        for row in rows:
            found.append(event_of(row))
            size += len(row.body) + len(row.content or b"")
            if size > PAGE_BYTES:
                break
    return EventPage(found, not run.ended)


def sweep(connection: Connection, before: float, keep: int) -> int:
    """See `WorkflowStore.sweep_workflows`; returns how many runs were deleted."""
    old = _spare(connection, before, keep)
    if old:
        statement = delete(workflows).where(is_workflow(bindparam("of"), bindparam("id")))
        connection.execute(statement, [{"of": tenant, "id": run_id} for tenant, run_id in old])
    for table in (events, contents, outputs, results):
        connection.execute(delete(table).where(table.c.run_id.in_([run_id for _, run_id in old])))
    known = select(WORKFLOW.run_id).where(is_workflow(KEY.tenant, KEY.run_id))
    connection.execute(delete(keys).where(KEY.created_at < time.time() - KEY_AGE, ~known.exists()))
    used = select(WORKFLOW.run_id).where(WORKFLOW.tenant == PLAN.tenant, WORKFLOW.plan_hash == PLAN.plan_hash)
    connection.execute(delete(plans).where(PLAN.used_at < before, ~used.exists()))
    return len(old)


def _spare(connection: Connection, before: float, keep: int) -> list[tuple[str, str]]:
    """Tenant and id of the oldest ended runs that may go, at most `MOST_SWEPT`."""
    ended = WORKFLOW.status.in_(ENDED_WORDS)
    beyond = 0
    if keep:
        beyond = (connection.execute(select(func.count()).select_from(workflows).where(ended)).scalar() or 0) - keep
    asked = select(WORKFLOW.tenant, WORKFLOW.run_id, WORKFLOW.updated_at).where(ended)
    if beyond <= 0:
        asked = asked.where(WORKFLOW.updated_at < before)
    rows = connection.execute(asked.order_by(WORKFLOW.updated_at).limit(MOST_SWEPT)).all()
    return [(row.tenant, row.run_id) for at, row in enumerate(rows) if at < beyond or row.updated_at < before]

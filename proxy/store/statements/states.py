"""Reads and changes of states, as functions of a connection. Each is called within one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, delete, func, insert, select

from proxy.model import SavedState
from proxy.store.statements.tables import runs, threads
from proxy.store.statements.tables import states as table

STATE = table.c
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(SavedState).decode


def is_thread(tenant: str, thread_id: str) -> ColumnElement[bool]:
    return (STATE.tenant == tenant) & (STATE.thread_id == thread_id)


def values(state: SavedState) -> dict[str, Any]:
    return {
        "tenant": state.tenant,
        "thread_id": state.thread_id,
        "checkpoint_id": state.checkpoint_id,
        "run_id": state.run_id,
        "body": encode(state),
    }


def put(connection: Connection, states: Sequence[SavedState]) -> None:
    if states:
        connection.execute(insert(table), [values(state) for state in states])


def get(connection: Connection, tenant: str, thread_id: str, checkpoint_id: str | None) -> SavedState | None:
    asked = _newest_first(tenant, thread_id).limit(1)
    if checkpoint_id is not None:
        asked = asked.where(STATE.checkpoint_id == checkpoint_id)
    body = connection.execute(asked).scalar()
    return None if body is None else decode(body)


def find(
    connection: Connection, thread: tuple[str, str], before: str | None, run_id: str | None, limit: int
) -> list[SavedState]:
    """See `StateStore.states`; `thread` is tenant and id."""
    asked = _newest_first(*thread).limit(limit)
    if before is not None:
        asked = asked.where(STATE.checkpoint_id < before)
    if run_id is not None:
        asked = asked.where(STATE.run_id == run_id)
    return [decode(body) for body in connection.execute(asked).scalars()]


def _newest_first(tenant: str, thread_id: str) -> Select[Any]:
    return select(STATE.body).where(is_thread(tenant, thread_id)).order_by(STATE.checkpoint_id.desc())


def cut(connection: Connection, tenant: str, thread_id: str, after: str = "") -> None:
    connection.execute(delete(table).where(is_thread(tenant, thread_id), STATE.checkpoint_id > after))


def keep_newest(connection: Connection, tenant: str, thread_id: str) -> None:
    mine = is_thread(tenant, thread_id)
    newest = select(func.max(STATE.checkpoint_id)).where(mine).scalar_subquery()
    connection.execute(delete(table).where(mine, STATE.checkpoint_id < newest))


def copy(connection: Connection, tenant: str, source: str, target: str) -> None:
    """Page by page, for the states of a long conversation are large together."""
    before: str | None = None
    while found := find(connection, (tenant, source), before, None, 100):
        put(connection, [msgspec.structs.replace(state, thread_id=target) for state in found])
        before = found[-1].checkpoint_id


def drop_left(connection: Connection, tenant: str, thread_ids: Iterable[str]) -> None:
    """Delete the states of those threads that have neither a record nor a run any more."""
    known = select(threads.c.thread_id).where(threads.c.tenant == STATE.tenant, threads.c.thread_id == STATE.thread_id)
    used = select(runs.c.run_id).where(runs.c.tenant == STATE.tenant, runs.c.thread_id == STATE.thread_id)
    left = STATE.thread_id.in_(sorted(set(thread_ids)))
    connection.execute(delete(table).where(STATE.tenant == tenant, left, ~known.exists(), ~used.exists()))

"""Reads and changes of records, as functions of a connection. Each is called within one transaction."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, null, select, text, update

from proxy.errors import Busy, NotWaiting
from proxy.events import FINAL, Entry
from proxy.model import ACTIVE, ENDED, Idempotency, Pause, Run, RunStatus
from proxy.store import segments
from proxy.store.base import KEY_AGE, MOST_PAUSES, SWEEP, RunQuery, joined
from proxy.store.livelogs import Page
from proxy.store.tables import idempotency as keys
from proxy.store.tables import pause_of, run_of, run_row
from proxy.store.tables import pauses as pauses_table
from proxy.store.tables import runs as runs_table
from proxy.store.tables import segments as segments_table

PAGE_BYTES = 4 * 1024 * 1024
"""A page of a log ends after the segment that goes over this."""
RUN = runs_table.c
RUN_NAMES = runs_table.columns.keys()


def is_run(tenant: str | ColumnElement[str], run_id: str | ColumnElement[str]) -> ColumnElement[bool]:
    return (RUN.tenant == tenant) & (RUN.run_id == run_id)


def words(statuses: frozenset[RunStatus]) -> list[str]:
    return sorted(statuses)


def get(connection: Connection, tenant: str, run_id: str) -> Run | None:
    row = connection.execute(select(runs_table).where(is_run(tenant, run_id))).first()
    return None if row is None else run_of(row)


def find(connection: Connection, query: RunQuery) -> list[Run]:
    asked = select(runs_table).where(RUN.tenant == query.tenant)
    if query.thread_id is not None:
        asked = asked.where(RUN.thread_id == query.thread_id)
    if query.group is not None:
        asked = asked.where(RUN.group_id == query.group)
    if query.statuses is not None:
        asked = asked.where(RUN.status.in_(words(query.statuses)))
    asked = asked.order_by(RUN.run_id.desc()).limit(query.limit).offset(query.offset)
    return [run_of(row) for row in connection.execute(asked)]


def unfinished(connection: Connection) -> list[tuple[Run, int]]:
    last = select(func.max(segments_table.c.last_seq)).where(segments_table.c.run_id == RUN.run_id).scalar_subquery()
    asked = select(runs_table, last.label("last")).where(RUN.status.in_(words(ACTIVE)))
    return [(run_of(row), row.last or 0) for row in connection.execute(asked)]


def page(connection: Connection, run_id: str, after: int, limit: int) -> Page:
    """Entries above `after`, at most `limit`: fewer where they are large."""
    column = segments_table.c
    asked = (
        select(column.first_seq, column.body)
        .where(column.run_id == run_id, column.last_seq > after)
        .order_by(column.first_seq)
        .limit(limit)
    )
    entries: list[Entry] = []
    trimmed, size = False, 0
    with connection.execute(asked) as rows:
        for first, body in rows:
            found = segments.decode(run_id, body)
            trimmed = trimmed or found[0].seq > max(first, after + 1)
            entries += found if found[0].seq > after else [entry for entry in found if entry.seq > after]
            size += len(body)
            if len(entries) >= limit or size > PAGE_BYTES:
                break
    return Page(entries[:limit], trimmed)


def pauses(
    connection: Connection, tenant: str, thread_id: str | None, agent: str | None, answered: bool
) -> list[Pause]:
    column = pauses_table.c
    asked = select(pauses_table).where(
        column.tenant == tenant,
        column.answered_by.is_not(None) if answered else column.answered_by.is_(None),
        column.expires_at > time.time(),
    )
    if thread_id is not None:
        asked = asked.where(column.thread_id == thread_id)
    if agent is not None:
        asked = asked.where(column.agent == agent)
    return [pause_of(row) for row in connection.execute(asked.order_by(column.run_id.desc()).limit(MOST_PAUSES))]


def insert_run(connection: Connection, run: Run, idempotency: Idempotency | None, exclusive: bool) -> Run:
    """See `RunStore.insert`."""
    if idempotency is not None:
        used = connection.execute(
            select(keys).where(keys.c.tenant == run.tenant, keys.c.key == idempotency.key)
        ).first()
        if used is not None:
            return joined(get(connection, run.tenant, used.run_id), same=used.fingerprint == idempotency.fingerprint)
    if exclusive:
        refuse_busy(connection, run)
    if run.resumes is not None:
        answer(connection, run)
    connection.execute(insert(runs_table), values(run))
    if idempotency is not None:
        key = {"tenant": run.tenant, "run_id": run.run_id, "created_at": time.time()}
        key |= {"key": idempotency.key, "fingerprint": idempotency.fingerprint}
        connection.execute(insert(keys), key)
    return run


def refuse_busy(connection: Connection, run: Run) -> None:
    other = connection.execute(
        select(RUN.run_id).where(
            RUN.tenant == run.tenant,
            RUN.thread_id == run.thread_id,
            RUN.status.in_(words(ACTIVE)),
            RUN.temporary.is_(False),
        )
    ).scalar()
    if other is not None:
        raise Busy(f"The thread is busy with run {other}.", run_id=other)


def values(run: Run) -> dict[str, Any]:
    return dict(zip(RUN_NAMES, run_row(run), strict=True))


def transition(connection: Connection, run: Run, frm: frozenset[RunStatus]) -> bool:
    changed = connection.execute(
        update(runs_table).where(is_run(run.tenant, run.run_id), RUN.status.in_(words(frm))).values(values(run))
    )
    return changed.rowcount == 1


def answer(connection: Connection, run: Run) -> None:
    """Close the pause that a run resumes."""
    column = pauses_table.c
    changed = connection.execute(
        update(pauses_table)
        .where(column.tenant == run.tenant, column.run_id == run.resumes, column.answered_by.is_(None))
        .values(answered_by=run.run_id)
    )
    if changed.rowcount == 0:
        raise NotWaiting


def strip(connection: Connection, run: Run) -> None:
    """See `RunStore.strip`."""
    column = segments_table.c
    ended = is_run(run.tenant, run.run_id) & RUN.status.in_(words(ENDED))
    if connection.execute(update(runs_table).where(ended).values(input=None)).rowcount == 0:
        return
    mine = column.run_id == run.run_id
    body = connection.execute(select(column.body).where(mine).order_by(column.first_seq.desc()).limit(1)).scalar()
    if body is None:
        return
    last = segments.decode(run.run_id, body)[-1]
    if isinstance(last.event, FINAL):
        connection.execute(delete(segments_table).where(mine))
        kept = dict(zip(column.keys(), segments.final(run.run_id, last), strict=True))
        connection.execute(insert(segments_table), kept)


def remove(connection: Connection, tenant: str, run_ids: list[str]) -> int:
    """Delete ended runs with all that belongs to them, but for their idempotency keys. Returns how many there were."""
    mine, pause = segments_table.c.run_id, pauses_table.c
    gone = connection.execute(
        delete(runs_table)
        .where(RUN.tenant == tenant, RUN.run_id.in_(run_ids), RUN.status.in_(words(ENDED)))
        .returning(RUN.run_id)
    ).scalars()
    if ids := list(gone):
        connection.execute(delete(segments_table).where(mine.in_(ids)))
        connection.execute(delete(pauses_table).where(pause.tenant == tenant, pause.run_id.in_(ids)))
    return len(ids)


def spare(connection: Connection, before: float, keep: int) -> list[Run]:
    """The oldest ended runs that may go, at most `SWEEP`, without their input."""
    ended = RUN.status.in_(words(ENDED))
    beyond = 0
    if keep:
        beyond = (connection.execute(select(func.count()).select_from(runs_table).where(ended)).scalar() or 0) - keep
    columns = [null().label("input") if column is RUN.input else column for column in RUN]
    asked = select(*columns).where(ended).order_by(RUN.updated_at).limit(SWEEP)
    if beyond <= 0:
        asked = asked.where(RUN.updated_at < before)
    rows = connection.execute(asked).all()
    return [run_of(row) for at, row in enumerate(rows) if at < beyond or row.updated_at < before]


def orphans(connection: Connection) -> list[tuple[str, str]]:
    """Idempotency keys that have outlived their runs and their time."""
    known = select(RUN.run_id).where(is_run(keys.c.tenant, keys.c.run_id)).exists()
    asked = select(keys.c.tenant, keys.c.key).where(keys.c.created_at < time.time() - KEY_AGE, ~known).limit(SWEEP)
    return [(tenant, key) for tenant, key in connection.execute(asked)]


def forget(connection: Connection, names: list[tuple[str, str]]) -> None:
    """Delete idempotency keys."""
    statement = delete(keys).where(keys.c.tenant == bindparam("of"), keys.c.key == bindparam("name"))
    connection.execute(statement, [{"of": tenant, "name": key} for tenant, key in names])


def reach(connection: Connection) -> None:
    """Read something, to learn whether that is possible."""
    connection.execute(text("SELECT version_num FROM alembic_version"))


def touch(connection: Connection) -> None:
    """Write something, to learn whether that is possible."""
    connection.execute(text("UPDATE alembic_version SET version_num = version_num"))

"""Reads and changes of records, as functions of a connection. Each is called within one transaction."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Connection, bindparam, delete, func, insert, literal, select, text, update

from proxy.events import FINAL, Entry
from proxy.model import ENDED, Pause, Run, RunStatus
from proxy.store.base import KEY_AGE, MOST_PAUSES, SWEEP, RunQuery
from proxy.store.logs import segments
from proxy.store.logs.livelogs import Page
from proxy.store.statements import states
from proxy.store.statements.pages import within
from proxy.store.statements.rows import RUN, WITHOUT_INPUT, gone, is_run, named, words
from proxy.store.statements.tables import CALLING, pause_of, run_of, run_row
from proxy.store.statements.tables import idempotency as keys
from proxy.store.statements.tables import pauses as pauses_table
from proxy.store.statements.tables import runs as runs_table
from proxy.store.statements.tables import segments as segments_table

PAGE_BYTES = 4 * 1024 * 1024
"""A page of a log ends after the segment that goes over this."""
RUN_NAMES = runs_table.columns.keys()


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
    if not query.gone:
        asked = asked.where(RUN.gone_at.is_(None))
    asked = asked.order_by(RUN.run_id.desc()).limit(query.limit).offset(query.offset)
    return [run_of(row) for row in connection.execute(asked)]


def calling(connection: Connection, me: str, limit: int) -> list[Run]:
    """See `RunStore.calling`."""
    mine = RUN.owner.is_(None) | (RUN.owner == me) | gone(me)
    asked = select(*WITHOUT_INPUT).where(CALLING, RUN.status.in_(words(ENDED)), mine).order_by(RUN.updated_at)
    rows = connection.execute(asked.limit(limit).with_for_update(skip_locked=True)).all()
    taken = [(row.tenant, row.run_id) for row in rows if row.owner != me]
    if taken:
        connection.execute(update(runs_table).where(named(taken)).values(owner=me))
    return [msgspec.structs.replace(run_of(row), owner=me) for row in rows]


def called(connection: Connection, tenant: str, run_id: str) -> bool:
    """See `RunStore.called`."""
    mine = is_run(tenant, run_id) & RUN.status.in_(words(ENDED))
    return connection.execute(update(runs_table).where(mine).values(webhook=None)).rowcount == 1


def page(connection: Connection, run_id: str, after: int, limit: int) -> Page:
    """Entries above `after`, at most `limit`: fewer where they are large."""
    column = segments_table.c
    asked = (
        select(column.first_seq, column.body)
        .where(column.run_id == run_id, column.last_seq > literal(after, BigInteger))  # cursors may be any number
        .order_by(column.first_seq)
        .limit(limit)
    )
    entries: list[Entry] = []
    trimmed, size = False, 0
    with connection.execute(within(connection, asked, column.first_seq, func.length(column.body), PAGE_BYTES)) as rows:
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


def drop_pause(connection: Connection, tenant: str, run_id: str) -> None:
    """See `RunStore.drop_pause`."""
    column = pauses_table.c
    mine = (column.tenant == tenant) & (column.run_id == run_id) & column.answered_by.is_(None)
    connection.execute(delete(pauses_table).where(mine))


def reopen_pauses(connection: Connection, run: Run) -> None:
    """Undo what `inserts.close_pauses` and `inserts.answer` did."""
    column = pauses_table.c
    mine = (column.tenant == run.tenant) & (column.answered_by == run.run_id)
    connection.execute(update(pauses_table).where(mine).values(answered_by=None))


def values(run: Run) -> dict[str, Any]:
    return dict(zip(RUN_NAMES, run_row(run), strict=True))


def transition(connection: Connection, run: Run, frm: frozenset[RunStatus]) -> bool:
    changed = connection.execute(
        update(runs_table).where(is_run(run.tenant, run.run_id), RUN.status.in_(words(frm))).values(values(run))
    )
    return changed.rowcount == 1


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
        .returning(RUN.run_id, RUN.thread_id)
    ).all()
    if ids := [run_id for run_id, _ in gone]:
        connection.execute(delete(segments_table).where(mine.in_(ids)))
        connection.execute(delete(pauses_table).where(pause.tenant == tenant, pause.run_id.in_(ids)))
        states.drop_left(connection, tenant, (thread_id for _, thread_id in gone))
    return len(ids)


def spare(connection: Connection, before: float, keep: int, gone: float) -> list[Run]:
    """The oldest ended runs that may go, at most `SWEEP`, without their input."""
    ended = RUN.status.in_(words(ENDED))
    beyond = 0
    if keep:
        beyond = (connection.execute(select(func.count()).select_from(runs_table).where(ended)).scalar() or 0) - keep
    asked = select(*WITHOUT_INPUT).where(ended).order_by(RUN.updated_at).limit(SWEEP)
    if beyond <= 0:
        asked = asked.where(RUN.updated_at < before)
    rows = connection.execute(asked).all()
    old = [run_of(row) for at, row in enumerate(rows) if at < beyond or row.updated_at < before]
    hidden = select(*WITHOUT_INPUT).where(RUN.gone_at < gone, ended).limit(SWEEP - len(old))
    return old + [run_of(row) for row in connection.execute(hidden) if row.run_id not in {run.run_id for run in old}]


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

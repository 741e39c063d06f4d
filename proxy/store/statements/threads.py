"""Reads and changes of threads, as functions of a connection. Each is called within one transaction.

A thread is busy while a run of it that is not hidden has not ended: that is looked up, never written, so no crash can
leave a thread busy. `live` are threads with such runs that are not on disk yet.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, delete, func, insert, or_, select, update

from proxy.errors import Busy, Conflict
from proxy.model import ACTIVE, Lifetime, Thread, ThreadOutcome, ThreadStatus
from proxy.store.base import ThreadQuery
from proxy.store.statements import states
from proxy.store.statements.inside import may_have
from proxy.store.statements.pages import streamed
from proxy.store.statements.rows import RUN, words
from proxy.store.statements.tables import lifetime_values, outcome_values, thread_of, thread_values
from proxy.store.statements.tables import threads as table

THREAD = table.c


def is_thread(tenant: str, thread_id: str) -> ColumnElement[bool]:
    return (THREAD.tenant == tenant) & (THREAD.thread_id == thread_id)


def busy(live: frozenset[str]) -> ColumnElement[bool]:
    active = (
        select(RUN.run_id)
        .where(
            RUN.tenant == THREAD.tenant,
            RUN.thread_id == THREAD.thread_id,
            RUN.status.in_(words(ACTIVE)),
            RUN.temporary.is_(False),
        )
        .exists()
    )
    return or_(THREAD.thread_id.in_(live), active) if live else active


def whole(live: frozenset[str]) -> Select[Any]:
    return select(table, busy(live).label("busy"))


def get(connection: Connection, tenant: str, thread_id: str, live: frozenset[str]) -> Thread | None:
    row = connection.execute(whole(live).where(is_thread(tenant, thread_id))).first()
    return None if row is None else thread_of(row)


def put(connection: Connection, thread: Thread, live: frozenset[str], refuse: bool) -> Thread:
    """See `ThreadStore.insert_thread`."""
    known = get(connection, thread.tenant, thread.thread_id, live)
    if known is not None and refuse:
        raise Conflict(f"There is a thread {thread.thread_id} already.")
    if known is None:
        connection.execute(insert(table), thread_values(thread))
        known = get(connection, thread.tenant, thread.thread_id, live)
    return known or thread


def metadata_to_change(connection: Connection, thread: tuple[str, str]) -> dict[str, Any] | None:
    """The metadata, which stays as it is until the transaction is over, but for what that makes of it."""
    asked = select(THREAD.metadata).where(is_thread(*thread)).with_for_update()
    known: dict[str, Any] | None = connection.execute(asked).scalar()
    return known


def ensure(connection: Connection, thread: Thread) -> None:
    """Store a thread that is not there; one that is gets the metadata that its newest run brings."""
    mine = is_thread(thread.tenant, thread.thread_id)
    known = metadata_to_change(connection, (thread.tenant, thread.thread_id))
    if known is None:
        connection.execute(insert(table), thread_values(thread))
    elif any(known.get(key) != value for key, value in thread.metadata.items()):
        connection.execute(update(table).where(mine).values(metadata={**known, **thread.metadata}))


def patch(connection: Connection, thread: tuple[str, str], metadata: dict[str, Any], lifetime: Lifetime | None) -> bool:
    """See `ThreadStore.patch_thread`; `thread` is tenant and id."""
    mine = is_thread(*thread)
    known = metadata_to_change(connection, thread)
    if known is None:
        return False
    values: dict[str, Any] = {"metadata": {**known, **metadata}, "updated_at": time.time()}
    if lifetime is not None:
        values |= lifetime_values(lifetime)
    connection.execute(update(table).where(mine).values(values))
    return True


def leave(connection: Connection, tenant: str, thread_id: str, outcome: ThreadOutcome) -> bool:
    """See `ThreadStore.leave_thread`."""
    now = time.time()
    values = {**outcome_values(outcome), "updated_at": now, "state_updated_at": now}
    return connection.execute(update(table).where(is_thread(tenant, thread_id)).values(values)).rowcount == 1


def remove(connection: Connection, tenant: str, thread_id: str) -> tuple[bool, list[str]]:
    """Delete the record of a thread that is not busy. Returns whether there was one, and the ids of its runs."""
    mine = (RUN.tenant == tenant) & (RUN.thread_id == thread_id)
    active = select(RUN.run_id).where(mine, RUN.status.in_(words(ACTIVE))).limit(1)
    if (run_id := connection.execute(active).scalar()) is not None:
        raise Busy(f"The thread is busy with run {run_id}.", run_id=run_id)
    gone = connection.execute(delete(table).where(is_thread(tenant, thread_id))).rowcount == 1
    states.cut(connection, tenant, thread_id)
    return gone, list(connection.execute(select(RUN.run_id).where(mine)).scalars())


def asked(query: ThreadQuery, live: frozenset[str]) -> Select[Any]:
    """What the database can tell of a query: all, unless the query looks inside."""
    found = whole(live).where(THREAD.tenant == query.tenant)
    if query.ids is not None:
        found = found.where(THREAD.thread_id.in_(sorted(query.ids)))
    if query.status is ThreadStatus.BUSY:
        found = found.where(busy(live))
    elif query.status is not None:
        found = found.where(THREAD.status == query.status, ~busy(live))
    for key, value in query.metadata.items():
        if isinstance(value, str):
            found = found.where(*may_have(THREAD.metadata, key, value))
    return found


def find(connection: Connection, query: ThreadQuery, live: frozenset[str]) -> list[Thread]:
    status = case((busy(live), str(ThreadStatus.BUSY)), else_=THREAD.status)
    keys: list[ColumnElement[Any]] = [status if query.sort_by == "status" else THREAD[query.sort_by], THREAD.thread_id]
    if query.sort_by == "state_updated_at":
        keys.insert(0, THREAD.state_updated_at.is_not(None))
    ordered = asked(query, live).order_by(*(key.desc() if query.descending else key.asc() for key in keys))
    if not query.looks_inside:
        return [thread_of(row) for row in connection.execute(ordered.limit(query.limit).offset(query.offset))]
    with streamed(connection, ordered) as rows:
        matching = (thread for row in rows if query.matches(thread := thread_of(row)))
        return list(islice(matching, query.offset, query.offset + query.limit))


def count(connection: Connection, query: ThreadQuery, live: frozenset[str]) -> int:
    found = asked(query, live)
    if not query.looks_inside:
        return connection.execute(select(func.count()).select_from(found.subquery())).scalar() or 0
    with streamed(connection, found) as rows:
        return sum(query.matches(thread_of(row)) for row in rows)


def expired(connection: Connection, now: float, limit: int) -> list[Thread]:
    """See `ThreadStore.expired_threads`; of runs that are not on disk yet nothing is known here."""
    over = THREAD.ttl.is_not(None) & (THREAD.updated_at + THREAD.ttl * 60 < now)
    unswept = THREAD.swept_at.is_(None) | (THREAD.swept_at < THREAD.updated_at)
    found = whole(frozenset()).where(over, unswept, ~busy(frozenset())).order_by(THREAD.updated_at).limit(limit)
    return [thread_of(row) for row in connection.execute(found)]


def mark_swept(connection: Connection, tenant: str, thread_id: str) -> None:
    """See `ThreadStore.mark_swept`."""
    mine = is_thread(tenant, thread_id)
    connection.execute(update(table).where(mine).values(swept_at=time.time()))

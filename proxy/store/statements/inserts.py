"""How a run comes into the store, as functions of a connection. Each is called within one transaction."""

from __future__ import annotations

import time
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from proxy.errors import NotWaiting
from proxy.model import ACTIVE, Idempotency, Run, RunStatus, Thread
from proxy.store.admission import CANCELLED_KEY, Others, check_room, is_taken, joined, placed
from proxy.store.signals import Topic, made
from proxy.store.statements import locks, records, threads
from proxy.store.statements.queue import mark_others
from proxy.store.statements.ringing import tell
from proxy.store.statements.rows import RUN, words
from proxy.store.statements.tables import OPEN
from proxy.store.statements.tables import idempotency as keys
from proxy.store.statements.tables import pauses as pauses_table
from proxy.store.statements.tables import runs as runs_table

NEAR = 250
"""So close to its bound an agent's runs are counted by one process at a time; farther from it, what others are just
storing makes no difference."""


class Newcomer(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be stored, and what comes with it. `unwritten` are the ids of runs that count with it and may not be in
    the store yet; `owner` has it if it is to run at once."""

    run: Run
    owner: str
    idempotency: Idempotency | None = None
    thread: Thread | None = None
    most: int = 0
    unwritten: frozenset[str] = frozenset()

    @property
    def is_plain(self) -> bool:
        """Nothing but the bound has to do with it: no thread that others use, no key, no question to answer."""
        beside = self.idempotency is not None or self.thread is not None or self.run.resumes is not None
        return self.run.temporary and not beside and not self.unwritten

    def owned(self, run: Run) -> Run:
        """The run, this one's if it is to run at once."""
        return msgspec.structs.replace(run, owner=self.owner if run.status is RunStatus.RUNNING else None)


def insert_run(connection: Connection, new: Newcomer) -> Run:
    """See `RunStore.insert`. Raises `Held` too."""
    run, idempotency = new.run, new.idempotency
    used = None if idempotency is None else use(connection, run.tenant, idempotency.key)
    if used is not None and idempotency is not None and used.run_id != CANCELLED_KEY:
        known = records.get(connection, run.tenant, used.run_id)
        return joined(known, same=used.fingerprint == idempotency.fingerprint)
    if new.most:
        check_most(connection, new)
    others: Others = ()
    if used is not None:
        run = msgspec.structs.replace(run, status=RunStatus.PENDING, cancel="interrupt")
    elif not run.temporary:
        others = beside(connection, run)
        run = placed(run, others)
    run = new.owned(run)
    if run.resumes is not None:
        answer(connection, run)
    if not run.temporary:
        close_pauses(connection, run)
    if new.thread is not None:
        threads.ensure(connection, new.thread)
    connection.execute(insert(runs_table), records.values(run))
    if idempotency is not None:
        key = {"tenant": run.tenant, "key": idempotency.key, "run_id": run.run_id, "created_at": time.time()}
        if used is not None:  # only what was cancelled beforehand is replaced: another process may just have come first
            connection.execute(delete(keys).where(keys.c.tenant == run.tenant, keys.c.key == idempotency.key))
        connection.execute(insert(keys), key | {"fingerprint": idempotency.fingerprint})
    announce(connection, run, others)
    return run


def announce(connection: Connection, run: Run, others: Others) -> None:
    """Tell of a new run whom it concerns."""
    if not run.temporary:
        tell(connection, *made(run))
        if run.choices.strategy in ("interrupt", "rollback") and run.cancel is None:
            mark_others(connection, run, "rollback" if run.choices.strategy == "rollback" else "interrupt")
    if run.status is RunStatus.PENDING and (run.not_before is not None or not is_taken(others)):
        tell(connection, Topic.QUEUE)  # or else the end of another does


def check_most(connection: Connection, new: Newcomer) -> None:
    """Raises `TooMany`, and `Held` while another process counts too."""
    count = taken(connection, new) if new.most > NEAR else new.most
    if count + NEAR > new.most:
        if not locks.try_count(connection, new.run.tenant, new.run.agent):
            raise locks.Held
        count = taken(connection, new)
    check_room(count, new.most)


def taken(connection: Connection, new: Newcomer) -> int:
    """How many runs count with the new one, as far as that matters."""
    tenant, agent, unwritten = new.run.tenant, new.run.agent, new.unwritten
    mine = OPEN & (RUN.tenant == tenant) & (RUN.agent == agent)
    written = select(func.count()).select_from(select(RUN.run_id).where(mine).limit(new.most).subquery())
    count = connection.execute(written).scalar() or 0
    if unwritten:
        meanwhile = select(func.count()).where(RUN.tenant == tenant, RUN.run_id.in_(unwritten))
        count += len(unwritten) - (connection.execute(meanwhile).scalar() or 0)
    return count


def use(connection: Connection, tenant: str, key: str) -> Row[Any] | None:
    """What an idempotency key was used for."""
    return connection.execute(select(keys).where(keys.c.tenant == tenant, keys.c.key == key)).first()


def cancel_key(connection: Connection, tenant: str, key: str) -> str | None:
    """See `RunStore.cancel_key`."""
    used = use(connection, tenant, key)
    if used is None:
        row = {"tenant": tenant, "key": key, "run_id": CANCELLED_KEY, "fingerprint": "", "created_at": time.time()}
        connection.execute(insert(keys), row)
    return None if used is None or used.run_id == CANCELLED_KEY else str(used.run_id)


def beside(connection: Connection, run: Run) -> Others:
    """The other runs of its thread. Raises `Held` while somebody has the thread."""
    if not locks.try_thread(connection, run.tenant, run.thread_id, first=run.choices.strategy == "reject"):
        raise locks.Held
    found = connection.execute(
        select(RUN.run_id, RUN.status, RUN.not_before).where(
            RUN.tenant == run.tenant,
            RUN.thread_id == run.thread_id,
            RUN.status.in_(words(ACTIVE)),
            RUN.temporary.is_(False),
        )
    ).all()
    # sorted by the database, it would be another and slower search
    return sorted(((RunStatus(row.status), row.not_before, row.run_id) for row in found), key=itemgetter(2))


def close_pauses(connection: Connection, run: Run) -> None:
    """What the thread asked is answered by a run of it, or over with it."""
    column = pauses_table.c
    connection.execute(
        update(pauses_table)
        .where(column.tenant == run.tenant, column.thread_id == run.thread_id, column.answered_by.is_(None))
        .values(answered_by=run.run_id)
    )


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

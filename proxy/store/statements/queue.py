"""The queue that the table of runs is: who may start, as functions of a connection, each within one transaction.

A run waits while it is pending and nobody's. One that is only to be ended is pending still, but somebody's: its thread
may have another under way, and has one at most.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, groupby

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, func, literal, or_, select, tuple_, union_all, update

from proxy.model import Action, Run, RunStatus
from proxy.store.claims import Lost
from proxy.store.fair import Name, fairly
from proxy.store.signals import Topic
from proxy.store.statements import locks
from proxy.store.statements.clock import now
from proxy.store.statements.ringing import tell
from proxy.store.statements.rows import RUN, WITHOUT_INPUT, gone, is_run, named
from proxy.store.statements.tables import (
    AT_ONCE,
    DELAYED,
    DOOMED,
    OPEN,
    OWNED,
    PENDING,
    QUEUED,
    UNDER_WAY,
    WAITING,
    run_of,
    runs,
    segments,
)

Key = tuple[str, str]
"""Tenant and thread."""
ROUNDS = 4
"""How often runs are chosen again, where other processes took the first choice."""
FREE = WAITING & RUN.owner.is_(None)


class Asked(msgspec.Struct, frozen=True):
    """What a process wants to run: agents, at most so many runs, none of these threads."""

    agents: Collection[str]
    limit: int
    blocked: Collection[Key] = ()


def name(run: Run) -> Name:
    return run.tenant, run.run_id


def due(at: ColumnElement[float | None] = RUN.not_before) -> ColumnElement[bool]:
    return or_(at.is_(None), at <= now())


def has_its_thread() -> ColumnElement[bool]:
    """No run of its thread is under way, and none that is older waits and is due; hidden threads have but one."""
    other = runs.alias("other").c
    same = (other.tenant == RUN.tenant) & (other.thread_id == RUN.thread_id) & other.temporary.is_(False)
    under_way = select(other.run_id).where(same, other.status == "running").correlate(runs).exists()
    older = same & (other.status == PENDING) & (other.run_id < RUN.run_id) & due(other.not_before)
    first = ~select(other.run_id).where(older).correlate(runs).exists()
    return RUN.temporary | (~under_way & first)


MAY_START = RUN.owner.is_(None) & RUN.cancel.is_(None) & has_its_thread()


def ready(asked: Asked, tried: Collection[Name]) -> list[ColumnElement[bool]]:
    """What a run must be to start now, as far as it is known before it is locked."""
    conditions: list[ColumnElement[bool]] = [MAY_START]
    if asked.blocked:
        conditions.append(tuple_(RUN.tenant, RUN.thread_id).not_in(list(asked.blocked)))
    if tried:
        conditions.append(~named(tried))
    return conditions


def claim(connection: Connection, me: str, asked: Asked) -> list[Run]:
    """See `ClaimStore.claim`."""
    got = end(connection, me, DOOMED, asked.limit)
    tried: set[Name] = set()
    for _ in range(ROUNDS):
        chosen = choose(connection, asked, asked.limit - len(got), tried) if asked.agents else []
        if not chosen:
            break
        got += start(connection, me, chosen)
        tried.update(chosen)
    return got


def choose(connection: Connection, asked: Asked, limit: int, tried: Collection[Name]) -> list[Name]:
    """At most `limit` runs that may start now, the one that is to start first in front."""
    if limit <= 0:
        return []
    fit = ready(asked, tried)
    queues = [*at_once(connection, asked.agents, fit, limit), *delayed(connection, asked.agents, fit, limit)]
    busy: dict[str, int] = {}
    if len({tenant for tenant, _ in queues}) > 1:
        counted = select(RUN.tenant, func.count().label("runs")).where(OWNED, UNDER_WAY).group_by(RUN.tenant)
        busy = {row.tenant: row.runs for row in connection.execute(counted)}
    return fairly(queues, busy, limit)


def at_once(
    connection: Connection, agents: Collection[str], fit: list[ColumnElement[bool]], limit: int
) -> list[tuple[str, Iterator[str]]]:
    """A queue for each agent and tenant that have runs which need not wait for a time."""
    pair = pairs(agents).cte("pair", recursive=False)
    mine = (RUN.agent == pair.c.agent) & (RUN.tenant == pair.c.tenant)
    head = select(RUN.run_id).where(AT_ONCE, mine, *fit).order_by(RUN.run_id).limit(1).correlate(pair).scalar_subquery()
    found = connection.execute(select(pair.c.agent, pair.c.tenant, head.label("head"))).all()

    def rest(agent: str, tenant: str, last: str) -> Iterator[str]:
        mine = (RUN.agent == agent) & (RUN.tenant == tenant) & (RUN.run_id > last)
        asked = select(RUN.run_id).where(AT_ONCE, mine, *fit).order_by(RUN.run_id).limit(limit)
        yield from connection.execute(asked).scalars().all()

    return [
        (row.tenant, chain([row.head], rest(row.agent, row.tenant, row.head))) for row in found if row.head is not None
    ]


def pairs(agents: Collection[str]) -> Select[tuple[str, str]]:
    """The agents and tenants that have runs which need not wait for a time, one step in the index for each."""
    wanted = union_all(*[select(literal(agent).label("agent")) for agent in sorted(agents)]).cte("wanted")
    first = select(func.min(RUN.tenant)).where(AT_ONCE, RUN.agent == wanted.c.agent).correlate(wanted)
    found = select(wanted.c.agent, first.scalar_subquery().label("tenant")).cte("found", recursive=True)
    beyond = (RUN.agent == found.c.agent) & (RUN.tenant > found.c.tenant)
    following = select(func.min(RUN.tenant)).where(AT_ONCE, beyond).correlate(found).scalar_subquery()
    found = found.union_all(select(found.c.agent, following).where(found.c.tenant.is_not(None)))
    return select(found.c.agent, found.c.tenant).where(found.c.tenant.is_not(None))


def delayed(
    connection: Connection, agents: Collection[str], fit: list[ColumnElement[bool]], limit: int
) -> list[tuple[str, Iterator[str]]]:
    """A queue for each tenant that has runs whose time has come."""
    place = func.row_number().over(partition_by=RUN.tenant, order_by=RUN.run_id).label("place")
    mine = RUN.agent.in_(sorted(agents)) & (RUN.not_before <= now())
    placed = select(RUN.tenant, RUN.run_id, place).where(DELAYED, mine, *fit).subquery()
    asked = select(placed.c.tenant, placed.c.run_id).where(placed.c.place <= limit).order_by(placed.c.tenant, "place")
    found = connection.execute(asked).all()
    return [
        (tenant, iter([row.run_id for row in rows])) for tenant, rows in groupby(found, key=lambda row: str(row.tenant))
    ]


def start(connection: Connection, me: str, chosen: Sequence[Name]) -> list[Run]:
    """Those of them that nobody else has taken meanwhile, under way now, in the order given."""
    known = RUN.tenant, RUN.run_id, RUN.thread_id, RUN.temporary, RUN.status, RUN.owner
    rows = connection.execute(select(*known).where(named(chosen)).with_for_update(skip_locked=True)).all()
    waiting = [row for row in rows if (row.status, row.owner) == ("pending", None)]
    had = locks.try_threads(connection, {(row.tenant, row.thread_id) for row in waiting if not row.temporary})
    free = [(row.tenant, row.run_id) for row in waiting if row.temporary or (row.tenant, row.thread_id) in had]
    if not free:
        return []
    begun = {"status": "running", "owner": me, "updated_at": time.time()}
    changed = connection.execute(update(runs).where(named(free)).values(begun).returning(*runs.c)).all()
    started = {name(run): run for run in map(run_of, changed)}
    return [started[run] for run in chosen if run in started]


def end(connection: Connection, me: str, which: ColumnElement[bool], limit: int) -> list[Run]:
    """Waiting runs, now this process's to end, the oldest first."""
    asked = select(RUN.tenant, RUN.run_id).where(FREE, which).order_by(RUN.run_id).limit(limit)
    found = [(row.tenant, row.run_id) for row in connection.execute(asked.with_for_update(skip_locked=True))]
    if not found:
        return []
    changed = connection.execute(update(runs).where(named(found)).values(owner=me).returning(*runs.c)).all()
    taken = (msgspec.structs.replace(run_of(row), status=RunStatus.RUNNING) for row in changed)
    return sorted(taken, key=lambda run: run.run_id)


def take(connection: Connection, me: str, tenant: str, run_id: str) -> Run | None:
    """See `ClaimStore.take`."""
    return next(iter(end(connection, me, is_run(tenant, run_id), 1)), None)


def take_stranded(connection: Connection, me: str, agents: Collection[str], before: float, limit: int) -> list[Run]:
    """See `ClaimStore.take_stranded`."""
    return end(connection, me, RUN.agent.not_in(sorted(agents)) & (RUN.created_at < before) & due(), limit)


def take_lost(connection: Connection, me: str, limit: int, strays: Collection[Name] = ()) -> list[Lost]:
    """See `ClaimStore.take_lost`; processes that have let their lease run out are gone from `servers` already."""
    theirs = gone(me) | ((RUN.owner == me) & named(strays)) if strays else gone(me)
    left = update(runs).where(OWNED, theirs, WAITING).values(owner=None)
    if connection.execute(left).rowcount:
        tell(connection, Topic.QUEUE)
    asked = select(RUN.tenant, RUN.run_id).where(OWNED, theirs, UNDER_WAY).order_by(RUN.run_id).limit(limit)
    found = [(row.tenant, row.run_id) for row in connection.execute(asked.with_for_update(skip_locked=True))]
    if not found:
        return []
    mine = {"owner": me, "attempt": RUN.attempt + 1, "losses": RUN.losses + 1}
    connection.execute(update(runs).where(named(found)).values(mine))
    last = select(func.max(segments.c.last_seq)).where(segments.c.run_id == RUN.run_id).scalar_subquery()
    lost = select(runs).add_columns(func.coalesce(last, 0).label("last")).where(named(found)).order_by(RUN.run_id)
    return [Lost(run=run_of(row), last=row.last) for row in connection.execute(lost)]


def strays(connection: Connection, me: str, begun: Collection[str]) -> list[Run]:
    """See `ClaimStore.strays`; `begun` are the ids of those that have a log."""
    mine = connection.execute(select(RUN.tenant, RUN.run_id).where(OWNED, RUN.owner == me))
    found = [(row.tenant, row.run_id) for row in mine if row.run_id not in begun]
    if not found:
        return []
    still = select(*WITHOUT_INPUT).where(named(found), OWNED, RUN.owner == me)
    return [run_of(row) for row in connection.execute(still)]


def release(connection: Connection, me: str, run: Run) -> bool:
    """See `ClaimStore.release`."""
    mine = is_run(run.tenant, run.run_id) & OPEN & (RUN.owner == me)
    waits = update(runs).where(mine).values(status="pending", owner=None, attempt=run.attempt)
    if not connection.execute(waits).rowcount:
        return False
    tell(connection, Topic.QUEUE)
    return True


def ask_cancel(connection: Connection, tenant: str, run_id: str, action: Action) -> Run | None:
    """See `ClaimStore.ask_cancel`."""
    mine = is_run(tenant, run_id) & OPEN
    marked = {"cancel": func.coalesce(RUN.cancel, action)}
    row = connection.execute(update(runs).where(mine).values(marked).returning(*runs.c)).first()
    if row is None:
        row = connection.execute(select(runs).where(is_run(tenant, run_id))).first()
    else:
        tell_cancelled(connection, [(run_id, row.status)])
    return None if row is None else run_of(row)


def tell_cancelled(connection: Connection, marked: Iterable[tuple[str, str]]) -> None:
    """Runs, by id and status, are to be cancelled: those that wait by whoever comes first."""
    for run_id, status in marked:
        tell(connection, Topic.CANCEL, run_id)
        if status == RunStatus.PENDING:
            tell(connection, Topic.QUEUE)


def is_followed(connection: Connection, ended: Iterable[Run]) -> bool:
    """Whether a run waits on a thread of these, which have ended, or perhaps on one of the same name elsewhere."""
    threads = {(run.tenant, run.thread_id) for run in ended if not run.temporary}
    if not threads:
        return False
    behind = RUN.thread_id.in_({thread_id for _, thread_id in threads}) & RUN.tenant.in_({one for one, _ in threads})
    return connection.execute(select(RUN.run_id).where(QUEUED, behind).limit(1)).first() is not None


def to_cancel(connection: Connection, me: str) -> list[Run]:
    """See `ClaimStore.to_cancel`."""
    mine = OWNED & UNDER_WAY & (RUN.owner == me) & RUN.cancel.is_not(None)
    return [run_of(row) for row in connection.execute(select(*WITHOUT_INPUT).where(mine))]


def due_at(connection: Connection, agents: Collection[str]) -> float | None:
    """See `ClaimStore.due_at`."""
    coming = DELAYED & RUN.agent.in_(sorted(agents)) & (RUN.not_before > now())
    at: float | None = connection.execute(select(func.min(RUN.not_before)).where(coming)).scalar()
    return at


def waiting(connection: Connection) -> dict[tuple[str, str], int]:
    """See `ClaimStore.waiting`."""
    asked = select(RUN.tenant, RUN.agent, func.count()).where(FREE).group_by(RUN.tenant, RUN.agent)
    return {(tenant, agent): count for tenant, agent, count in connection.execute(asked)}


def mark_others(connection: Connection, run: Run, action: Action) -> None:
    """All others of its thread are to be cancelled; who has been told so already stays as told."""
    others = (RUN.tenant == run.tenant) & (RUN.thread_id == run.thread_id) & (RUN.run_id != run.run_id)
    mine = others & RUN.status.in_(["pending", "running"]) & RUN.temporary.is_(False) & RUN.cancel.is_(None)
    marked = connection.execute(update(runs).where(mine).values(cancel=action).returning(RUN.run_id, RUN.status))
    tell_cancelled(connection, [(run_id, status) for run_id, status in marked.all()])

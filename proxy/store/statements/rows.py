"""Which rows of `runs` a statement is about."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, null, select, tuple_

from proxy.model import RunStatus
from proxy.store.statements.tables import runs, servers

RUN = runs.c
WITHOUT_INPUT = [null().label("input") if column is RUN.input else column for column in RUN]


def is_run(tenant: str | ColumnElement[str], run_id: str | ColumnElement[str]) -> ColumnElement[bool]:
    return (RUN.tenant == tenant) & (RUN.run_id == run_id)


def words(statuses: frozenset[RunStatus]) -> list[str]:
    return sorted(statuses)


def named(names: Iterable[tuple[str, str]]) -> ColumnElement[bool]:
    """It is one of these, by tenant and id. Said twice: SQLite finds only the first in an index."""
    pairs = list(names)
    each = RUN.tenant.in_({tenant for tenant, _ in pairs}) & RUN.run_id.in_([run_id for _, run_id in pairs])
    return each & tuple_(RUN.tenant, RUN.run_id).in_(pairs)


def gone(me: str) -> ColumnElement[bool]:
    """Its owner has no row in `servers` any more. In a store of one process, that is any owner but this."""
    alive = select(servers.c.server_id).where(servers.c.server_id == RUN.owner).exists()
    return (RUN.owner != me) & ~alive

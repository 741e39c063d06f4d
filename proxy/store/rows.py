"""Which rows of `runs` a statement is about."""

from __future__ import annotations

from sqlalchemy import ColumnElement

from proxy.model import RunStatus
from proxy.store.tables import runs

RUN = runs.c


def is_run(tenant: str | ColumnElement[str], run_id: str | ColumnElement[str]) -> ColumnElement[bool]:
    return (RUN.tenant == tenant) & (RUN.run_id == run_id)


def words(statuses: frozenset[RunStatus]) -> list[str]:
    return sorted(statuses)

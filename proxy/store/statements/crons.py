"""Reads and changes of crons, as functions of a connection. Each is called within one transaction.

The record stands in `body`; the other columns are what it is looked up by.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from proxy.model import Cron
from proxy.store.native import CronQuery
from proxy.store.signals import Topic
from proxy.store.statements.ringing import tell
from proxy.store.statements.tables import crons as table
from proxy.store.statements.tables import encode

CRON = table.c
DUE = CRON.enabled.is_(True) & CRON.next_at.is_not(None)
decode = msgspec.json.Decoder(Cron).decode


def is_cron(tenant: str, cron_id: str) -> ColumnElement[bool]:
    return (CRON.tenant == tenant) & (CRON.cron_id == cron_id)


def row_of(cron: Cron) -> dict[str, Any]:
    return {
        "tenant": cron.tenant,
        "cron_id": cron.cron_id,
        "assistant_id": cron.assistant_id,
        "thread_id": cron.thread_id,
        "enabled": cron.enabled,
        "next_at": cron.next_at,
        "created_at": cron.created_at,
        "updated_at": cron.updated_at,
        "metadata": cron.metadata,
        "body": encode(cron),
    }


def put(connection: Connection, cron: Cron) -> None:
    connection.execute(insert(table), row_of(cron))
    changed(connection, 1)


def get(connection: Connection, tenant: str, cron_id: str) -> Cron | None:
    body = connection.execute(select(CRON.body).where(is_cron(tenant, cron_id))).scalar()
    return None if body is None else decode(body)


def replace(connection: Connection, cron: Cron, was: Cron) -> bool:
    """See `CronStore.replace_cron`: equal records are equal bytes."""
    same = is_cron(was.tenant, was.cron_id) & (CRON.body == encode(was))
    return changed(connection, connection.execute(update(table).where(same).values(row_of(cron))).rowcount)


def remove(connection: Connection, tenant: str, cron_id: str) -> bool:
    return changed(connection, connection.execute(delete(table).where(is_cron(tenant, cron_id))).rowcount)


def changed(connection: Connection, count: int) -> bool:
    """Tell of crons that have changed, if there are any."""
    if count:
        tell(connection, Topic.CRONS)
    return count > 0


def matching(connection: Connection, query: CronQuery) -> list[Cron]:
    asked = select(CRON.body).where(CRON.tenant == query.tenant)
    if query.assistant_ids is not None:
        asked = asked.where(CRON.assistant_id.in_(sorted(query.assistant_ids)))
    if query.thread_id is not None:
        asked = asked.where(CRON.thread_id == query.thread_id)
    if query.enabled is not None:
        asked = asked.where(CRON.enabled.is_(query.enabled))
    found = (decode(body) for body in connection.execute(asked).scalars())
    return [cron for cron in found if query.matches(cron)]


def find(connection: Connection, query: CronQuery) -> list[Cron]:
    found = matching(connection, query)
    query.sort(found)
    return found[query.offset : query.offset + query.limit]


def count(connection: Connection, query: CronQuery) -> int:
    return len(matching(connection, query))


def due(connection: Connection, before: float, limit: int) -> list[Cron]:
    asked = select(CRON.body).where(DUE, CRON.next_at <= before).order_by(CRON.next_at).limit(limit)
    return [decode(body) for body in connection.execute(asked).scalars()]


def following(connection: Connection) -> float | None:
    at: float | None = connection.execute(select(func.min(CRON.next_at)).where(DUE)).scalar()
    return at

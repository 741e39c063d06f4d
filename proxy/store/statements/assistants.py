"""Reads and changes of assistants, as functions of a connection. Each is called within one transaction."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, Table, delete, func, insert, select, update

from proxy.model import Assistant
from proxy.store.native import AssistantQuery, Revision
from proxy.store.statements.inside import may_have
from proxy.store.statements.pages import streamed
from proxy.store.statements.tables import assistants as table
from proxy.store.statements.tables import encode, versions

ASSISTANT = table.c
VERSION = versions.c
decode = msgspec.json.Decoder(Assistant).decode


def is_assistant(tenant: str, assistant_id: str) -> ColumnElement[bool]:
    return (ASSISTANT.tenant == tenant) & (ASSISTANT.assistant_id == assistant_id)


def values(assistant: Assistant) -> dict[str, Any]:
    """The values of `assistants`, by the names of its columns."""
    return {
        "tenant": assistant.tenant,
        "assistant_id": assistant.assistant_id,
        "agent": assistant.agent,
        "name": assistant.name,
        "version": assistant.version,
        "created_at": assistant.created_at,
        "updated_at": assistant.updated_at,
        "metadata": assistant.metadata,
        "body": encode(assistant),
    }


def keep(connection: Connection, assistant: Assistant) -> None:
    """Store a version beside the others."""
    row = {"tenant": assistant.tenant, "assistant_id": assistant.assistant_id, "version": assistant.version}
    connection.execute(insert(versions), {**row, "body": encode(assistant)})


def put(connection: Connection, assistant: Assistant) -> Assistant | None:
    """See `AssistantStore.insert_assistant`."""
    if get(connection, assistant.tenant, assistant.assistant_id) is not None:
        return None
    first = msgspec.structs.replace(assistant, version=1)
    connection.execute(insert(table), values(first))
    keep(connection, first)
    return first


def get(connection: Connection, tenant: str, assistant_id: str) -> Assistant | None:
    body = connection.execute(select(ASSISTANT.body).where(is_assistant(tenant, assistant_id))).scalar()
    return None if body is None else decode(body)


def revise(connection: Connection, tenant: str, assistant_id: str, revision: Revision) -> Assistant | None:
    """See `AssistantStore.revise_assistant`."""
    connection.execute(select(ASSISTANT.version).where(is_assistant(tenant, assistant_id)).with_for_update())
    known = get(connection, tenant, assistant_id)
    if known is None:
        return None
    mine = (VERSION.tenant == tenant) & (VERSION.assistant_id == assistant_id)
    highest: int = connection.execute(select(func.max(VERSION.version)).where(mine)).scalar_one()
    revised = revision.of(known, highest + 1)
    keep(connection, revised)
    return replace(connection, revised)


def replace(connection: Connection, assistant: Assistant) -> Assistant:
    mine = is_assistant(assistant.tenant, assistant.assistant_id)
    connection.execute(update(table).where(mine).values(values(assistant)))
    return assistant


def reset(connection: Connection, tenant: str, assistant_id: str, version: int) -> Assistant | None:
    """See `AssistantStore.set_version`."""
    mine = (VERSION.tenant == tenant) & (VERSION.assistant_id == assistant_id) & (VERSION.version == version)
    body = connection.execute(select(VERSION.body).where(mine)).scalar()
    if body is None:
        return None
    return replace(connection, msgspec.structs.replace(decode(body), updated_at=time.time()))


def history(connection: Connection, tenant: str, assistant_id: str) -> list[Assistant]:
    """See `AssistantStore.versions`."""
    mine = (VERSION.tenant == tenant) & (VERSION.assistant_id == assistant_id)
    newest_first = select(VERSION.body).where(mine).order_by(VERSION.version.desc())
    return [decode(body) for body in connection.execute(newest_first).scalars()]


def remove(connection: Connection, tenant: str, assistant_id: str) -> bool:
    """See `AssistantStore.delete_assistant`."""

    def gone(rows: Table) -> int:
        mine = (rows.c.tenant == tenant) & (rows.c.assistant_id == assistant_id)
        return connection.execute(delete(rows).where(mine)).rowcount

    had = gone(table) == 1
    gone(versions)
    return had


def asked(query: AssistantQuery) -> Select[Any]:
    """What the database can tell of a query: all, unless the query looks inside."""
    found = select(table).where(ASSISTANT.tenant == query.tenant)
    if query.ids is not None:
        found = found.where(ASSISTANT.assistant_id.in_(sorted(query.ids)))
    if query.agent is not None:
        found = found.where(ASSISTANT.agent == query.agent)
    for key, value in query.metadata.items():
        if isinstance(value, str):
            found = found.where(*may_have(ASSISTANT.metadata, key, value))
    return found


def find(connection: Connection, query: AssistantQuery) -> list[Assistant]:
    keys = (ASSISTANT[query.sort_by], ASSISTANT.assistant_id)
    ordered = asked(query).order_by(*(key.desc() if query.descending else key.asc() for key in keys))
    if not query.looks_inside:
        return [assistant_of(row) for row in connection.execute(ordered.limit(query.limit).offset(query.offset))]
    with streamed(connection, ordered) as rows:
        matching = (assistant for row in rows if query.matches(assistant := assistant_of(row)))
        return list(islice(matching, query.offset, query.offset + query.limit))


def count(connection: Connection, query: AssistantQuery) -> int:
    found = asked(query)
    if not query.looks_inside:
        return connection.execute(select(func.count()).select_from(found.subquery())).scalar() or 0
    with streamed(connection, found) as rows:
        return sum(query.matches(assistant_of(row)) for row in rows)


def assistant_of(row: Row[Any]) -> Assistant:
    return decode(row.body)

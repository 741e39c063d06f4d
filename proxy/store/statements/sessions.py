"""Reads and changes of sessions, as functions of a connection. Each is called within one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, func, insert, select, update

from proxy.store.session import SessionQuery, appended, check_sessions, cleared, patched
from proxy.store.statements import locks
from proxy.store.statements.workflow_tables import message_of, session_of, session_values
from proxy.store.statements.workflow_tables import messages as messages_table
from proxy.store.statements.workflow_tables import sessions as table
from proxy.workflow_model import Said, Session, SessionMessage

SESSION = table.c
MESSAGE = messages_table.c


def is_session(tenant: str, session_id: str) -> ColumnElement[bool]:
    return (SESSION.tenant == tenant) & (SESSION.session_id == session_id)


def put(connection: Connection, session: Session, most: int = 0) -> None:
    """See `SessionStore.insert_session`."""
    if most:
        locks.alone(connection, "sessions", session.tenant)
        mine = select(func.count()).select_from(table).where(SESSION.tenant == session.tenant)
        check_sessions(connection.execute(mine).scalar() or 0, most)
    connection.execute(insert(table), session_values(session))


def get(connection: Connection, tenant: str, session_id: str) -> Session | None:
    return _get(connection, select(table).where(is_session(tenant, session_id)))


def to_change(connection: Connection, tenant: str, session_id: str) -> Session | None:
    """It stays as it is until the transaction is over, but for what that makes of it."""
    return _get(connection, select(table).where(is_session(tenant, session_id)).with_for_update())


def _get(connection: Connection, asked: Select[Any]) -> Session | None:
    row = connection.execute(asked).first()
    return None if row is None else session_of(row)


def patch(connection: Connection, tenant: str, session_id: str, metadata: dict[str, Any], at: float) -> Session | None:
    """See `SessionStore.patch_session`."""
    known = to_change(connection, tenant, session_id)
    return None if known is None else _replace(connection, patched(known, metadata, at))


def clear(connection: Connection, tenant: str, session_id: str, at: float) -> Session | None:
    """See `SessionStore.clear_session`."""
    known = to_change(connection, tenant, session_id)
    if known is None:
        return None
    connection.execute(delete(messages_table).where(is_message(tenant, session_id)))
    return _replace(connection, cleared(known, at))


def _replace(connection: Connection, session: Session) -> Session:
    mine = is_session(session.tenant, session.session_id)
    connection.execute(update(table).where(mine).values(session_values(session)))
    return session


def is_message(tenant: str, session_id: str) -> ColumnElement[bool]:
    return (MESSAGE.tenant == tenant) & (MESSAGE.session_id == session_id)


def remove(connection: Connection, tenant: str, session_id: str) -> bool:
    gone = connection.execute(delete(table).where(is_session(tenant, session_id))).rowcount == 1
    connection.execute(delete(messages_table).where(is_message(tenant, session_id)))
    return gone


def find(connection: Connection, query: SessionQuery) -> list[Session]:
    asked = select(table).where(SESSION.tenant == query.tenant)
    if query.customer_id is not None:
        asked = asked.where(SESSION.customer_id == query.customer_id)
    asked = asked.order_by(SESSION.session_id.desc()).limit(query.limit).offset(query.offset)
    return [session_of(row) for row in connection.execute(asked)]


def append(
    connection: Connection, tenant: str, session_id: str, said: Said, most: int = 0
) -> tuple[Session, SessionMessage] | None:
    """See `SessionStore.append_message`."""
    known = to_change(connection, tenant, session_id)
    if known is None:
        return None
    session, message = appended(known, said, most)
    values = {name: getattr(message, name) for name in message.__struct_fields__}
    row = {"tenant": tenant, "session_id": session_id, **values, "content": bytes(message.content)}
    connection.execute(insert(messages_table), row)
    return _replace(connection, session), message


def messages(connection: Connection, tenant: str, session_id: str) -> list[SessionMessage]:
    asked = select(messages_table).where(is_message(tenant, session_id)).order_by(MESSAGE.seq)
    return [message_of(row) for row in connection.execute(asked)]

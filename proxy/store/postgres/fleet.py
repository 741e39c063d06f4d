"""The processes that share a store, as functions of a connection: each has a row that says how long it may own runs."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from proxy.store.claims import Server
from proxy.store.statements.clock import now
from proxy.store.statements.tables import servers

SERVER = servers.c
NAMES = [str(column.name) for column in SERVER]
convert = msgspec.convert


def until(seconds: float) -> ColumnElement[Any]:
    return now() + seconds


def join(connection: Connection, server: Server, seconds: float) -> None:
    """Be there, for so long."""
    row = {name: getattr(server, name) for name in Server.__struct_fields__}
    row |= {"agents": sorted(server.agents), "lease_until": until(seconds)}
    renewed = insert(servers).values(row)
    again = renewed.on_conflict_do_update(index_elements=[SERVER.server_id], set_={"lease_until": until(seconds)})
    connection.execute(again)


def renew(connection: Connection, owner: str, seconds: float) -> bool:
    """False if the row is gone."""
    mine = update(servers).where(SERVER.server_id == owner).values(lease_until=until(seconds))
    return connection.execute(mine).rowcount == 1


def leave(connection: Connection, owner: str) -> None:
    connection.execute(delete(servers).where(SERVER.server_id == owner))


def alive(connection: Connection) -> list[Server]:
    asked = select(servers).where(SERVER.lease_until > now()).order_by(SERVER.started_at)
    return [convert(dict(zip(NAMES, row, strict=True)), Server) for row in connection.execute(asked)]


def bury(connection: Connection) -> None:
    """Delete the rows of those whose time is over; not of one whose transaction is under way."""
    over = select(SERVER.server_id).where(SERVER.lease_until < now()).with_for_update(skip_locked=True)
    connection.execute(delete(servers).where(SERVER.server_id.in_(over.scalar_subquery())))

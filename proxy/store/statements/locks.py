"""Locks between processes that share a store, held until the end of the transaction.

A store of one process needs none: there every lock is free.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Connection, Text, func, literal, select

from proxy.errors import ProxyError


class Held(ProxyError):
    """Another process has what a change needs; it is tried again, outside of the transaction. Never shown."""


def try_thread(connection: Connection, tenant: str, thread_id: str, *, first: bool = False) -> bool:
    """Keep others from holding the thread: a run of it may be made or started. Those who do that share the lock, but
    for those whose run has to be the `first` on it: of them one at a time has it."""
    name = of_thread(tenant, thread_id)
    had = _try(connection, func.pg_try_advisory_xact_lock_shared, name)
    return had and (not first or _try(connection, func.pg_try_advisory_xact_lock, f"first:{name}"))


def try_threads(connection: Connection, threads: Collection[tuple[str, str]]) -> Collection[tuple[str, str]]:
    """Those of these threads, by tenant and id, of which the same can be said."""
    if connection.dialect.name != "postgresql" or not threads:
        return threads
    names = {of_thread(*thread): thread for thread in threads}
    name = func.unnest(literal(sorted(names), ARRAY(Text))).column_valued("name")
    asked = select(name).where(func.pg_try_advisory_xact_lock_shared(key_of(name)))
    return {names[had] for had in connection.execute(asked).scalars()}


def try_count(connection: Connection, tenant: str, agent: str) -> bool:
    """Keep others from making a run of that agent for that tenant."""
    return _try(connection, func.pg_try_advisory_xact_lock, f"c:{tenant}:{agent}")


def alone(connection: Connection, *names: str) -> None:
    """Wait until no other process does this: what is counted then stays so until the end of the transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(key_of(":".join(names)))))


def of_thread(tenant: str, thread_id: str) -> str:
    """What the lock of a thread is called."""
    return f"t:{len(tenant)}:{tenant}:{thread_id}"


def key_of(name: str | ColumnElement[str]) -> ColumnElement[int]:
    """The number that stands for a name, in this schema."""
    return func.hashtextextended(func.concat(func.current_schema(), ":", name), 0)


def _try(connection: Connection, lock: Callable[..., Any], name: str) -> bool:
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(select(lock(key_of(name)))).scalar())

"""How a change within a transaction tells what others want to know of it, once it is durable."""

from __future__ import annotations

from sqlalchemy import Connection

from proxy.store.signals import Signal, Topic

SIGNALS = "signals"


def tell(connection: Connection, topic: Topic, name: str = "") -> None:
    """Ring this, here and in all processes that share the store, if the transaction is committed."""
    connection.info.setdefault(SIGNALS, []).append((topic, name))


def told(connection: Connection) -> list[Signal]:
    """What was told since the last time that this was asked."""
    signals: list[Signal] = connection.info.pop(SIGNALS, [])
    return signals

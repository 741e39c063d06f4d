"""What a writer writes: saves, and any other change. Both fail alike, and tell of themselves alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from proxy.errors import ProxyError, Unavailable
from proxy.model import Run, RunStatus
from proxy.store.signals import Signal, Topic
from proxy.store.sql.saves import Save
from proxy.store.statements.inserts import Newcomer, insert_run
from proxy.store.statements.ringing import told

T = TypeVar("T")


class Outage(Unavailable):
    """The store failed, and not what was to be written."""


def is_outage(error: ProxyError) -> bool:
    return isinstance(error, Outage)


def reason(error: ProxyError) -> str:
    """Why a write failed, without what was to be written."""
    cause = error.__cause__
    return f"{type(cause).__name__}: {getattr(cause, 'orig', None) or cause}"[:200]


class Call(Generic[T]):
    """Any other change. `work` may raise a `ProxyError`, but only before it has changed anything."""

    __slots__ = ("_arguments", "_result", "_work", "done", "error", "owner", "signals")

    def __init__(self, done: asyncio.Future[T], work: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        self.done = done
        self._work = work
        self._arguments = arguments
        self._result: T
        self.owner: str | None = None
        """Whose lease it is done under; None where that need not run."""
        self.signals: Sequence[Signal] = ()
        """What is rung once it is durable."""
        self.error: ProxyError | None = None

    def run(self, connection: Connection) -> None:
        try:
            self._result = self._work(connection, *self._arguments)
        except ProxyError as error:
            self.error = error
        self.signals = told(connection)

    def landed(self) -> None:
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self._result)


class Insert(Call[Run]):
    """A new run, which a `Saver` may store together with others."""

    __slots__ = ("new",)

    def __init__(self, done: asyncio.Future[Run], new: Newcomer) -> None:
        super().__init__(done, insert_run, (new,))
        self.new = new

    def stored(self, run: Run) -> None:
        """It needs not `run` any more."""
        self._result = run
        self.signals = [(Topic.QUEUE, "")] if run.status is RunStatus.PENDING else ()


Op = Save | Call[Any]


def rung_by(group: Sequence[Op]) -> list[Signal]:
    """What is rung once these are durable, each signal once."""
    return list(dict.fromkeys(signal for op in group if op.error is None for signal in op.signals))

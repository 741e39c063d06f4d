"""Databases, and the connections that read: a few, each with a thread of its own."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from proxy.errors import ProxyError, Unavailable
from proxy.store.signals import Signal
from proxy.store.sql.saves import Saver

T = TypeVar("T")
logger = structlog.get_logger(__name__)

READERS = 3
PATIENCE = 10.0
"""Seconds after which a read is given up."""
CLOSED = "The store is closed."


class Begun(NamedTuple):
    """A transaction that has begun: its name in the database, if it has one, and the owners that hold their lease."""

    name: str | None
    owners: Collection[str]


class Database(ABC):
    """What a kind of database has of its own. The methods are called on the threads that use the connections."""

    @abstractmethod
    def engine(self, *, writes: bool) -> Engine:
        """For the one writing connection, or for the reading ones."""

    def saver(self, engine: Engine) -> Saver:
        return Saver(engine)

    @abstractmethod
    def is_away(self, error: BaseException) -> bool:
        """It takes nothing now: what was to be written together needs no try one by one."""

    def is_passing(self, error: BaseException) -> bool:
        """It will do if it is tried again at once: another process was in the way, or an old connection was lost."""
        return False

    def refusal(self, error: BaseException) -> ProxyError | None:
        """What the caller is told who asked for something that cannot be stored here."""
        return None

    def begin(self, connection: Connection, owners: Collection[str]) -> Begun:
        """The first statement of a transaction that writes for these owners."""
        return Begun(None, owners)

    def publish(self, connection: Connection, signals: Sequence[Signal]) -> None:
        """Carry signals to the other processes, once the transaction is committed."""

    def was_committed(self, engine: Engine, begun: Begun) -> bool | None:
        """Whether a transaction is durable all the same, whose commit has failed; None if nobody can tell."""
        return False

    def cut(self) -> None:
        """Make what is under way on the writing connection fail; called on the loop's thread. May do nothing."""


class Reader:
    """Runs queries off the loop."""

    def __init__(self, database: Database, engine: Engine | None = None, threads: int = READERS) -> None:
        self._database = database
        self._engine = engine or database.engine(writes=False)
        self._executor = ThreadPoolExecutor(threads, "store-reader")
        self._closed = False

    async def read(self, work: Callable[..., T], *arguments: Any) -> T:
        """`work(connection, *arguments)`. Raises `Unavailable`, and `BadRequest` for what cannot be in the store."""
        return await self._answer(self._begin(work, arguments), work)

    async def carry_out(self, work: Callable[..., T], *arguments: Any) -> T:
        """As `read`, for what has to be done: it is done when its turn comes, though nobody may wait for it then."""
        return await self._answer(asyncio.shield(self._begin(work, arguments)), work)

    def _begin(self, work: Callable[..., T], arguments: tuple[Any, ...]) -> asyncio.Future[T]:
        if self._closed:
            raise Unavailable(CLOSED, retry_after=1)
        return asyncio.get_running_loop().run_in_executor(self._executor, self._run, work, arguments)

    async def _answer(self, future: asyncio.Future[T], work: Callable[..., T]) -> T:
        try:
            async with asyncio.timeout(PATIENCE):
                return await future
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if not self._closed or task is None or task.cancelling():
                raise
            raise Unavailable(CLOSED, retry_after=1) from error  # it stood in line, and nobody has cancelled the caller
        except (SQLAlchemyError, TimeoutError) as error:
            refusal = self._database.refusal(error)
            if refusal is None and not isinstance(error, OperationalError | TimeoutError):
                logger.error(
                    "a read failed",
                    work=getattr(work, "__qualname__", ""),
                    error=str(getattr(error, "orig", error))[:200],
                )
            raise refusal or Unavailable("The store cannot be read now.", retry_after=1) from error

    def _run(self, work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        try:
            return self._once(work, arguments)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return self._once(work, arguments)  # on a new connection: the database was restarted while nobody asked it

    def _once(self, work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        with self._engine.begin() as connection:
            return work(connection, *arguments)

    def close(self) -> None:
        """What has begun is finished, what waits for its turn is refused."""
        self._closed = True
        self._executor.shutdown(cancel_futures=True)
        self._engine.dispose()

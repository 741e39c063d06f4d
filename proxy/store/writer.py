"""The one thread that writes, in groups: while one transaction is under way, whatever comes up waits for the next.

An operation that fails is told so and undone, and leaves the others of its group alone. The thread survives
every failure; a store that is full, locked or gone works again as soon as it can, without a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from sqlalchemy import Connection, Engine, Table, UpdateBase, bindparam, insert, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from proxy.errors import ProxyError, Unavailable
from proxy.events import Entry
from proxy.model import Pause, Run, ThreadOutcome
from proxy.store import records, segments, tables, threads
from proxy.store.engine import is_busy

T = TypeVar("T")

TOGETHER = 32
"""Rows that one statement inserts at most."""
PACE = 0.004
"""Seconds from one group to the next in a rush: a group costs about as much as ten runs in it."""

logger = structlog.get_logger(__name__)
FAULTS = (SQLAlchemyError, msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)
"""What an operation can raise: a store that fails, or a value that cannot be written."""


def unavailable(fault: BaseException) -> Unavailable:
    error = Unavailable("The store cannot be written now.", retry_after=1)
    error.__cause__ = fault
    return error


def is_outage(error: ProxyError) -> bool:
    """True where the store failed, and not what was to be written."""
    return isinstance(error.__cause__, OperationalError)


def reason(error: ProxyError) -> str:
    """Why a write failed, without what was to be written."""
    cause = error.__cause__
    return f"{type(cause).__name__}: {getattr(cause, 'orig', None) or cause}"[:200]


class Save:
    """Entries of a log, with its record where that is new or has changed, a pause, and how it leaves its thread."""

    __slots__ = ("entries", "error", "insert", "pause", "run", "run_id", "size", "thread")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.entries: list[Entry] = []
        self.run: Run | None = None
        """The record as it is to be; None where it stays as it is."""
        self.insert = False
        """The record is not in the store yet."""
        self.pause: Pause | None = None
        self.thread: ThreadOutcome | None = None
        self.size = 0
        """Bytes of the entries on disk, once written."""
        self.error: ProxyError | None = None

    def landed(self) -> None:
        """Called on the loop's thread when it is durable, or has failed with `error`."""


class Call(Generic[T]):
    """Any other change. `work` may raise a `ProxyError`, but only before it has changed anything."""

    __slots__ = ("_arguments", "_done", "_result", "_work", "error")

    def __init__(self, done: asyncio.Future[T], work: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        self._done = done
        self._work = work
        self._arguments = arguments
        self._result: T
        self.error: ProxyError | None = None

    def run(self, connection: Connection) -> None:
        try:
            self._result = self._work(connection, *self._arguments)
        except ProxyError as error:
            self.error = error

    def landed(self) -> None:
        if self._done.done():
            return
        if self.error is not None:
            self._done.set_exception(self.error)
        else:
            self._done.set_result(self._result)


Op = Save | Call[Any]


class Prepared:
    """A statement compiled once, for many rows at a time: through Core each group would cost twice as much."""

    def __init__(self, engine: Engine, statement: UpdateBase, names: list[str]) -> None:
        compiled = statement.compile(dialect=engine.dialect)
        self._sql = str(compiled)
        self._names = names
        """What the values of a row are called in the statement."""
        self._order = None if compiled.positiontup is None else [names.index(name) for name in compiled.positiontup]

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        if self._order is None:
            connection.exec_driver_sql(self._sql, [dict(zip(self._names, row, strict=True)) for row in rows])
        else:
            connection.exec_driver_sql(self._sql, [tuple([row[i] for i in self._order]) for row in rows])


class Insertion:
    """Inserts rows, up to `TOGETHER` in one statement: the driver gives up the interpreter's lock for each statement,
    and under load it takes longer to get it back than to insert a row."""

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine = engine
        self._table = table
        self._prepared: dict[int, Prepared] = {}

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        for start in range(0, len(rows), TOGETHER):
            part = rows[start : start + TOGETHER]
            statement = self._prepared.get(len(part)) or self._prepare(len(part))
            statement.execute(connection, [tuple(chain.from_iterable(part))])

    def _prepare(self, count: int) -> Prepared:
        names = self._table.columns.keys()
        statement = insert(self._table).values([dict.fromkeys(names)] * count)
        numbered = [f"{name}_m{number}" for number in range(count) for name in names]
        return self._prepared.setdefault(count, Prepared(self._engine, statement, numbered))


def replacement(engine: Engine) -> Prepared:
    """Replaces a record."""
    runs = tables.runs
    statement = update(runs).where(runs.c.tenant == bindparam("of"), runs.c.run_id == bindparam("id"))
    rest = runs.columns.keys()[2:]
    return Prepared(engine, statement.values({name: bindparam(name) for name in rest}), ["of", "id", *rest])


class Writer:
    """Takes operations on the loop's thread, writes them on its own, and lets them land on the loop's again.

    `expected` says how many operations may come soon. In a rush, a group waits for them, at most until `PACE` is over.
    """

    def __init__(self, engine: Engine, expected: Callable[[], int] = lambda: 0) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._executor = ThreadPoolExecutor(1, "store-writer")
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Op] = []
        self._busy = False
        self._closed = False
        self._expected = expected
        self._next = 0.0
        """When the next group may be written in a rush, on the loop's clock."""
        self._usual = 0
        """Operations in the last group."""
        self._timer: asyncio.TimerHandle | None = None
        self.failing = False
        """The store took nothing of the last group."""
        self._insert_runs = Insertion(engine, tables.runs)
        self._insert_segments = Insertion(engine, tables.segments)
        self._insert_pauses = Insertion(engine, tables.pauses)
        self._replace_runs = replacement(engine)

    async def prepare(self, work: Callable[[Connection], None]) -> None:
        """Connect, and do this before anything else. Raises what the database raises."""
        await self._loop.run_in_executor(self._executor, self._prepare, work)

    def _prepare(self, work: Callable[[Connection], None]) -> None:
        self._connection = self._engine.connect()
        with self._connection.begin():
            work(self._connection)

    async def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """`work(connection, *arguments)` in the next transaction. Raises `Unavailable`, and what `work` raises."""
        done: asyncio.Future[T] = self._loop.create_future()
        self.send(Call(done, work, arguments))
        return await done

    def send(self, op: Op) -> None:
        if self._closed:
            op.error = Unavailable("The store is closed.")
            self._loop.call_soon(op.landed)
            return
        self._waiting.append(op)
        if not self._busy:
            self._plan()

    def _plan(self) -> None:
        """In a rush, wait until all that may come soon is here and it is no less than the last time: a group that
        is written while the loop is busy costs twice as much, for both want the interpreter's lock."""
        wait = self._next - self._loop.time()
        here = len(self._waiting)
        if wait <= 0 or (here >= self._expected() and here >= self._usual):
            if self._timer is not None:
                self._timer.cancel()
            self._busy = True
            self._loop.call_soon(self._dispatch)  # not now: what else this turn of the loop brings comes along
        elif self._timer is None:
            self._timer = self._loop.call_later(wait, self._dispatch)

    def _dispatch(self) -> None:
        self._timer = None
        self._busy = True
        self._next = self._loop.time() + PACE
        group, self._waiting = self._waiting, []
        self._usual = len(group)
        future = self._executor.submit(self._write, group)
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._land, group, done))

    def _land(self, group: list[Op], future: Future[None]) -> None:
        if (crash := future.exception()) is not None:
            logger.error("a group of writes failed", error=repr(crash), exc_info=crash)
            for op in group:
                op.error = unavailable(crash)
        self._watch(group)
        self._busy = False
        if self._waiting:
            self._plan()
        for op in group:
            op.landed()

    def _watch(self, group: list[Op]) -> None:
        """Say once that the store is away, and once that it is back."""
        faults = [op.error for op in group if isinstance(op.error, Unavailable)]
        outage = next((fault for fault in faults if is_outage(fault)), None)
        if outage is not None and not self.failing:
            logger.warning("the store cannot be written", error=reason(outage))
        elif outage is None and self.failing:
            logger.info("the store can be written again")
        self.failing = outage is not None
        for fault in faults:
            if not is_outage(fault):
                logger.error("a write was refused", error=reason(fault))

    def _write(self, group: Sequence[Op]) -> None:
        for op in group:
            op.error = None
        try:
            self._transact(group)
        except FAULTS as error:
            if len(group) == 1 or is_busy(error):
                for op in group:
                    op.error = unavailable(error)
            else:
                for op in group:
                    self._write([op])

    def _transact(self, group: Sequence[Op]) -> None:
        if self._connection is None:
            self._connection = self._engine.connect()
        with self._connection.begin():
            saves: list[Save] = []
            for op in group:
                if isinstance(op, Save):
                    saves.append(op)
                    continue
                self._save(self._connection, saves)
                saves = []
                op.run(self._connection)
            self._save(self._connection, saves)

    def _save(self, connection: Connection, saves: list[Save]) -> None:
        """One statement for each kind of row, however many logs they come from."""
        bodies: list[tuple[Any, ...]] = []
        for save in saves:
            rows = segments.encode(save.run_id, save.entries)
            save.size = sum(len(row[3]) for row in rows)
            bodies += rows
        changed = [(save.insert, tables.run_row(save.run)) for save in saves if save.run is not None]
        for statement, rows in (
            (self._insert_runs, [row for new, row in changed if new]),
            (self._insert_segments, bodies),
            (self._replace_runs, [row for new, row in changed if not new]),
            (self._insert_pauses, [tables.pause_row(save.pause) for save in saves if save.pause is not None]),
        ):
            if rows:
                statement.execute(connection, rows)
        for save in saves:
            if save.run is None:
                continue
            if save.thread is not None:
                threads.leave(connection, save.run.tenant, save.run.thread_id, save.thread)
            if save.run.gone_at is not None:
                records.reopen_pauses(connection, save.run)

    async def close(self) -> None:
        """Write what is waiting, and let go."""
        try:
            await self.call(lambda connection: None)
        except Unavailable as error:
            logger.warning("the store was closed while it could not be written", error=reason(error))
        await self.release()

    async def release(self) -> None:
        """Let go of the database and end the thread."""
        self._closed = True
        await self._loop.run_in_executor(self._executor, self._let_go)
        self._executor.shutdown()

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()

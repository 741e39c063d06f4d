"""The one thread that writes, in groups: while one transaction is under way, whatever comes up waits for the next.

An operation that fails is told so and undone, and leaves the others of its group alone. The thread survives
every failure; a store that is full, locked or gone works again as soon as it can, without a restart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from proxy.errors import LeaseLost, ProxyError, Unavailable
from proxy.model import Run
from proxy.store.lease import Lease
from proxy.store.signals import Signal
from proxy.store.sql.engine import Begun, Database
from proxy.store.sql.ops import Call, Insert, Op, Outage, is_outage, reason, rung_by
from proxy.store.sql.saves import Save
from proxy.store.statements.inserts import Newcomer

T = TypeVar("T")

PACE = 0.004
"""Seconds from one group to the next in a rush: a group costs about as much as ten runs in it."""
TRIES = 3
"""How often a group is tried where other processes are in the way."""
ALONE = 5.0
"""Seconds for which the operations of a group that failed are tried one by one."""
ENOUGH = 5.0
"""Seconds for which a group takes up changes: one that is slow is committed as far as it came, so each brings some."""
LIMIT = 20.0
"""Seconds after which a group is given up that the database does not answer."""

logger = structlog.get_logger(__name__)
FAULTS = (SQLAlchemyError, msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)
"""What an operation can raise: a store that fails, or a value that cannot be written."""


class Unanswered(Exception):
    """Nobody can tell whether a group is in the store, so it must not be tried again as it is."""


class Writer:
    """Takes operations on the loop's thread, writes them on its own, and lets them land on the loop's again.

    `expected` says how many operations may come soon. In a rush, a group waits for them, at most until `PACE` is over.
    `ring` gets the signals of each group that is durable, before it lands.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        ring: Callable[[Sequence[Signal]], None],
        expected: Callable[[], int] = lambda: 0,
    ) -> None:
        self._database = database
        self._lease = lease
        self._ring = ring
        self._expected = expected
        self._engine = database.engine(writes=True)
        self._saver = database.saver(self._engine)
        self._connection: Connection | None = None
        self._executor = ThreadPoolExecutor(1, "store-writer")
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Op] = []
        self._busy = False
        self._closed = False
        self._next = 0.0
        """When the next group may be written in a rush, on the loop's clock."""
        self._usual = 0
        """Operations in the last group."""
        self._timer: asyncio.TimerHandle | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._given_up = False
        """The group under way has had its time."""
        self.failing = False
        """The store took nothing of the last group."""

    async def prepare(self, work: Callable[[Connection], None]) -> None:
        """Connect, and do this before anything else. Raises what the database raises."""
        await self._loop.run_in_executor(self._executor, self._prepare, work)

    def _prepare(self, work: Callable[[Connection], None]) -> None:
        self._connection = self._engine.connect()
        with self._connection.begin():
            work(self._connection)

    async def call(self, work: Callable[..., T], *arguments: Any, fenced: bool = True) -> T:
        """`work(connection, *arguments)` in the next transaction, if this process holds its lease then.

        Raises `Unavailable`, `LeaseLost` unless `fenced` is false, and what `work` raises."""
        return await self._do(Call(self._loop.create_future(), work, arguments), fenced=fenced)

    async def insert(self, new: Newcomer) -> Run:
        """Store a run in the next transaction, if this process holds its lease then. Raises as `call` does, and what
        `insert_run` raises."""
        return await self._do(Insert(self._loop.create_future(), new))

    async def _do(self, call: Call[T], *, fenced: bool = True) -> T:
        if fenced and self._lease.ends:
            call.owner = self._lease.owner
        self.send(call)
        return await call.done

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
        self._given_up = False
        self._limit = self._loop.call_later(LIMIT, self._give_up)
        future = self._executor.submit(self._write, group)
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._land, group, done))

    def _give_up(self) -> None:
        self._given_up = True
        self._database.cut()

    def _land(self, group: list[Op], future: Future[None]) -> None:
        if self._limit is not None:
            self._limit.cancel()
        if (crash := future.exception()) is not None:
            logger.error("a group of writes failed", error=repr(crash), exc_info=crash)
            for op in group:
                op.error = self._fault(op, crash)
        self._watch(group)
        self._busy = False
        if self._waiting:
            self._plan()
        if any(isinstance(op.error, LeaseLost) and op.owner == self._lease.owner for op in group):
            self._lease.lose()
        if signals := rung_by(group):
            self._ring(signals)
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
        """All together; where that fails, each alone, for only one of them may be at fault."""
        error = self._attempt(group)
        if error is None:
            return
        if len(group) > 1 and not self._database.is_away(error):
            until = time.monotonic() + ALONE
            for op in group:
                if time.monotonic() < until:
                    self._write([op])
                else:
                    op.error = self._fault(op, error)
        else:
            for op in group:
                op.error = self._fault(op, error)

    def _fault(self, op: Op, error: BaseException) -> ProxyError:
        refusal = self._database.refusal(error) if isinstance(op, Call) else None  # a log has nobody to tell
        kind = (
            Outage
            if isinstance(error, OperationalError | TimeoutError) or self._database.is_away(error)
            else Unavailable
        )
        fault = refusal or kind("The store cannot be written now.", retry_after=1)
        fault.__cause__ = error
        return fault

    def _attempt(self, group: Sequence[Op]) -> BaseException | None:
        """Write a group; the error if it is not in the store."""
        for left in reversed(range(TRIES)):
            for op in group:
                op.error = None
            try:
                self._transact(group)
            except Unanswered as unanswered:
                return unanswered.__cause__
            except FAULTS as error:
                if not left or self._given_up or not self._database.is_passing(error):
                    return error
            else:
                return None
        return None

    def _transact(self, group: Sequence[Op]) -> None:
        if self._connection is None:
            self._connection = self._engine.connect()
        begun: Begun | None = None
        try:
            with self._connection.begin():
                state = self._database.begin(self._connection, {op.owner for op in group if op.owner is not None})
                self._change(self._connection, group, state.owners)
                begun = state
        except FAULTS as error:
            committed = begun is not None and self._database.was_committed(self._engine, begun)
            if committed is None:
                raise Unanswered from error
            if not committed:
                raise

    def _change(self, connection: Connection, group: Sequence[Op], owners: Collection[str]) -> None:
        began = time.monotonic()
        for op in group:
            if op.owner is not None and op.owner not in owners:
                op.error = LeaseLost(retry_after=1)
        stored = self._insert(connection, group)
        saves: list[Save] = []
        for op in group:
            if op.error is not None or op in stored:
                continue
            if isinstance(op, Save):
                saves.append(op)
            elif op is not group[0] and time.monotonic() - began > ENOUGH:
                op.error = self._fault(op, TimeoutError("the store is slow"))
            else:
                self._saver.write(connection, saves)
                saves = []
                op.run(connection)
        self._saver.write(connection, saves)
        if signals := rung_by(group):
            self._database.publish(connection, signals)

    def _insert(self, connection: Connection, group: Sequence[Op]) -> Collection[Op]:
        """Store new runs together, first of all, for nothing else in the group is about them: those for which it can
        be done. The others are stored in their turn."""
        plain = {op.new.run.run_id: op for op in group if isinstance(op, Insert) and op.new.is_plain and not op.error}
        stored = self._saver.insert(connection, [op.new for op in plain.values()]) if plain else []
        for run in stored:
            plain[run.run_id].stored(run)
        return {plain[run.run_id] for run in stored}

    async def close(self) -> None:
        """Write what is waiting, and let go."""
        try:
            await self.call(lambda connection: None, fenced=False)
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

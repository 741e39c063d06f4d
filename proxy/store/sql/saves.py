"""What the live logs write: many rows of few kinds, so they share statements that are compiled once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Engine, Table, UpdateBase, bindparam, insert, update

from proxy.errors import ProxyError
from proxy.events import Entry
from proxy.model import Pause, Run, ThreadOutcome
from proxy.store.logs import segments
from proxy.store.signals import Signal, Topic
from proxy.store.statements import queue, records, tables, threads
from proxy.store.statements.inserts import Newcomer

TOGETHER = 32
"""Rows that one statement inserts at most."""
Rows = Sequence[tuple[Any, ...]]


class Save:
    """Entries of a log, with its record where that is new or has changed, a pause, and how it leaves its thread."""

    __slots__ = ("entries", "error", "insert", "owner", "pause", "run", "run_id", "signals", "size", "thread")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.entries: list[Entry] = []
        self.run: Run | None = None
        """The record as it is to be; None where it stays as it is."""
        self.insert = False
        """The record is not in the store yet."""
        self.pause: Pause | None = None
        self.thread: ThreadOutcome | None = None
        self.owner: str | None = None
        """Whose lease it is written under; None where that need not run."""
        self.signals: Sequence[Signal] = ()
        """What is rung once it is durable."""
        self.size = 0
        """Bytes of the entries on disk, once written."""
        self.error: ProxyError | None = None

    def landed(self) -> None:
        """Called on the loop's thread when it is durable, or has failed with `error`."""


class Prepared:
    """A statement compiled once, for many rows at a time: through Core each group would cost twice as much."""

    def __init__(self, engine: Engine, statement: UpdateBase, names: list[str]) -> None:
        compiled = statement.compile(dialect=engine.dialect)
        self._sql = str(compiled)
        self._names = names
        """What the values of a row are called in the statement."""
        self._order = None if compiled.positiontup is None else [names.index(name) for name in compiled.positiontup]

    def execute(self, connection: Connection, rows: Rows) -> None:
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

    def execute(self, connection: Connection, rows: Rows) -> None:
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


class Saver:
    """Writes many saves, each kind of row in one statement, however many logs they come from."""

    def __init__(self, engine: Engine) -> None:
        self._insert_runs = Insertion(engine, tables.runs)
        self._insert_segments = Insertion(engine, tables.segments)
        self._insert_pauses = Insertion(engine, tables.pauses)
        self._replace_runs = replacement(engine)

    def insert(self, connection: Connection, newcomers: list[Newcomer]) -> list[Run]:
        """Store those of these plain runs that can be stored together, and return them as they are then."""
        return []

    def write(self, connection: Connection, saves: list[Save]) -> None:
        if not saves:
            return
        bodies = body_rows(saves)
        changed = [(save.insert, tables.run_row(save.run)) for save in saves if save.run is not None]
        for statement, rows in (
            (self._insert_runs, [row for new, row in changed if new]),
            (self._insert_segments, bodies),
            (self._replace_runs, [row for new, row in changed if not new]),
            (self._insert_pauses, [tables.pause_row(save.pause) for save in saves if save.pause is not None]),
        ):
            if rows:
                statement.execute(connection, rows)
        leave(connection, saves)
        follow_up(connection, saves)


def body_rows(saves: list[Save]) -> list[segments.Segment]:
    """The rows of `segments` that hold the entries; notes the size of each save."""
    bodies: list[segments.Segment] = []
    for save in saves:
        rows = segments.encode(save.run_id, save.entries)
        save.size = sum(len(row[3]) for row in rows)
        bodies += rows
    return bodies


def leave(connection: Connection, saves: list[Save]) -> None:
    """Leave the threads of runs as their ends say."""
    for save in saves:
        if save.run is not None and save.thread is not None:
            threads.leave(connection, save.run.tenant, save.run.thread_id, save.thread)


def follow_up(connection: Connection, saves: list[Save]) -> None:
    """What else the ends of runs do to what waits for them."""
    for save in saves:
        if save.run is not None and save.run.gone_at is not None:
            records.reopen_pauses(connection, save.run)
    ended = [save.run for save in saves if save.run is not None and save.run.ended]
    if ended and queue.is_followed(connection, ended):
        saves[-1].signals = (*saves[-1].signals, (Topic.QUEUE, ""))

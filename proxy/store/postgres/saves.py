"""New runs, and what the live logs write: each kind of row in one statement of a fixed text, however many there are.

What logs write may be written again: where the answer to a commit was lost and the database could not be asked, they
come back with what is stored already, and maybe more. Then nothing is doubled, and what others have made of it stays.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Double, Engine, LargeBinary, Table
from sqlalchemy.dialects import postgresql

from proxy.model import Run
from proxy.store.sql.saves import Save, Saver, body_rows, follow_up
from proxy.store.statements import locks, tables
from proxy.store.statements.inserts import NEAR, Newcomer
from proxy.store.statements.tables import outcome_values

Rows = Sequence[tuple[Any, ...]]
DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
UNENDED = "runs.status IN ('pending', 'running')"


def arrays(columns: Iterable[Column[Any]]) -> str:
    """Rows that are given by columns: one array for each."""
    types = [(f"%{'b' if isinstance(column.type, LargeBinary) else 's'}", column.type) for column in columns]
    return f"unnest({', '.join(f'{mark}::{kind.compile(DIALECT)}[]' for mark, kind in types)})"


def insertion(table: Table, otherwise: str) -> str:
    names = ", ".join(table.columns.keys())
    return f"INSERT INTO {table.name} ({names}) SELECT * FROM {arrays(table.columns)} ON CONFLICT {otherwise}"  # noqa: S608


def assignments(names: Iterable[str], source: str) -> str:
    return ", ".join(f"{name} = {source}.{name}" for name in names)


RUN_NAMES = tables.runs.columns.keys()
ADMIT_RUNS = (
    "WITH roomy AS (SELECT tenant, agent "  # noqa: S608
    "FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[]) AS w (tenant, agent, most, wanted) "
    "WHERE most = 0 OR most >= wanted + (SELECT count(*) FROM (SELECT FROM runs "
    f"WHERE runs.tenant = w.tenant AND runs.agent = w.agent AND {UNENDED} LIMIT w.most) AS taken)) "
    f"INSERT INTO runs ({', '.join(RUN_NAMES)}) SELECT v.* FROM {arrays(tables.runs.columns)} "
    f"AS v ({', '.join(RUN_NAMES)}) JOIN roomy USING (tenant, agent) RETURNING run_id"
)
"""Inserts all runs of each tenant's agents that have room for them."""
INSERT_RUNS = insertion(
    tables.runs,
    f"(tenant, run_id) DO UPDATE SET {assignments(RUN_NAMES[2:], 'excluded')} WHERE {UNENDED} RETURNING run_id",
)
INPUT = RUN_NAMES.index("input")
"""Stays as it was when its run began, and may be larger than all else that is written of it."""
CHANGING_NAMES = RUN_NAMES[:INPUT] + RUN_NAMES[INPUT + 1 :]
REPLACE_RUNS = (
    f"UPDATE runs SET {assignments(CHANGING_NAMES[2:], 'v')} "  # noqa: S608
    f"FROM {arrays(tables.runs.c[name] for name in CHANGING_NAMES)} AS v ({', '.join(CHANGING_NAMES)}) "
    f"WHERE runs.tenant = v.tenant AND runs.run_id = v.run_id AND {UNENDED} RETURNING runs.run_id"
)
INSERT_SEGMENTS = insertion(
    tables.segments,
    "(run_id, first_seq) DO UPDATE SET last_seq = excluded.last_seq, body = excluded.body "
    "WHERE segments.last_seq < excluded.last_seq",
)
INSERT_PAUSES = insertion(tables.pauses, "DO NOTHING")
LEFT = [tables.threads.c[name] for name in ("tenant", "thread_id", "status", "outcome", "state")]
LEAVE = (
    "UPDATE threads SET status = v.status, outcome = v.outcome, state = coalesce(v.state, threads.state), "  # noqa: S608
    f"updated_at = v.at, state_updated_at = v.at FROM {arrays([*LEFT, Column('at', Double)])} "
    "AS v (tenant, thread_id, status, outcome, state, at) "
    "WHERE threads.tenant = v.tenant AND threads.thread_id = v.thread_id"
)


class PostgresSaver(Saver):
    """Writes many saves; those whose end is stored already leave what follows from it alone."""

    def __init__(self, engine: Engine) -> None:
        """It has no statements to compile."""

    def insert(self, connection: Connection, newcomers: list[Newcomer]) -> list[Run]:
        """All that a tenant wants of an agent, or none: so near to the bound that others matter if nobody else counts,
        and at the bound none."""
        stored = _admitted(connection, [new for new in newcomers if not 0 < new.most <= NEAR], NEAR)
        there = {run.run_id for run in stored}
        near = [new for new in newcomers if new.run.run_id not in there]
        alone = {name for name in set(map(_counted, near)) if locks.try_count(connection, *name)}
        return stored + _admitted(connection, [new for new in near if _counted(new) in alone], 0)

    def write(self, connection: Connection, saves: list[Save]) -> None:
        if not saves:
            return
        records = [save for save in saves if save.run is not None]
        stored = [
            *_changed(connection, INSERT_RUNS, [save for save in records if save.insert], tables.run_row),
            *_changed(connection, REPLACE_RUNS, [save for save in records if not save.insert], _changing_row),
        ]
        _execute(connection, INSERT_SEGMENTS, body_rows(saves))
        _execute(connection, INSERT_PAUSES, [tables.pause_row(save.pause) for save in stored if save.pause is not None])
        _execute(connection, LEAVE, _left(stored))
        follow_up(connection, stored)


def _counted(new: Newcomer) -> tuple[str, str]:
    """What a run counts with."""
    return new.run.tenant, new.run.agent


def _admitted(connection: Connection, newcomers: list[Newcomer], apart: int) -> list[Run]:
    """Those that are stored, as they are then: where they stay so far below their bound."""
    if not newcomers:
        return []
    most = {_counted(new): new.most for new in newcomers}
    bounds = [(*name, most[name], count + apart) for name, count in Counter(map(_counted, newcomers)).items()]
    runs = [new.owned(new.run) for new in newcomers]
    values = (*columns(bounds), *columns([tables.run_row(run) for run in runs]))
    stored = set(connection.exec_driver_sql(ADMIT_RUNS, values).scalars())
    return [run for run in runs if run.run_id in stored]


def _execute(connection: Connection, statement: str, rows: Rows) -> Any:
    return connection.exec_driver_sql(statement, columns(rows)) if rows else None


def columns(rows: Rows) -> tuple[list[Any], ...]:
    return tuple(map(list, zip(*rows, strict=True)))


def _changing_row(run: Run) -> tuple[Any, ...]:
    """The values of `CHANGING_NAMES`."""
    row = tables.run_row(run)
    return row[:INPUT] + row[INPUT + 1 :]


def _changed(
    connection: Connection, statement: str, saves: list[Save], row: Callable[[Run], tuple[Any, ...]]
) -> list[Save]:
    """Write the records; those of these whose run was not over before."""
    found = _execute(connection, statement, [row(save.run) for save in saves if save.run is not None])
    changed = set() if found is None else set(found.scalars())
    return [save for save in saves if save.run_id in changed]


def _left(saves: list[Save]) -> Rows:
    """How threads are left, each once: by what comes last."""
    now = time.time()
    rows = {}
    for save in saves:
        if save.run is not None and save.thread is not None:
            values = outcome_values(save.thread)
            name = (save.run.tenant, save.run.thread_id)
            rows[name] = (*name, values["status"], values["outcome"], values.get("state"), now)
    return list(rows.values())

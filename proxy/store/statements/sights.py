"""What the store has of many logs at once, as functions of a connection: for the tails of those who follow them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, func, select, text, tuple_

from proxy.errors import ProxyError
from proxy.store.logs import segments
from proxy.store.logs.tails import Sight
from proxy.store.statements import tables, workflow_tables

BYTES = 4 * 1024 * 1024
"""A look ends with the round of segments that goes over this."""
EACH = 8
"""Segments of one log that a look has at most."""
# The first segments of each log come before the second ones, so that a long one does not keep the others waiting.
GROWN = text(
    """
    WITH asked AS (
        SELECT a.run_id, a.after,
            (SELECT last_seq FROM segments WHERE run_id = a.run_id ORDER BY first_seq DESC LIMIT 1) AS last_seq,
            EXISTS (SELECT FROM runs WHERE run_id = a.run_id AND status IN ('pending', 'running')) AS open
        FROM unnest(CAST(:ids AS text[]), CAST(:afters AS bigint[])) AS a(run_id, after)
    ), found AS (
        SELECT s.*, row_number() OVER (PARTITION BY s.run_id ORDER BY s.first_seq) AS nth
        FROM asked a CROSS JOIN LATERAL (
            SELECT run_id, first_seq, body FROM segments
            WHERE run_id = a.run_id AND a.last_seq > a.after AND last_seq > a.after AND first_seq >= coalesce((
                SELECT first_seq FROM segments WHERE run_id = a.run_id AND first_seq <= least(a.after, 2147483647) + 1
                ORDER BY first_seq DESC LIMIT 1
            ), 0)
            ORDER BY first_seq LIMIT :each
        ) s
    ), counted AS (
        SELECT *, sum(octet_length(body)) OVER (ORDER BY nth, run_id) - octet_length(body) AS before FROM found
    )
    SELECT a.run_id, a.after, coalesce(a.last_seq, 0) AS last_seq, a.open, c.first_seq, c.body
    FROM asked a LEFT JOIN counted c ON c.run_id = a.run_id AND c.before < :most
    WHERE a.open OR a.last_seq IS NOT NULL
    ORDER BY a.run_id, c.first_seq
    """
)


def look(connection: Connection, asked: Sequence[tuple[str, int]]) -> dict[str, Sight]:
    """See `tails.Look`. In one statement, so that a run that has ended is seen with its end."""
    values = {"ids": [name for name, _ in asked], "afters": [after for _, after in asked], "each": EACH, "most": BYTES}
    seen: dict[str, Sight] = {}
    rows = connection.execute(GROWN, values)
    for run_id, parts in groupby(rows, key=lambda row: row.run_id):
        sight = Sight([], 0, False)
        for part in parts:
            sight = sight._replace(last=part.last_seq, open=part.open)
            if part.body is not None:
                sight = _seen(sight, part)
        seen[run_id] = sight
    return seen


def _seen(sight: Sight, part: Row[Any]) -> Sight:
    """With what the next segment has. One that is damaged is its own readers' matter, not that of all who look."""
    try:
        entries = segments.decode(part.run_id, part.body)
    except ProxyError:
        return sight._replace(damaged=True)
    sight.entries.extend(entry for entry in entries if entry.seq > part.after)
    return sight._replace(trimmed=sight.trimmed or entries[0].seq > max(part.first_seq, part.after + 1))


def standing(connection: Connection, asked: Sequence[tuple[str, int]]) -> dict[str, Sight]:
    """The same without the entries, for a database that one process has to itself: others write nothing to it."""
    run_ids, run, segment = [run_id for run_id, _ in asked], tables.runs.c, tables.segments.c
    going = set(connection.execute(select(run.run_id).where(tables.OPEN, run.run_id.in_(run_ids))).scalars())
    ends = select(segment.run_id, func.max(segment.last_seq)).where(segment.run_id.in_(run_ids))
    last = {row[0]: row[1] for row in connection.execute(ends.group_by(segment.run_id))}
    return {run_id: Sight([], last.get(run_id, 0), run_id in going) for run_id in going | last.keys()}


def workflow_ends(connection: Connection, names: Sequence[tuple[str, str]]) -> dict[str, int]:
    """See `bells.Ends`."""
    column = workflow_tables.workflows.c
    named = tuple_(column.tenant, column.run_id).in_(names)
    return {row.run_id: row.last_seq for row in connection.execute(select(column.run_id, column.last_seq).where(named))}

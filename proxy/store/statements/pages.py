"""How much of a long result is in memory: SQLite gives rows as they are asked for, PostgreSQL all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, CursorResult, Select, func, select

AT_ONCE = 100
"""Rows of a long result that are fetched together."""


def within(
    connection: Connection, asked: Select[Any], order: Column[Any], size: ColumnElement[int], most: int
) -> Select[Any]:
    """The rows asked for, in that order, up to the one with which their sizes together go over `most`."""
    if connection.dialect.name != "postgresql":
        return asked  # whoever reads them stops there
    before = func.sum(size).over(order_by=order, rows=(None, -1)).label("before")
    rows = asked.add_columns(before).subquery()
    kept = [rows.c[column.name] for column in asked.selected_columns]
    return select(*kept).where(func.coalesce(rows.c.before, 0) <= most).order_by(rows.c[order.name])


@contextmanager
def streamed(connection: Connection, asked: Select[Any]) -> Iterator[CursorResult[Any]]:
    """All rows, a few at a time; only for a connection that reads."""
    by_cursor = connection.dialect.name == "postgresql"
    if by_cursor:
        connection.exec_driver_sql("BEGIN")
    try:
        with connection.execute(asked, execution_options={"yield_per": AT_ONCE}) as rows:
            yield rows
    finally:
        if by_cursor:
            connection.exec_driver_sql("ROLLBACK")

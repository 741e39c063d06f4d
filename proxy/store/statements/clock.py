"""The store's clock, as SQL: processes that share a store go by it, whatever their own clocks say."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class now(FunctionElement[float]):  # noqa: N801 - reads like the functions of SQL that stand beside it
    """Seconds since 1970, the same throughout one statement, so that an index can be searched for it."""

    type = Double()
    inherit_cache = True


@compiles(now, "postgresql")
def _postgresql(_element: now, _compiler: Any, **_options: Any) -> str:
    return "CAST(extract(epoch FROM statement_timestamp()) AS DOUBLE PRECISION)"


@compiles(now, "sqlite")
def _sqlite(_element: now, _compiler: Any, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"

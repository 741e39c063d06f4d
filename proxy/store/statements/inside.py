"""What a database can tell of JSON that callers look for in records: not all, so what it finds is looked at again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, ColumnElement, Text, case, cast, true

PLAIN_KEY = re.compile(r"\w+", re.ASCII)
"""Keys that each database can look up."""
UNCLEAR = ("\\u0000", "\\ud")
"""PostgreSQL keeps JSON with these escapes, NUL and halves of characters, but cannot look into it."""


def may_have(column: Column[Any], key: str, value: str) -> Iterator[ColumnElement[bool]]:
    """A condition that holds of all objects in which the key has this value, and maybe of some others."""
    if PLAIN_KEY.fullmatch(key) and "\0" not in value:
        whole = cast(column, Text)
        unclear = whole.contains(UNCLEAR[0], autoescape=True) | whole.contains(UNCLEAR[1], autoescape=True)
        yield case((unclear, true()), else_=column[key].as_string() == value)

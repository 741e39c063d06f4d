"""Whether JSON holds other JSON: how records are looked up by what callers wrote into them."""

from __future__ import annotations

from typing import Any


def contains(whole: Any, part: Any) -> bool:
    """Whether JSON holds other JSON: of an object some of its fields, of a list some of its elements."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(contains(one, wanted) for one in whole) for wanted in part)
    return type(whole) is type(part) and bool(whole == part)

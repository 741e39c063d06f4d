"""Queries of the native routes, where a parameter may stand several times or be a JSON list."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request

from proxy.api.errors import clean
from proxy.errors import ConfigError, Unprocessable
from proxy.schema import fit

YES = frozenset({"1", "true", "yes"})
_listed = msgspec.json.Decoder(list[str])


def said_yes(text: str) -> bool:
    return text.lower() in YES


def many(request: Request[Any, Any, Any], name: str, kind: Any) -> tuple[str, ...]:
    """All values of a parameter: given once or several times, or as a JSON list. Empty ones count for nothing.

    `kind` is a type of text. Raises `Unprocessable` for a value that is none.
    """
    given = [value for text in request.query_params.getall(name, []) if text for value in _values(name, text)]
    try:
        return tuple(fit(given, list[kind], f"$.{name}"))
    except ConfigError as error:
        raise Unprocessable(f"The query is wrong: {clean(str(error))}.", param=name) from error


def _values(name: str, text: str) -> list[str]:
    if not text.startswith("["):
        return [text]
    try:
        return _listed.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unprocessable(f"The query is wrong: `{name}` is no list of words.", param=name) from error

"""What routes read of a request beside its body: whose it is, and its query."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from litestar import Request

from proxy.api.auth import Caller
from proxy.api.errors import clean
from proxy.errors import ConfigError, Unprocessable
from proxy.schema import fit

T = TypeVar("T", bound=msgspec.Struct)

ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""An id that Runwire made: a UUID in lower case."""


def tenant_of(request: Request[Any, Any, Any]) -> str:
    caller: Caller = request.scope["state"]["caller"]
    return caller.tenant


def query(request: Request[Any, Any, Any], shape: type[T]) -> T:
    """The query as a struct; what it has no field for is ignored. Raises `Unprocessable` naming the place."""
    return converted(dict(request.query_params.multi_items()), shape)


def converted(given: dict[str, Any], shape: type[T]) -> T:
    """A query that was taken apart already. Raises as `query` does."""
    try:
        return fit(given, shape, "$")
    except ConfigError as error:
        raise Unprocessable(f"The query is wrong: {clean(str(error))}.") from error

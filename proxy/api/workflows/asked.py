"""What requests of the workflow dialect bring: bodies, queries, ids. All that does not fit is 400 there, never 422."""

from __future__ import annotations

import uuid
from typing import Any, TypeVar, cast

import msgspec
from litestar import Request

from proxy.api.asgi import Receive
from proxy.api.errors import clean
from proxy.api.parse import decode, read_body
from proxy.errors import BadRequest
from proxy.settings import RequestLimits

T = TypeVar("T")


async def body_of(request: Request[Any, Any, Any], decoder: msgspec.json.Decoder[T], limits: RequestLimits) -> T:
    """The decoded body. Raises `BadRequest` naming the field."""
    return decode(await read_body(cast(Receive, request.receive)), decoder, limits)


def query_of(request: Request[Any, Any, Any], shape: type[T]) -> T:
    """The query as a struct; what it has no field for is ignored. Raises `BadRequest` naming the parameter."""
    given = dict(request.query_params.multi_items())
    try:
        return msgspec.convert(given, shape, strict=False)
    except msgspec.ValidationError as error:
        place = str(error).partition(" - at `$.")[2]
        raise BadRequest(f"The query is wrong: {clean(str(error))}.", param=place.rstrip("`") or None) from error


def id_of(text: str, thing: str) -> str:
    """A UUID from a path, in lower case. Raises `BadRequest`."""
    try:
        return str(uuid.UUID(text)) if len(text) == 36 else _refuse(thing)
    except ValueError:
        return _refuse(thing)


def _refuse(thing: str) -> str:
    raise BadRequest(f"The id of a {thing} is a UUID.", param=f"{thing}_id")

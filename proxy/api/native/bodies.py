"""Bodies of the runs API, where one that does not fit is 422 and not 400."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec
from litestar import Request

from proxy.api.asgi import Receive
from proxy.api.parse import decode, read_body
from proxy.errors import BadRequest, Unprocessable
from proxy.settings import RequestLimits

T = TypeVar("T")


async def body_of(request: Request[Any, Any, Any], decoder: msgspec.json.Decoder[T], limits: RequestLimits) -> T:
    """The decoded body. Raises `Unprocessable` whose text names the field."""
    return fitting(await read_body(cast(Receive, request.receive)), decoder, limits)


def fitting(sent: bytes, decoder: msgspec.json.Decoder[T], limits: RequestLimits) -> T:
    """As `body_of`, of a body that has been read."""
    try:
        return decode(sent, decoder, limits)
    except BadRequest as error:
        # This dialect has no field for the place, so the text must name it.
        named = not error.param or error.message.startswith(error.param)
        raise Unprocessable(error.message if named else f"{error.param}: {error.message}", param=error.param) from error

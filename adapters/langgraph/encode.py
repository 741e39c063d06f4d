"""Anything that a graph's state can hold, as the JSON that the official server makes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import Any

import msgspec
from msgspec import Raw
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from adapters.langgraph.messages import utf8


def encoded(value: Any) -> bytes:
    """JSON of a value. What JSON has no word for is null; half a surrogate pair becomes U+FFFD."""
    try:
        return ENCODER.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value, enc_hook=_parts), ensure_ascii=False)
        return utf8(text).encode()


def raw(value: Any) -> Raw:
    """`encoded`, for a field of a struct."""
    return Raw(encoded(value))


def described(error: BaseException) -> dict[str, str]:
    """An exception as clients of the native API know it."""
    return {"error": type(error).__name__, "message": str(error)}


def _hook(value: Any) -> Any:
    if isinstance(value, BaseModel):
        try:
            return Raw(value.__pydantic_serializer__.to_json(value))
        except PydanticSerializationError:
            pass
    return _parts(value)


def _parts(value: Any) -> Any:
    """Something that JSON has a word for. None, truth values and tuples arrive here only as keys of a dict."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, BaseException):
        return described(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, tuple | PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, AbstractSet) else None


ENCODER = msgspec.json.Encoder(enc_hook=_hook, decimal_format="number")

"""Text that every wire can carry: lone surrogates, which no UTF-8 has, are replaced where an agent's words come in."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from proxy.events import Event

_encode = msgspec.json.Encoder().encode

E = TypeVar("E", bound=Event)


def sound(event: E) -> tuple[E, int]:
    """The event, with U+FFFD in place of what cannot be written, and its size in bytes."""
    try:
        return event, len(_encode(event))
    except UnicodeEncodeError:
        mended = msgspec.convert(_cleaned(msgspec.structs.asdict(event)), type(event))
        return mended, len(_encode(mended))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_cleaned(name): _cleaned(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_cleaned(inner) for inner in value)
    if isinstance(value, msgspec.Struct):
        return msgspec.convert(_cleaned(msgspec.structs.asdict(value)), type(value))
    return value

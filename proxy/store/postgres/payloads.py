"""Signals as the texts that NOTIFY carries, each of less than 8,000 bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from proxy.store.signals import ANY, Signal, Topic

MOST = 7900
"""Bytes of a payload."""
MANY = 500
"""Names of one topic in a transaction; where there are more, all who listen to it are told to look."""


class Payload(msgspec.Struct, frozen=True, array_like=True):
    """Who signals, and what: names by topics."""

    origin: str
    names: dict[Topic, list[str]]

    def signals(self) -> Iterator[Signal]:
        return ((topic, name) for topic, names in self.names.items() for name in names)


decode = msgspec.json.Decoder(Payload).decode
encode = msgspec.json.Encoder().encode


def channel_of(schema: str) -> str:
    """What the processes listen to that share this schema; a name that PostgreSQL does not cut off."""
    return f"runwire_{blake2b(schema.encode(), digest_size=8).hexdigest()}"


def payloads(origin: str, signals: Iterable[Signal]) -> list[str]:
    """The texts that carry these signals, each of them once."""
    found: dict[Topic, dict[str, int]] = {}
    for topic, name in signals:
        found.setdefault(topic, {})[name] = len(encode(name)) + 1
    return [encode(Payload(origin, part)).decode() for part in _parts(found)]


def _parts(found: dict[Topic, dict[str, int]]) -> Iterator[dict[Topic, list[str]]]:
    part: dict[Topic, list[str]] = {}
    room = MOST - 100
    for topic, names in found.items():
        if len(names) > MANY or ANY in names or max(names.values()) > room - 20:
            names = {ANY: 3}
        for name, size in names.items():
            if size + 20 > room:
                yield part
                part, room = {}, MOST - 100
            part.setdefault(topic, []).append(name)
            room -= size + (20 if len(part[topic]) == 1 else 0)
    if part:
        yield part

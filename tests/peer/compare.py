"""How what two servers answered differs, and which of it is meant to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ABSENT = "<absent>"
LISTED = Path(__file__).with_name("differences.yaml")


@dataclass(frozen=True)
class Difference:
    """One place where the servers differ. `where` is a path: `label.status`, `label.events[2].data.x`."""

    scenario: str
    where: str
    official: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.scenario}: {self.where}\n  official: {self.official!r:.400}\n  ours:     {self.ours!r:.400}"


@dataclass(frozen=True)
class Intended:
    """A difference that is meant: the scenarios and places it may show in, as patterns, and why."""

    id: str
    scenario: str
    where: str
    reason: str
    official: str = ".*"
    ours: str = ".*"

    def covers(self, difference: Difference) -> bool:
        pairs = (
            (self.scenario, difference.scenario),
            (self.where, difference.where),
            (self.official, repr(difference.official)),
            (self.ours, repr(difference.ours)),
        )
        return all(re.fullmatch(pattern, text, re.DOTALL) for pattern, text in pairs)


def intended() -> list[Intended]:
    return [Intended(**entry) for entry in yaml.safe_load(LISTED.read_text()) or ()]


def differences(scenario: str, official: Any, ours: Any) -> list[Difference]:
    return [Difference(scenario, where, *pair) for where, pair in _differing("", official, ours)]


def unlisted(found: Iterable[Difference], listed: list[Intended]) -> list[Difference]:
    return [each for each in found if not any(entry.covers(each) for entry in listed)]


def _differing(where: str, official: Any, ours: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(official, dict) and isinstance(ours, dict):
        for key in official | ours:
            yield from _differing(f"{where}.{key}".lstrip("."), official.get(key, ABSENT), ours.get(key, ABSENT))
    elif isinstance(official, list) and isinstance(ours, list):
        yield from _lists(where, official, ours)
    elif type(official) is not type(ours) or official != ours:
        yield where, (official, ours)


def _lists(where: str, official: list[Any], ours: list[Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Element by element; lists that are not as long, or streams with other events, differ as one."""
    names = [[each.get("event") if isinstance(each, dict) else None for each in side] for side in (official, ours)]
    if names[0] != names[1]:
        told = names if any(names[0]) or any(names[1]) else [official, ours]
        yield f"{where}[]", (told[0], told[1])
        return
    for index, pair in enumerate(zip(official, ours, strict=True)):
        yield from _differing(f"{where}[{index}]", *pair)

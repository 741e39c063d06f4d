"""Reads objects of a document whose fields may be anything, and notes all that is wrong instead of stopping at it.

A null counts as absent, and so does an empty text where a name belongs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from proxy.workflows.issues import LONGEST, Code, Faults, Path, short

W = TypeVar("W", bound=str)

LARGEST = 2**53 - 1
KINDS = {dict: "an object", list: "an array", str: "a text", bool: "true or false", int: "a whole number"}


class Fields:
    """One object: each question for a field notes what is wrong with it, `close` what was never asked for."""

    def __init__(self, given: dict[str, Any], path: Path, faults: Faults) -> None:
        self.given = given
        self.path = path
        self.faults = faults
        self._asked: set[str] = set()

    def fault(self, code: Code, name: str, message: str) -> None:
        self.faults.add(code, (*self.path, name), message)

    def has(self, name: str) -> bool:
        """Whether it is there, and neither null nor empty."""
        return self.given.get(name) not in (None, "", [], {})

    def any(self, name: str) -> Any:
        self._asked.add(name)
        return self.given.get(name)

    def typed(self, name: str, kind: type, code: Code = Code.INVALID_TYPE) -> Any:
        """The field if it is of that type, else None."""
        value = self.any(name)
        if value is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fault(code, name, f"`{name}` must be {KINDS[kind]}; it is {told(value)}")
            return None
        return value

    def text(self, name: str, *, required: str = "", most: int | None = None) -> str:
        """A text, "" if there is none; `required` says what to do about that."""
        value: str = self.typed(name, str) or ""
        if required and not value and self.given.get(name) in (None, ""):
            self.fault(Code.MISSING_FIELD, name, f"`{name}` is missing: {required}")
        if most is not None and len(value) > most:
            self.fault(Code.INVALID_VALUE, name, f"`{name}` must have at most {most} characters")
        return value

    def whole(self, name: str, *, most: int = LARGEST, least: int = 1) -> int | None:
        value: int | None = self.typed(name, int, Code.INVALID_LIMIT)
        if value is None or least <= value <= most:
            return value
        self.fault(Code.INVALID_LIMIT, name, f"`{name}` must be a whole number from {least} to {most}")
        return None

    def flag(self, name: str) -> bool:
        return bool(self.typed(name, bool))

    def word(self, name: str, words: Iterable[W], otherwise: W, code: Code = Code.INVALID_VALUE) -> W:
        """One of some words; `otherwise` if there is none, or none that is known."""
        value = self.any(name)
        known = list(words)
        if value is None or value == "":
            return otherwise
        for each in known:
            if each == value:
                return each
        self.fault(code, name, f"`{name}` must be one of {', '.join(known)}; it is {told(value)}")
        return otherwise

    def listed(self, name: str) -> Iterator[tuple[Path, Any]]:
        for index, value in enumerate(self.typed(name, list) or ()):
            yield (*self.path, name, index), value

    def texts(self, name: str, what: str) -> list[tuple[Path, str]]:
        """The elements of an array of names."""
        found = []
        for path, value in self.listed(name):
            if isinstance(value, str) and value:
                found.append((path, value))
            else:
                self._wrong_element(path, name, what, value)
        return found

    def objects(self, name: str) -> Iterator[Fields]:
        for path, value in self.listed(name):
            if isinstance(value, dict):
                yield Fields(value, path, self.faults)
            else:
                self._wrong_element(path, name, "an object", value)

    def _wrong_element(self, path: Path, name: str, what: str, value: Any) -> None:
        self.faults.add(Code.INVALID_TYPE, path, f"each element of `{name}` must be {what}; it is {told(value)}")

    def inner(self, name: str) -> Fields | None:
        value = self.typed(name, dict)
        return Fields(value, (*self.path, name), self.faults) if value is not None else None

    def close(self, elsewhere: Mapping[str, str] | None = None) -> None:
        """Notes all other fields; `elsewhere` says of known names where they belong."""
        for name, value in self.given.items():
            if self.faults.full:
                return
            if name in self._asked or value is None:
                continue
            if elsewhere and name in elsewhere:
                cure = f"`{name}` belongs to {elsewhere[name]}; take it out"
            else:
                cure = f"there is no field `{short(name)}` here{like(name, self._asked if self.faults.few else ())}"
            self.fault(Code.UNKNOWN_FIELD, name, cure)


def told(value: Any) -> str:
    """What a value is, for a message."""
    if isinstance(value, str):
        return f"`{short(value)}`" if value else "empty"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return KINDS.get(type(value), "a number")


def like(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name."""
    close = difflib.get_close_matches(name, list(known)[:50], n=1) if len(name) <= LONGEST else []
    return f"; did you mean `{close[0]}`?" if close else "; take it out"

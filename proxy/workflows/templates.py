"""Placeholders in texts: `{{name}}`, also `{{ name }}` and `{{name.key.0}}`. All else in braces is text.

A text is read once and filled in one pass: what is filled in is never read again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_HOLE = re.compile(r"\{\{\s{0,20}([A-Za-z_][\w-]{0,127}(?:\.[\w-]{1,128}){0,20})\s{0,20}\}\}", re.ASCII)


def holes(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The name of each placeholder, and the keys after it."""
    for match in _HOLE.finditer(text):
        name, *keys = match[1].split(".")
        yield name, tuple(keys)


def filled(text: str, value: Callable[[str, tuple[str, ...]], str]) -> Iterator[str]:
    """The text in pieces, with each placeholder's value in its place."""
    end = 0
    for match in _HOLE.finditer(text):
        yield text[end : match.start()]
        name, *keys = match[1].split(".")
        yield value(name, tuple(keys))
        end = match.end()
    yield text[end:]

"""Fills `${NAME}` and `${NAME:-default}` in texts; `$$` is a dollar.

As in a shell, the default stands in for a variable that is unset or empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from proxy.errors import ConfigError

REFERENCE = re.compile(r"\$(?:\$|\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\})?)")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with its references filled in. Raises `ConfigError`, without a place, naming the variable."""

    def filled(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name, default = match["name"], match["default"]
        if name is None:
            raise ConfigError("`${` does not begin `${NAME}` or `${NAME:-default}`; a dollar itself is written `$$`")
        value = variables.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise ConfigError(f"`{name}` is not set")
        return value

    return REFERENCE.sub(filled, text)


def names(text: str) -> tuple[str, ...]:
    """The variables that a text refers to."""
    return tuple(match["name"] for match in REFERENCE.finditer(text) if match["name"])

"""The smallest agent: an async generator that says back what it was told, word by word."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Protocol


class Spoken(Protocol):
    """All that is needed of a request: the text of the last user message."""

    @property
    def text(self) -> str: ...


async def echo(request: Spoken) -> AsyncGenerator[str]:
    """The user's text, with its white space as it was."""
    for word in re.findall(r"\s*\S+\s*", request.text) or ["Say something, and I say it back."]:
        yield word

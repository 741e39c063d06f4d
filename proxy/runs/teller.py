"""How this room reads and writes the messages of a state, whose form is a wire's: one that knows it is handed in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import msgspec
from msgspec import Raw

from proxy.errors import BadRequest
from proxy.events import Event
from proxy.messages import Message

EMPTY = Raw(b'{"messages":[]}')
"""The state of a conversation that has not begun."""


class Fold(Protocol):
    """What the events of a run make of a state. Fed all of them in order, the final one included."""

    def feed(self, event: Event) -> None: ...

    def values(self) -> Raw:
        """The state: all messages that are whole, and after a failure or a cancel no call that nobody answered."""
        ...


class Teller(Protocol):
    """States as JSON, messages in whatever form. All raise `msgspec.ValidationError`, naming what cannot be read.

    `seed` gives the ids of messages that have none: the same seed gives the same ids again.
    """

    def apply(self, values: Raw, given: Raw, seed: str) -> Raw:
        """The state with an input or an update: messages are appended, replace the one of their id, or remove it."""
        ...

    def follow(self, values: Raw, messages: Sequence[Message], seed: str) -> Raw:
        """The state that a client shows, who sends the whole conversation: what it has in common keeps its ids."""
        ...

    def messages(self, values: Raw, *, waiting: bool = False) -> tuple[Message, ...]:
        """The conversation for an agent, without calls that nobody answered and thoughts of earlier turns.

        `waiting`: those at its end are kept, for they are being answered.
        """
        ...

    def fold(self, before: Raw) -> Fold: ...


@contextmanager
def refusals() -> Iterator[None]:
    """Make a `BadRequest` of what a teller refuses."""
    try:
        yield
    except msgspec.ValidationError as error:
        text = str(error)
        raise BadRequest(f"{text[:1].upper()}{text[1:]}.") from error

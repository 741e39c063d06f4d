"""The order for a run, which the manager takes."""

from __future__ import annotations

import msgspec

from proxy.adapter import RunInput
from proxy.model import Choices, Idempotency, Pause, Thread


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be made. `pause` is what it answers, `group` the request it shares with others."""

    input: RunInput
    choices: Choices = Choices()
    pause: Pause | None = None
    group: str | None = None
    idempotency: Idempotency | None = None
    durable: bool = False
    """True: the record is on disk before `create` returns."""
    background: bool = False
    """Nobody waits for it at once: it is left to workers, if there are any for its agent."""
    thread: Thread | None = None
    """The record of its thread, if there is none yet; one that is there gets the metadata."""
    delay: float = 0.0
    """Seconds until it may start."""
    webhook: str | None = None
    """The webhook that is called when it has ended."""

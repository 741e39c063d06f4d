"""Keeps a thread's state in step with the runs on it."""

from __future__ import annotations

from typing import Protocol

from proxy.adapter import RunInput
from proxy.events import Final
from proxy.model import ThreadOutcome


class NothingToDo(Exception):
    """The thread has nothing that its agent could go on with: the run is complete before it begins."""


class Keeper(Protocol):
    """Looks after the state of one run's thread: `begin` is called once, and after it, or instead, `end` or `part`."""

    async def begin(self, asked: RunInput) -> RunInput:
        """Called in the run's own task, before its agent starts. Returns what the agent is given.

        What it raises ends the run as if the agent had raised it, but for `NothingToDo`, which completes it.
        """
        ...

    async def end(self, final: Final) -> ThreadOutcome | None:
        """Called when the agent has stopped or was abandoned, before the end is stored: how the run leaves the thread.

        None where there is nothing to say. A run that was rolled back leaves it as it was before.
        """
        ...

    async def part(self) -> None:
        """Called in place of `end` where the run goes on in another process: the thread is that one's from now on."""
        ...

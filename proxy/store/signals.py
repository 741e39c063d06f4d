"""What has just happened, told to whoever wants to know, in this process and in all that share the store.

A signal is a hint. Losing one costs time and never truth, since whoever listens also looks by itself now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

Hear = Callable[[str], None]


class Topic(StrEnum):
    """What a signal is about, and what it names."""

    QUEUE = "q"
    """A run waits, or a thread has become free. Names nothing."""
    CANCEL = "c"
    """A run is to be cancelled: its id."""
    LOG = "l"
    """A run's log has grown or its record has changed: its id."""
    THREAD = "t"
    """A run was made on a thread: `thread_key` of it, a space, the run's id."""
    WORKFLOW = "w"
    """A workflow run's log has grown, or somebody wants something of it: its id."""
    CRONS = "s"
    """Crons have changed. Names nothing."""


Signal = tuple[Topic, str]


class Signals:
    """Signals within one process. Those between processes are made of these, and carry them on."""

    def __init__(self) -> None:
        self._heard: dict[Topic, list[Hear]] = {}

    def hear(self, topic: Topic, act: Hear) -> None:
        """Call `act` with the name at each signal, on the loop's thread. It must neither raise nor wait."""
        self._heard.setdefault(topic, []).append(act)

    def ring(self, signals: Iterable[Signal]) -> None:
        """Tell those in this process."""
        for topic, name in signals:
            for act in self._heard.get(topic, ()):
                act(name)

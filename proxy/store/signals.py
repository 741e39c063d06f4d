"""What has just happened, told to listeners in this process and in all that share the store.

A signal is a hint. Losing one costs time and never truth, since every listener also looks by itself now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from urllib.parse import quote, unquote

from proxy.model import Run

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
    """A run was made on a thread: both, as `made` writes and `made_on` reads them."""
    WORKFLOW = "w"
    """A workflow run's log has grown: its id."""
    WANTED = "a"
    """Somebody wants something of a workflow run: its id. With no name, one may have lost who conducted it."""
    CRONS = "s"
    """Crons have changed. Names nothing."""


Signal = tuple[Topic, str]
ANY = ""
"""Stands for all names where it is not known which: signals may have been lost."""


def made(run: Run) -> Signal:
    """A run was made on its thread."""
    return Topic.THREAD, " ".join(quote(part, safe="") for part in (run.tenant, run.thread_id, run.run_id))


def made_on(name: str) -> tuple[str, str, str]:
    """Tenant, thread and run that such a signal names."""
    tenant, thread_id, run_id = (unquote(part) for part in name.split(" "))
    return tenant, thread_id, run_id


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

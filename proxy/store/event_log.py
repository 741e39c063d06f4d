"""The port for logs: what a run's owner writes and everybody may follow."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from proxy.events import Entry, Event
from proxy.model import Pause, Run, ThreadOutcome


class RunLog(Protocol):
    """The owner's handle on one run's log: it alone appends."""

    run: Run
    last: int
    """Number of the last entry."""
    bytes: int
    """Bytes of it on disk."""

    @property
    def full(self) -> bool:
        """True while too much is queued for the disk; `drain` before appending more."""
        ...

    @property
    def last_at(self) -> float:
        """When the last entry was written, in seconds since 1970."""
        ...

    @property
    def followed(self) -> bool:
        """Somebody in this process follows it now."""
        ...

    def append(self, event: Event) -> int:
        """Number the event, wake the followers, queue the write. Raises `LeaseLost` after `settle`."""
        ...

    async def drain(self) -> None:
        """Wait until the queue has room."""
        ...

    async def settle(
        self, final: Event, run: Run, pause: Pause | None = None, *, thread: ThreadOutcome | None = None
    ) -> bool:
        """Make the end durable (event, run, pause and thread in one commit), then show it to the followers.

        The first call that succeeds wins; the others wait for it and return False. `run` is the record as it
        ended; its input is what it began with. Raises `Unavailable` if the store does not take it; the log is then
        still open and settling may be tried again.
        """
        ...

    def give_up(self, final: Event, run: Run) -> None:
        """Show an end that the store does not take now to the followers; it is written once the store is back."""
        ...


class EventLog(Protocol):
    """The logs of all runs."""

    def begin(self, run: Run, *, inserted: bool, after: int = 0) -> RunLog:
        """Begin the log of a run this process owns. With `inserted` false, the first write stores the record too.

        Its entries are numbered from `after + 1`; what is on disk below that stays readable."""
        ...

    async def read(self, run_id: str, *, after: int, limit: int) -> list[Entry]:
        """Entries numbered above `after`, in order, at most `limit`; an unknown run has none.

        Only an empty list says that there are no more: large entries come a few at a time."""
        ...

    async def last(self, run_id: str) -> int:
        """The number of a run's last entry as far as this process can know, 0 if it has none."""
        ...

    def follow(
        self,
        run_id: str,
        *,
        after: int = 0,
        idle: float = 15.0,
        first: float | None = None,
        sink: Callable[[Entry], bool] | None = None,
    ) -> AsyncGenerator[list[Entry]]:
        """Replay and live in one: all entries that are ready, no gap, no duplicate, until the final one.

        Yields an empty list after `idle` seconds of silence (0: never); before the first new entry after `first`.
        Ends by itself after the final entry, at once if `after` is at or past it, and when the run is unknown.
        A run that waits, or that another process has, is followed just so, and goes on over the loss of its process:
        the numbers jump then, and a `RunStarted` says in `resumes_after` up to where what came before still counts.
        Raises `LogTrimmed` where entries after the cursor are no longer kept, and `Draining` after `leave_logs`. Where
        the store is away from the first, raises `Unavailable`; if it goes away later, that is silence until it is back,
        and `Unavailable` only after two minutes of it. Never blocks the writer.

        While the follower waits here, a new entry is first offered to `sink`, in the writer's own turn: if that
        returns True the entry counts as yielded. It must neither raise nor wait. Final entries are not offered.
        """
        ...

    def leave_logs(self) -> None:
        """Let all go who follow runs here that this process does not have: they get `Draining`, now and from now on."""
        ...

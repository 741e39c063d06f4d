"""The lease of this process on the runs that it owns: only while it holds, the process writes and shows their logs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from proxy.model import new_id


class Lease:
    """Held until `deadline`, which each renewal moves on; in a store of one process it never runs out.

    Past its deadline the process buffers what its runs say and shows nothing, until it has renewed or has learned
    that its runs were taken. All of it is for the loop's thread, but for `owner`.
    """

    __slots__ = ("_listeners", "deadline", "owner", "seconds")

    def __init__(self, seconds: float = math.inf) -> None:
        self.seconds = seconds
        self.owner = new_id()
        """The process as the owner of runs; another one after each loss."""
        self.deadline = math.inf
        """On the monotonic clock, which goes on while a process is stopped."""
        self._listeners: list[Callable[[bool], None]] = []

    @property
    def ends(self) -> bool:
        """It runs out unless it is renewed: the process has joined others, who may take its runs."""
        return self.deadline < math.inf

    def holds(self) -> bool:
        """True while what this process says of its runs counts."""
        return time.monotonic() < self.deadline

    def listen(self, act: Callable[[bool], None]) -> None:
        """Call `act` after each renewal that came late (with True), and after each loss (with False)."""
        self._listeners.append(act)

    def renew(self, since: float) -> None:
        """It was renewed by a request that was sent at `since`, on the monotonic clock."""
        late = not self.holds()
        self.deadline = since + self.seconds
        if late:
            self._tell(True)

    def lose(self) -> None:
        """The runs were taken: they are others' now, and the process goes on under another name."""
        self.owner = new_id()
        self.deadline = -math.inf
        self._tell(False)

    def _tell(self, kept: bool) -> None:
        for act in self._listeners:
            act(kept)

"""The port for who runs what: the `runs` table is the queue, on every backend.

A process owns the runs that it has under way, by a lease on all of them together: one row of `servers`, renewed every
few seconds. Who finds a row whose time is over deletes it, and takes its runs, in one transaction; every transaction
of an owner makes sure that its own row is still there. So a run has one writer at a time, and nobody needs to be
asked. A store that nobody shares has one process, whose lease never runs out.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, Protocol

import msgspec

from proxy.model import Action, Run
from proxy.store.lease import Lease
from proxy.store.signals import Signals


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A process that runs agents, as the others see it. Times are seconds since 1970, by the store's clock."""

    server_id: str
    kind: Literal["server", "worker"] = "server"
    host: str = ""
    pid: int = 0
    agents: frozenset[str] = frozenset()
    """Agents that it can run; of a server, all that its config names."""
    started_at: float = 0.0
    lease_until: float = 0.0


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A run that lost its process, and is this one's now. `last` is the number of its last entry in the store."""

    run: Run
    last: int


class ClaimStore(Protocol):
    """Who runs what. `owner` of every run that is handed out here is `lease.owner`, and its status is running."""

    shared: bool
    """Other processes may use the same store: a run that others are told of has to be in it."""
    lease: Lease
    signals: Signals

    async def claim(self, agents: Collection[str], *, limit: int) -> list[Run]:
        """Waiting runs, now running and this process's, at most `limit`.

        A run may start when its time has come (by the store's clock), its agent is one of `agents`, its thread has no
        run under way and no older one that waits and is due. Hidden threads have one run, and nothing to wait for but
        the time. One with `cancel` set may be had at any time and for any agent, and is to be ended at once.

        Fair: the tenant that has fewest runs under way comes first, then the oldest run. Two processes that claim at
        once get different runs, and neither waits for the other.
        """
        ...

    async def take(self, tenant: str, run_id: str) -> Run | None:
        """One waiting run, whatever it waits for, to be ended by this process; None if it does not wait (any more).

        Nobody's `hold` of its thread keeps it back."""
        ...

    async def due_at(self, agents: Collection[str]) -> float | None:
        """When the next delayed run of these agents may start, in seconds since 1970; None if there is none."""
        ...

    async def release(self, run: Run) -> bool:
        """Let a run of this process wait again, for its `attempt` as given here, which has not begun. What its log has
        is in the store then, and who follows it goes on. False if it is not this process's."""
        ...

    async def waiting(self) -> dict[tuple[str, str], int]:
        """How many runs wait, by tenant and agent."""
        ...

    async def ask_cancel(self, tenant: str, run_id: str, action: Action) -> Run | None:
        """Durably mark a run that has not ended as to be cancelled, and signal its owner; the first action wins.

        Returns the record as it is then, one that has ended as it ended; None if there is no such run. A run that is
        not in the store yet is only returned: its end will be its first record.
        """
        ...

    async def to_cancel(self) -> list[Run]:
        """Runs of this process that are marked as to be cancelled, without their input."""
        ...

    async def join(self, server: Server) -> None:
        """Be seen by others, as `lease.owner` whatever `server_id` says, from now on; its time begins."""
        ...

    async def renew(self) -> bool:
        """Renew the lease, on it and in the store. False if it was lost: `lease` has a new owner then, nothing that was
        begun under the old one can be written any more, and `join` has to be called again.

        Raises `Unavailable`; the lease goes on running out then."""
        ...

    async def leave(self) -> None:
        """Write what is queued, then be gone: runs that are still this process's may be taken at once."""
        ...

    async def servers(self) -> list[Server]:
        """The processes whose lease runs, this one included."""
        ...

    async def take_lost(self, *, limit: int, strays: Collection[Run] = ()) -> list[Lost]:
        """Runs under way whose process is gone or has let its lease run out, and `strays` of this process, now this
        process's, with `attempt` and `losses` one higher. Those of them that were only to be ended wait again.

        The oldest first. Nobody is asked twice: of two processes that look at once, one gets a run."""
        ...

    async def strays(self) -> list[Run]:
        """Runs that the store says are this process's, and that have no log here, without their input: they are to
        begin or to end, or never will."""
        ...

    async def take_stranded(self, agents: Collection[str], *, before: float, limit: int) -> list[Run]:
        """Waiting runs that are due, were made before that time, and are of none of these agents, to be ended by this
        process: nobody is left to run them."""
        ...

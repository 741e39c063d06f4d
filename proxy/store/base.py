"""The port for state: runs, threads, and with `Store` all that a backend has. One class per backend implements it.

`check_store` in `proxy.testing` is the contract in executable form; every backend passes it.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

import msgspec

from proxy.model import Idempotency, Lifetime, Pause, Run, RunStatus, Thread, ThreadOutcome, ThreadStatus
from proxy.store.claims import ClaimStore
from proxy.store.contained import contains
from proxy.store.event_log import EventLog
from proxy.store.native import AssistantStore, CronStore, StateStore
from proxy.store.session import SessionStore
from proxy.store.workflow import WorkflowStore

KEY_AGE = 86400.0
"""Seconds that an idempotency key holds at least, whatever becomes of its run."""
MOST_PAUSES = 1000
"""Pauses that are looked through at most, the newest."""
SWEEP = 500
"""Runs that one `sweep` deletes at most."""


class RunQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list: all conditions must hold, newest first."""

    tenant: str
    thread_id: str | None = None
    group: str | None = None
    statuses: frozenset[RunStatus] | None = None
    gone: bool = False
    """With those that were rolled back."""
    limit: int = 100
    offset: int = 0

    def matches(self, run: Run) -> bool:
        return (
            run.tenant == self.tenant
            and self.thread_id in (None, run.thread_id)
            and self.group in (None, run.group)
            and (self.statuses is None or run.status in self.statuses)
            and (self.gone or run.gone_at is None)
        )


class ThreadQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which threads to list: all conditions must hold. `metadata` and `values` must be contained in the thread's."""

    tenant: str
    ids: frozenset[str] | None = None
    status: ThreadStatus | None = None
    metadata: dict[str, Any] = {}
    values: dict[str, Any] = {}
    sort_by: Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"] = "updated_at"
    descending: bool = True
    limit: int = 10
    offset: int = 0

    @property
    def looks_inside(self) -> bool:
        return bool(self.metadata or self.values)

    def matches(self, thread: Thread) -> bool:
        return (
            thread.tenant == self.tenant
            and (self.ids is None or thread.thread_id in self.ids)
            and self.status in (None, thread.status)
            and contains(thread.metadata, self.metadata)
            and (not self.values or self._holds(thread.outcome))
        )

    def _holds(self, outcome: ThreadOutcome) -> bool:
        return outcome.values is not None and contains(msgspec.json.decode(outcome.values), self.values)


class RunStore(Protocol):
    """The records. Every change of status is a compare-and-set."""

    async def insert(
        self, run: Run, *, idempotency: Idempotency | None = None, thread: Thread | None = None, most: int = 0
    ) -> Run:
        """Store a new run durably and return it, or the run that came with this idempotency key before.

        One that is to run at once is this process's (`owner`). Raises `TooMany` if its tenant has `most` runs of its
        agent that have not ended (0: no bound), those included that are not in the store yet.

        A key holds as long as its run, and 24 hours at least. Raises `Conflict` if it came with another fingerprint
        or its run was deleted; a run whose key was cancelled beforehand is stored as pending, with `cancel` set.

        A run that is not temporary takes its place on its thread, by `choices.strategy`: `reject` raises `Busy` if
        the thread has a run that has not ended; all others make it pending if one runs or is due. It closes the
        thread's pauses. `thread` is stored if there is none of that id; one that is there gets its metadata. While
        somebody has the thread by `hold`, this waits. With `interrupt` or `rollback`, the others are marked as to be
        cancelled, and their owners are told.

        A run that `resumes` another closes that one's pause; raises `NotWaiting` if it is not open any more. All this
        is one transaction.
        """
        ...

    async def cancel_key(self, tenant: str, key: str) -> str | None:
        """The id of the run that this idempotency key made. None if there is none yet: it is remembered then, and
        the run that comes with it never starts."""
        ...

    async def get(self, tenant: str, run_id: str) -> Run | None:
        """The record as it is now, including a run that is not on disk yet."""
        ...

    async def find(self, query: RunQuery) -> list[Run]:
        """The records that match, including runs that are not on disk yet. Sorted by id, which is by age."""
        ...

    async def transition(self, run: Run, *, frm: frozenset[RunStatus]) -> bool:
        """Replace the record if its status is one of `frm`."""
        ...

    async def delete(self, tenant: str, run_id: str) -> bool:
        """Remove record, log and pause of an ended run. False if there is none."""
        ...

    async def strip(self, run: Run) -> None:
        """Delete the content of an ended run: its input and all entries but the final one. The record stays.

        Followers are not cut off: where there are some, it happens when the last one has left."""
        ...

    async def calling(self, *, limit: int) -> list[Run]:
        """Ended runs whose webhook is still to be called, the oldest first, without their input.

        They are this process's from now on: its own, and those of processes that are gone."""
        ...

    async def called(self, tenant: str, run_id: str) -> bool:
        """Forget the webhook of an ended run, and nothing else of its record. False if there is no such run."""
        ...

    async def pauses(
        self, tenant: str, thread_id: str | None = None, *, agent: str | None = None, answered: bool = False
    ) -> list[Pause]:
        """Open, unexpired pauses, newest first: of one thread, or of all threads of one agent.

        With `answered`, those that were answered and would not have expired yet, instead. At most `MOST_PAUSES`."""
        ...

    async def drop_pause(self, tenant: str, run_id: str) -> None:
        """Forget what a run asked, if it is still open: nobody can answer it any more."""
        ...

    async def sweep(self, *, before: float, keep: int, gone: float = 0.0) -> list[Run]:
        """Delete a bounded number of ended runs: older than `before` (seconds since 1970), beyond the newest `keep`
        (0: no bound), or rolled back before `gone`. Returns them, so that adapters can forget their threads."""
        ...


class ThreadStore(Protocol):
    """Threads that callers know. Hidden ones, of runs that nobody comes back to, have no record."""

    def hold(self, tenant: str, thread_id: str) -> AbstractAsyncContextManager[None]:
        """Lock the thread for something else than a run: until it is released, no process makes a run on the thread,
        starts one that waits, or holds it too; others wait. A run that is under way goes on."""
        ...

    async def insert_thread(self, thread: Thread, *, if_exists: Literal["raise", "do_nothing"] = "raise") -> Thread:
        """Store a new thread durably and return it, or with `do_nothing` the one there is. Raises `Conflict`."""
        ...

    async def get_thread(self, tenant: str, thread_id: str) -> Thread | None: ...

    async def patch_thread(
        self, tenant: str, thread_id: str, *, metadata: dict[str, Any], lifetime: Lifetime | None = None
    ) -> Thread | None:
        """Merge into the metadata, key by key; a lifetime replaces the one before. None if there is no such thread."""
        ...

    async def leave_thread(self, tenant: str, thread_id: str, outcome: ThreadOutcome) -> bool:
        """Set what a thread holds, as the end of a run does. False if there is no such thread."""
        ...

    async def delete_thread(self, tenant: str, thread_id: str) -> bool:
        """Remove the record, and all runs of the thread with their logs. False if there was neither.

        Raises `Busy` while a run of it has not ended."""
        ...

    async def find_threads(self, query: ThreadQuery) -> list[Thread]:
        """The threads that match, in the order asked for; equal ones by their ids in the same direction."""
        ...

    async def count_threads(self, query: ThreadQuery) -> int:
        """How many match, whatever `limit` and `offset` say."""
        ...

    async def expired_threads(self, now: float, *, limit: int) -> list[Thread]:
        """Threads of all tenants whose lifetime has run out, those unchanged for longest first. Busy ones are left
        out, and those marked as swept since their last change."""
        ...

    async def mark_swept(self, tenant: str, thread_id: str) -> None:
        """Its lifetime has run out, and begins again with its next change."""
        ...


class Store(
    RunStore,
    ClaimStore,
    ThreadStore,
    EventLog,
    AssistantStore,
    CronStore,
    StateStore,
    WorkflowStore,
    SessionStore,
    Protocol,
):
    """One backend."""

    def version(self) -> str | None:
        """The version of the schema that is there before `open`, which is to be `migrations.HEAD`; None is nothing yet.
        Raises `ConfigError`."""
        ...

    async def open(self, *, migrate: bool = True) -> None:
        """Connect and migrate, or with `migrate` false make sure that nothing is to be migrated.

        Raises `ConfigError` naming the cure."""
        ...

    async def ping(self) -> None:
        """Raises `Unavailable` if the store cannot be reached."""
        ...

    async def close(self) -> None:
        """Write what is queued, and release connections and files."""
        ...

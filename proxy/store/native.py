"""The ports for what only the native runs API keeps: assistants, crons, and states made of transcripts.

Each backend implements them beside those of `proxy.store.base`, and `check_store` holds it to them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Literal, Protocol

import msgspec

from proxy.model import Assistant, Cron, SavedState
from proxy.store.contained import contains


class AssistantQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which assistants to list: all conditions must hold. `metadata` must be contained in the assistant's.

    `name` is a part of it, whatever the case."""

    tenant: str
    ids: frozenset[str] | None = None
    agent: str | None = None
    name: str | None = None
    metadata: dict[str, Any] = {}
    sort_by: Literal["assistant_id", "agent", "name", "created_at", "updated_at"] = "created_at"
    descending: bool = True
    limit: int = 10
    offset: int = 0

    @property
    def looks_inside(self) -> bool:
        return bool(self.name or self.metadata)

    def matches(self, assistant: Assistant) -> bool:
        return (
            assistant.tenant == self.tenant
            and (self.ids is None or assistant.assistant_id in self.ids)
            and self.agent in (None, assistant.agent)
            and (self.name or "").casefold() in assistant.name.casefold()
            and contains(assistant.metadata, self.metadata)
        )

    def sort(self, assistants: list[Assistant]) -> None:
        """Bring them into the order asked for; equal ones by their ids in the same direction."""
        key = attrgetter(self.sort_by, "assistant_id")
        assistants.sort(key=key, reverse=self.descending)


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """What a new version of an assistant changes: `metadata` is merged key by key, and what is None stays.

    The `configurable` of an assistant's config and its `context` are the same: naming one of them sets both."""

    agent: str | None = None
    config: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    name: str | None = None
    description: str | None = None

    def of(self, known: Assistant, version: int) -> Assistant:
        """The new version, as of now."""
        context = self._context(known)
        config = {**(known.config if self.config is None else self.config), "configurable": context}
        if not context:
            del config["configurable"]
        return msgspec.structs.replace(
            known,
            agent=known.agent if self.agent is None else self.agent,
            config=config,
            context=context,
            metadata={**known.metadata, **(self.metadata or {})},
            name=known.name if self.name is None else self.name,
            description=known.description if self.description is None else self.description,
            version=version,
            updated_at=time.time(),
        )

    def _context(self, known: Assistant) -> dict[str, Any]:
        if self.context is not None:
            return self.context
        configurable: dict[str, Any] | None = (self.config or {}).get("configurable")
        return known.context if configurable is None else configurable


class AssistantStore(Protocol):
    """Assistants in all their versions."""

    async def insert_assistant(self, assistant: Assistant) -> Assistant | None:
        """Store a new one as its version 1, durably. None if there is one of that id already."""
        ...

    async def get_assistant(self, tenant: str, assistant_id: str) -> Assistant | None:
        """In the version that is set."""
        ...

    async def revise_assistant(self, tenant: str, assistant_id: str, revision: Revision) -> Assistant | None:
        """Make a new version of the one that is set, numbered one above all that there are, and set that.

        All this is one transaction, so that revisions at once do not undo each other. None if there is no such."""
        ...

    async def set_version(self, tenant: str, assistant_id: str, version: int) -> Assistant | None:
        """Go back to a version. None if there is none of that number."""
        ...

    async def versions(self, tenant: str, assistant_id: str) -> list[Assistant]:
        """All versions, newest first."""
        ...

    async def delete_assistant(self, tenant: str, assistant_id: str) -> bool:
        """With all its versions. False if there is none."""
        ...

    async def find_assistants(self, query: AssistantQuery) -> list[Assistant]:
        """Those that match, in the order asked for; equal ones by their ids in the same direction."""
        ...

    async def count_assistants(self, query: AssistantQuery) -> int:
        """How many match, whatever `limit` and `offset` say."""
        ...


class CronQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which crons to list: all conditions must hold. `metadata` must be contained in the cron's."""

    tenant: str
    assistant_ids: frozenset[str] | None = None
    thread_id: str | None = None
    enabled: bool | None = None
    metadata: dict[str, Any] = {}
    sort_by: Literal[
        "cron_id", "assistant_id", "thread_id", "created_at", "updated_at", "next_run_date", "end_time"
    ] = "created_at"
    descending: bool = True
    limit: int = 10
    offset: int = 0

    def matches(self, cron: Cron) -> bool:
        return (
            cron.tenant == self.tenant
            and (self.assistant_ids is None or cron.assistant_id in self.assistant_ids)
            and self.thread_id in (None, cron.thread_id)
            and self.enabled in (None, cron.enabled)
            and contains(cron.metadata, self.metadata)
        )

    def sort(self, crons: list[Cron]) -> None:
        """Bring them into the order asked for; equal ones by their ids in the same direction, None is the least."""
        key = "next_at" if self.sort_by == "next_run_date" else self.sort_by

        def order(cron: Cron) -> tuple[bool, Any, str]:
            value = getattr(cron, key)
            return value is not None, value or 0.0, cron.cron_id

        crons.sort(key=order, reverse=self.descending)


class CronStore(Protocol):
    """Crons."""

    async def insert_cron(self, cron: Cron) -> None:
        """Store a new one durably."""
        ...

    async def get_cron(self, tenant: str, cron_id: str) -> Cron | None: ...

    async def replace_cron(self, cron: Cron, *, was: Cron) -> bool:
        """Replace the record if it is still `was` in every field: of several that change it at once, one does."""
        ...

    async def delete_cron(self, tenant: str, cron_id: str) -> bool: ...

    async def find_crons(self, query: CronQuery) -> list[Cron]:
        """The crons that match, in the order asked for; equal ones by their ids in the same direction."""
        ...

    async def count_crons(self, query: CronQuery) -> int:
        """How many match, whatever `limit` and `offset` say."""
        ...

    async def due_crons(self, before: float, *, limit: int = 100) -> list[Cron]:
        """Enabled crons of all tenants whose time has come, the most overdue first."""
        ...

    async def next_cron(self) -> float | None:
        """When the next enabled cron is due, in seconds since 1970; None if there is none."""
        ...


class StateStore(Protocol):
    """States of threads whose agents keep none themselves, sorted by `checkpoint_id`, which is by age.

    They go when their thread is deleted, and where it has no record, with the last run of it.
    """

    async def put_states(self, states: Sequence[SavedState]) -> None:
        """Store new ones durably, all of one thread, in one transaction."""
        ...

    async def get_state(self, tenant: str, thread_id: str, checkpoint_id: str | None = None) -> SavedState | None:
        """One state, or the newest."""
        ...

    async def states(
        self, tenant: str, thread_id: str, *, before: str | None = None, run_id: str | None = None, limit: int = 100
    ) -> list[SavedState]:
        """States newest first: below the checkpoint `before`, of that run."""
        ...

    async def cut_states(self, tenant: str, thread_id: str, *, after: str = "") -> None:
        """Delete the states above the checkpoint `after`; all without one."""
        ...

    async def keep_newest_state(self, tenant: str, thread_id: str) -> None:
        """Delete all but the newest."""
        ...

    async def copy_states(self, tenant: str, source: str, target: str) -> None:
        """Give the thread `target`, which has none, all states of `source`."""
        ...

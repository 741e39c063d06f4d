"""The ports for what only the native runs API keeps: assistants, crons, and states made of transcripts.

Each backend implements them beside those of `proxy.store.base`, and `check_store` holds it to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from proxy.model import Assistant, Cron, SavedState


class AssistantQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which assistants to list: all conditions must hold. `metadata` must be contained in the assistant's.

    `name` is a part of it, whatever the case."""

    tenant: str
    agent: str | None = None
    name: str | None = None
    metadata: dict[str, Any] = {}
    sort_by: Literal["assistant_id", "agent", "name", "created_at", "updated_at"] = "created_at"
    descending: bool = True
    limit: int = 10
    offset: int = 0


class AssistantStore(Protocol):
    """Assistants in all their versions."""

    async def insert_assistant(self, assistant: Assistant) -> Assistant | None:
        """Store a new one as its version 1, durably. None if there is one of that id already."""
        ...

    async def get_assistant(self, tenant: str, assistant_id: str) -> Assistant | None:
        """In the version that is set."""
        ...

    async def add_version(self, assistant: Assistant) -> Assistant:
        """Store it as a new version, one above all that there are, and set that. Returns it with its number."""
        ...

    async def set_version(self, tenant: str, assistant_id: str, version: int) -> Assistant | None:
        """Go back to a version. None if there is none of that number."""
        ...

    async def versions(self, tenant: str, assistant_id: str) -> list[Assistant]:
        """All versions, newest first."""
        ...

    async def delete_assistant(self, tenant: str, assistant_id: str) -> bool: ...

    async def find_assistants(self, query: AssistantQuery) -> list[Assistant]: ...

    async def count_assistants(self, query: AssistantQuery) -> int:
        """How many match, whatever `limit` and `offset` say."""
        ...


class CronQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which crons to list: all conditions must hold."""

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


class CronStore(Protocol):
    """Crons."""

    async def insert_cron(self, cron: Cron) -> None: ...

    async def get_cron(self, tenant: str, cron_id: str) -> Cron | None: ...

    async def replace_cron(self, cron: Cron, *, due: float | None = None) -> bool:
        """Replace the record. With `due`, only if `next_at` is still that: of several that fire it, one does."""
        ...

    async def delete_cron(self, tenant: str, cron_id: str) -> bool: ...

    async def find_crons(self, query: CronQuery) -> list[Cron]: ...

    async def count_crons(self, query: CronQuery) -> int: ...

    async def due_crons(self, before: float, *, limit: int = 100) -> list[Cron]:
        """Enabled crons of all tenants whose time has come, the most overdue first."""
        ...

    async def next_cron(self) -> float | None:
        """When the next enabled cron is due, in seconds since 1970; None if there is none."""
        ...


class StateStore(Protocol):
    """States of threads whose agents keep none themselves, sorted by `checkpoint_id`, which is by age."""

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

"""Assistants: agents with settings of a caller's, in versions. Every agent is one by itself, as the system made it.

A system assistant has the same id for every tenant and after every restart. Nothing of it is stored until a tenant
changes it; that tenant has it in versions of its own from then on.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal, Protocol

import msgspec

from proxy.errors import BadRequest, Conflict, NotFound, Unprocessable
from proxy.model import Assistant, new_id, system_id
from proxy.runs.agents import Agent, Agents
from proxy.store.base import ThreadQuery, ThreadStore
from proxy.store.native import AssistantQuery, AssistantStore, Revision

__all__ = ["AssistantQuery", "Assistants", "Revision", "system_id"]

DeleteThread = Callable[[str, str], Awaitable[object]]
"""Deletes a thread of a tenant, with its runs and its state. Raises `Busy` or `NotFound`."""

ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
UNNAMED = "Untitled"
LONGEST = 100
"""Characters of an unknown name that an error shows."""
PAGE = 100
"""Threads that are read from the store at a time."""


class Shelf(AssistantStore, ThreadStore, Protocol):
    """What of a store this room reads and writes."""


class Assistants:
    """All assistants of all tenants."""

    def __init__(self, store: Shelf, agents: Agents, delete_thread: DeleteThread | None = None) -> None:
        self._store = store
        self._agents = agents
        self._delete_thread = delete_thread
        self._system = {system_id(agent.name): agent for agent in agents}

    async def find(self, tenant: str, name: str) -> Assistant:
        """The assistant of that id, or the one that the agent of that name is.

        Raises `NotFound` for an unknown id, and `Unprocessable` for what is neither an id nor an agent's name."""
        assistant_id = name.lower() if self._agents.named(name) is None else system_id(name)
        if not ID.fullmatch(assistant_id):
            raise Unprocessable(
                f"There is no assistant `{name[:LONGEST]}`: name one by its UUID, or an agent.{self._hint(name)}",
                param="assistant_id",
            )
        known = await self._store.get_assistant(tenant, assistant_id)
        if known is None and assistant_id in self._system:
            known = self._virtual(tenant, assistant_id)
        if known is None:
            raise self._unknown(assistant_id)
        return known

    def agent_of(self, assistant: Assistant) -> Agent:
        """Who does the work. Raises `Unprocessable` where the config does not name that agent any more."""
        agent = self._agents.named(assistant.agent)
        if agent is None:
            raise Unprocessable(
                f"The agent `{assistant.agent}` of assistant {assistant.assistant_id} is no longer configured here."
            )
        return agent

    async def create(
        self,
        tenant: str,
        agent: str,
        settings: Revision,
        *,
        assistant_id: str | None = None,
        if_exists: Literal["raise", "do_nothing"] = "raise",
    ) -> Assistant:
        """A new assistant, or with `do_nothing` the one of that id there is.

        Raises `NotFound` for an unknown agent, `Conflict`, and `BadRequest` for settings that contradict each other."""
        self._check(settings, agent)
        made = Assistant(
            assistant_id=assistant_id or new_id(), agent=agent, tenant=tenant, name=UNNAMED, created_at=time.time()
        )
        stored = None
        if made.assistant_id not in self._system:
            stored = await self._store.insert_assistant(settings.of(made, version=1))
        if stored is None and if_exists == "raise":
            raise Conflict(f"There is an assistant {made.assistant_id} already.")
        return stored or await self.find(tenant, made.assistant_id)

    async def patch(self, tenant: str, name: str, changes: Revision) -> Assistant:
        """Make and set a new version. Raises as `find` and `create` do."""
        known = await self.find(tenant, name)
        self._check(changes, changes.agent)
        if known.assistant_id in self._system:
            if changes.agent not in (None, known.agent):
                raise Conflict(f"{known.assistant_id} is the agent `{known.agent}` itself, and cannot become another.")
            await self._store.insert_assistant(self._virtual(tenant, known.assistant_id))
        revised = await self._store.revise_assistant(tenant, known.assistant_id, changes)
        if revised is None:
            raise self._unknown(known.assistant_id)
        return revised

    async def delete(self, tenant: str, name: str, *, threads: bool = False) -> None:
        """Delete an assistant, and with `threads` those that ran it. Raises `Conflict` for a system assistant."""
        known = await self.find(tenant, name)
        if known.assistant_id in self._system:
            raise Conflict(
                f"{known.assistant_id} is the agent `{known.agent}` itself; take it out of the config to remove it."
            )
        if threads:
            await self._delete_threads(tenant, known.assistant_id)
        if not await self._store.delete_assistant(tenant, known.assistant_id):
            raise self._unknown(known.assistant_id)

    async def _delete_threads(self, tenant: str, assistant_id: str) -> None:
        if self._delete_thread is None:
            raise Unprocessable("Threads are not deleted with their assistant here; delete them first.")
        for thread_id in await self._threads_of(tenant, assistant_id):
            with suppress(NotFound):
                await self._delete_thread(tenant, thread_id)

    async def _threads_of(self, tenant: str, assistant_id: str) -> list[str]:
        """The threads that the assistant ran last."""
        mine = ThreadQuery(tenant=tenant, metadata={"assistant_id": assistant_id}, sort_by="thread_id", limit=PAGE)
        names: list[str] = []
        while page := await self._store.find_threads(msgspec.structs.replace(mine, offset=len(names))):
            names += [thread.thread_id for thread in page]
        return names

    async def versions(self, name: str, query: AssistantQuery) -> list[Assistant]:
        """Its versions, newest first; of the query only `metadata` and the page count."""
        known = await self.find(query.tenant, name)
        versions = await self._store.versions(query.tenant, known.assistant_id) or [known]
        found = [version for version in versions if query.matches(version)]
        return found[query.offset : query.offset + query.limit]

    async def set_latest(self, tenant: str, name: str, version: int) -> Assistant:
        """Go back to a version. Raises `NotFound`."""
        known = await self.find(tenant, name)
        found = await self._store.set_version(tenant, known.assistant_id, version)
        if found is None and version != known.version:
            raise NotFound(f"Assistant {known.assistant_id} has no version {version}.")
        return found or known

    async def search(self, query: AssistantQuery) -> list[Assistant]:
        """A page of the assistants that match, those of the system among them."""
        virtual = await self._virtual_ones(query)
        # Those that are not stored may all stand before the page, or all in it: so many more are read ahead of it.
        start = max(0, query.offset - len(virtual))
        most = query.offset + query.limit - start
        stored = await self._store.find_assistants(msgspec.structs.replace(query, offset=start, limit=most))
        merged = [*stored, *virtual]
        query.sort(merged)
        return merged[query.offset - start :][: query.limit]

    async def count(self, query: AssistantQuery) -> int:
        """How many match, whatever `limit` and `offset` say."""
        return await self._store.count_assistants(query) + len(await self._virtual_ones(query))

    async def _virtual_ones(self, query: AssistantQuery) -> list[Assistant]:
        """System assistants that match and that this tenant has not changed."""
        own = AssistantQuery(tenant=query.tenant, ids=frozenset(self._system), limit=len(self._system))
        changed = {assistant.assistant_id for assistant in await self._store.find_assistants(own)}
        unchanged = (self._virtual(query.tenant, name) for name in self._system if name not in changed)
        return [assistant for assistant in unchanged if query.matches(assistant)]

    def _virtual(self, tenant: str, assistant_id: str) -> Assistant:
        """A system assistant as the config has it. It is older than all others, on every server and after restarts."""
        agent = self._system[assistant_id]
        return Assistant(
            assistant_id=assistant_id,
            agent=agent.name,
            tenant=tenant,
            name=agent.name,
            description=agent.settings.description or None,
            metadata={"created_by": "system"},
        )

    def _check(self, settings: Revision, agent: str | None) -> None:
        if agent is not None and self._agents.named(agent) is None:
            raise NotFound(f"There is no graph `{agent[:LONGEST]}`.{self._hint(agent)}", param="graph_id")
        if settings.context and (settings.config or {}).get("configurable"):
            raise BadRequest("`context` and `config.configurable` are the same thing here; give one.", param="context")

    def _unknown(self, assistant_id: str) -> NotFound:
        return NotFound(f"There is no assistant {assistant_id}.", param="assistant_id")

    def _hint(self, name: str) -> str:
        close = difflib.get_close_matches(name[:LONGEST], [agent.name for agent in self._agents], n=3)
        return f" Did you mean {' or '.join(f'`{match}`' for match in close)}?" if close else ""

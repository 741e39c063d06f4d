"""The assistants of `memory://`; see `proxy.store.native` for the contracts."""

from __future__ import annotations

import time

import msgspec

from proxy.model import Assistant
from proxy.store.native import AssistantQuery, Revision


class MemoryAssistants:
    """The part of a store that keeps assistants."""

    def __init__(self) -> None:
        super().__init__()
        self._assistants: dict[tuple[str, str], Assistant] = {}
        self._versions: dict[tuple[str, str], list[Assistant]] = {}

    async def insert_assistant(self, assistant: Assistant) -> Assistant | None:
        key = assistant.tenant, assistant.assistant_id
        if key in self._assistants:
            return None
        self._assistants[key] = msgspec.structs.replace(assistant, version=1)
        self._versions[key] = [self._assistants[key]]
        return self._assistants[key]

    async def get_assistant(self, tenant: str, assistant_id: str) -> Assistant | None:
        return self._assistants.get((tenant, assistant_id))

    async def revise_assistant(self, tenant: str, assistant_id: str, revision: Revision) -> Assistant | None:
        key = tenant, assistant_id
        if key not in self._assistants:
            return None
        self._assistants[key] = revision.of(self._assistants[key], self._versions[key][-1].version + 1)
        self._versions[key].append(self._assistants[key])
        return self._assistants[key]

    async def set_version(self, tenant: str, assistant_id: str, version: int) -> Assistant | None:
        key = tenant, assistant_id
        found = next((one for one in self._versions.get(key, ()) if one.version == version), None)
        if found is not None:
            self._assistants[key] = found = msgspec.structs.replace(found, updated_at=time.time())
        return found

    async def versions(self, tenant: str, assistant_id: str) -> list[Assistant]:
        return self._versions.get((tenant, assistant_id), [])[::-1]

    async def delete_assistant(self, tenant: str, assistant_id: str) -> bool:
        self._versions.pop((tenant, assistant_id), None)
        return self._assistants.pop((tenant, assistant_id), None) is not None

    async def find_assistants(self, query: AssistantQuery) -> list[Assistant]:
        found = [assistant for assistant in self._assistants.values() if query.matches(assistant)]
        query.sort(found)
        return found[query.offset : query.offset + query.limit]

    async def count_assistants(self, query: AssistantQuery) -> int:
        return sum(query.matches(assistant) for assistant in self._assistants.values())

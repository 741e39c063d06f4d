"""The assistants of a SQL store; see `proxy.store.native` for the contracts."""

from __future__ import annotations

from proxy.model import Assistant
from proxy.store.native import AssistantQuery, Revision
from proxy.store.sql.engine import Reader
from proxy.store.sql.writer import Writer
from proxy.store.statements import assistants


class SqlAssistants:
    """The part of a store that keeps assistants."""

    _reader: Reader
    _writer: Writer

    async def insert_assistant(self, assistant: Assistant) -> Assistant | None:
        return await self._writer.call(assistants.put, assistant)

    async def get_assistant(self, tenant: str, assistant_id: str) -> Assistant | None:
        return await self._reader.read(assistants.get, tenant, assistant_id)

    async def revise_assistant(self, tenant: str, assistant_id: str, revision: Revision) -> Assistant | None:
        return await self._writer.call(assistants.revise, tenant, assistant_id, revision)

    async def set_version(self, tenant: str, assistant_id: str, version: int) -> Assistant | None:
        return await self._writer.call(assistants.reset, tenant, assistant_id, version)

    async def versions(self, tenant: str, assistant_id: str) -> list[Assistant]:
        return await self._reader.read(assistants.history, tenant, assistant_id)

    async def delete_assistant(self, tenant: str, assistant_id: str) -> bool:
        return await self._writer.call(assistants.remove, tenant, assistant_id)

    async def find_assistants(self, query: AssistantQuery) -> list[Assistant]:
        return await self._reader.read(assistants.find, query)

    async def count_assistants(self, query: AssistantQuery) -> int:
        return await self._reader.read(assistants.count, query)

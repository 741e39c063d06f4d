"""The states of a SQL store; see `proxy.store.native` for the contracts."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.model import SavedState
from proxy.store.sql.engine import Reader
from proxy.store.sql.writer import Writer
from proxy.store.statements import states


class SqlStates:
    """The part of a store that keeps states."""

    _reader: Reader
    _writer: Writer

    async def put_states(self, new: Sequence[SavedState]) -> None:
        await self._writer.call(states.put, new)

    async def get_state(self, tenant: str, thread_id: str, checkpoint_id: str | None = None) -> SavedState | None:
        return await self._reader.read(states.get, tenant, thread_id, checkpoint_id)

    async def states(
        self, tenant: str, thread_id: str, *, before: str | None = None, run_id: str | None = None, limit: int = 100
    ) -> list[SavedState]:
        return await self._reader.read(states.find, (tenant, thread_id), before, run_id, limit)

    async def cut_states(self, tenant: str, thread_id: str, *, after: str = "") -> None:
        await self._writer.call(states.cut, tenant, thread_id, after)

    async def keep_newest_state(self, tenant: str, thread_id: str) -> None:
        await self._writer.call(states.keep_newest, tenant, thread_id)

    async def copy_states(self, tenant: str, source: str, target: str) -> None:
        await self._writer.call(states.copy, tenant, source, target)

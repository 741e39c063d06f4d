"""The crons of a SQL store; see `proxy.store.native` for the contracts."""

from __future__ import annotations

from proxy.model import Cron
from proxy.store.native import CronQuery
from proxy.store.sql.engine import Reader
from proxy.store.sql.writer import Writer
from proxy.store.statements import crons


class SqlCrons:
    """The part of a store that keeps crons."""

    _reader: Reader
    _writer: Writer

    async def insert_cron(self, cron: Cron) -> None:
        await self._writer.call(crons.put, cron)

    async def get_cron(self, tenant: str, cron_id: str) -> Cron | None:
        return await self._reader.read(crons.get, tenant, cron_id)

    async def replace_cron(self, cron: Cron, *, was: Cron) -> bool:
        return await self._writer.call(crons.replace, cron, was)

    async def delete_cron(self, tenant: str, cron_id: str) -> bool:
        return await self._writer.call(crons.remove, tenant, cron_id)

    async def find_crons(self, query: CronQuery) -> list[Cron]:
        return await self._reader.read(crons.find, query)

    async def count_crons(self, query: CronQuery) -> int:
        return await self._reader.read(crons.count, query)

    async def due_crons(self, before: float, *, limit: int = 100) -> list[Cron]:
        return await self._reader.read(crons.due, before, limit)

    async def next_cron(self) -> float | None:
        return await self._reader.read(crons.following)

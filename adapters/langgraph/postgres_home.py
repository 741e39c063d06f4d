"""The checkpoints of a server that shares its database of PostgreSQL with others."""

from __future__ import annotations

from langgraph.checkpoint.serde.base import SerializerProtocol

from adapters.langgraph.database import Database
from adapters.langgraph.postgres import PostgresSaver
from proxy.adapter import Site


class PostgresHome:
    def __init__(self, site: Site, serde: SerializerProtocol) -> None:
        self._database = Database.of(site)
        self._serde = serde
        self._saver: PostgresSaver | None = None

    async def open(self) -> None:
        await self._database.reach()
        await self._database.join()
        try:
            await self._database.prepare((await self.saver()).setup)
        except BaseException:
            await self.close()
            raise

    async def saver(self) -> PostgresSaver:
        if self._saver is None:
            self._saver = PostgresSaver(self._database, self._serde)
        return self._saver

    async def close(self) -> None:
        self._saver = None
        await self._database.leave()

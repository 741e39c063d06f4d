"""The checkpoints of a server that shares its database of PostgreSQL with others."""

from __future__ import annotations

from langgraph.checkpoint.serde.base import SerializerProtocol

from adapters.langgraph.database import Database
from adapters.langgraph.postgres import PostgresSaver
from adapters.langgraph.postgres_store import PostgresStore
from proxy.adapter import Site


class PostgresHome:
    def __init__(self, site: Site, serde: SerializerProtocol) -> None:
        self._database = Database.of(site)
        self._serde = serde
        self._saver: PostgresSaver | None = None

    async def open(self) -> None:
        """Makes the tables of memories too, since only now the role may be one that can."""
        await self._database.reach()
        await self._database.join()
        try:
            saver = await self.saver()
            await self._database.prepare(saver.is_made, saver.setup)
            await (await PostgresStore.at(self._database)).close()
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

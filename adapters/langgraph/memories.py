"""Memories in LangGraph's long-term store, which graphs get as their `store`.

Beside the server's own database where that is a file: `sqlite:///runs.db` has them in `runs.memories.db`; in tables of
their own where it is PostgreSQL.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Literal

from langgraph.store.base import BaseStore, Item

from adapters.langgraph.fence import Right
from adapters.langgraph.load import Graph
from adapters.langgraph.places import beside, in_postgres, needing_postgres
from adapters.langgraph.sqlite_store import SqliteStore
from adapters.langgraph.store import SharedStore, TenantStore
from proxy.adapter import Site
from proxy.errors import ProxyError, Unavailable, Unprocessable
from proxy.memories import Memories, Memory, MemorySearch, Namespace, NamespaceQuery


class LangGraphMemories(Memories):
    """Those of a server: requests and all its graphs share one connection, made when first needed."""

    @classmethod
    def of(cls, site: Site) -> LangGraphMemories:
        """Those of this server. Raises `ConfigError` for a store that has no place beside it."""
        name = f"memories {site.state}"
        found = site.shared.get(name)
        if found is None:
            found = site.shared[name] = cls(_at(site))
        assert isinstance(found, LangGraphMemories)
        return found

    def __init__(self, open: Callable[[], Coroutine[Any, Any, SharedStore]]) -> None:
        self._open = open
        self._users = 0
        self._opening: asyncio.Task[SharedStore] | None = None

    def join(self) -> None:
        self._users += 1

    async def leave(self) -> None:
        self._users -= 1
        if self._users or self._opening is None:
            return
        opening, self._opening = self._opening, None
        with suppress(sqlite3.Error, ProxyError):
            await (await opening).close()

    def store(self, graph: Graph, tenant: str, right: Right) -> BaseStore:
        """What the graph gets as its store in a run of this tenant's: the one it was compiled with, else this one.

        It takes what the run puts for as long as there is a right to that."""
        return TenantStore(self._opened, tenant, right) if graph.store is None else graph.store

    async def put(
        self,
        tenant: str,
        namespace: Namespace,
        key: str,
        value: dict[str, Any],
        *,
        ttl: float | None = None,
        index: Sequence[str] | bool | None = None,
    ) -> None:
        with _refusals():
            await self._of(tenant).aput(namespace, key, value, _indexed(index), ttl=ttl)

    async def get(self, tenant: str, namespace: Namespace, key: str, *, refresh: bool | None = None) -> Memory | None:
        with _refusals():
            found = await self._of(tenant).aget(namespace, key, refresh_ttl=refresh)
        return None if found is None else _memory(found)

    async def delete(self, tenant: str, namespace: Namespace, key: str) -> None:
        with _refusals():
            await self._of(tenant).adelete(namespace, key)

    async def search(self, tenant: str, wanted: MemorySearch) -> list[Memory]:
        with _refusals():
            found = await self._of(tenant).asearch(
                wanted.prefix,
                query=wanted.query,
                filter=wanted.filter,
                limit=wanted.limit,
                offset=wanted.offset,
                refresh_ttl=wanted.refresh,
            )
        return [_memory(item) for item in found]

    async def namespaces(self, tenant: str, wanted: NamespaceQuery) -> list[Namespace]:
        with _refusals():
            return await self._of(tenant).alist_namespaces(
                prefix=wanted.prefix,
                suffix=wanted.suffix,
                max_depth=wanted.max_depth,
                limit=wanted.limit,
                offset=wanted.offset,
            )

    def _of(self, tenant: str) -> TenantStore:
        return TenantStore(self._opened, tenant)

    async def _opened(self) -> SharedStore:
        if not self._users:
            raise Unavailable("The store of memories is closed.")
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            self._opening = asyncio.get_running_loop().create_task(self._open())
        return await asyncio.shield(self._opening)


def _at(site: Site) -> Callable[[], Coroutine[Any, Any, SharedStore]]:
    if in_postgres(site.state):
        with needing_postgres():
            from adapters.langgraph.database import Database
            from adapters.langgraph.postgres_store import PostgresStore
        return partial(PostgresStore.at, Database.of(site))
    return partial(SqliteStore.at, beside(site.state, site.folder, "memories"))


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Unavailable("The store of memories cannot be reached now.", retry_after=1) from error
    except (ValueError, OverflowError) as error:
        raise Unprocessable(str(error)) from error


def _indexed(index: Sequence[str] | bool | None) -> Literal[False] | list[str] | None:
    if isinstance(index, bool) or index is None:
        return None if index is not False else False
    return list(index)


def _memory(item: Item) -> Memory:
    return Memory(
        namespace=item.namespace,
        key=item.key,
        value=item.value,
        created_at=item.created_at,
        updated_at=item.updated_at,
        score=getattr(item, "score", None),
    )

"""Memories in LangGraph's API, where they are the items of its store.

Source: LangGraph's official server and its clients. An item that is not there is `null`, not an error.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET

from proxy.api.native.bodies import body_of
from proxy.api.openapi import BODY
from proxy.api.params import query, tenant_of
from proxy.errors import Unprocessable
from proxy.memories import Memory, MemorySearch, Namespace, NamespaceQuery, Opening
from proxy.settings import RequestLimits
from proxy.wire.items import ItemDelete, ItemPut, ItemRecord, Items, ItemSearch, Namespaces, NamespaceSearch

_put = msgspec.json.Decoder(ItemPut)
_delete = msgspec.json.Decoder(ItemDelete)
_search = msgspec.json.Decoder(ItemSearch)
_namespaces = msgspec.json.Decoder(NamespaceSearch)


class Place(msgspec.Struct, frozen=True):
    """The query of a get; the labels of `namespace` are parted by dots."""

    namespace: str
    key: str
    refresh_ttl: bool | None = None


def routes(memories: Opening, limits: RequestLimits) -> list[HTTPRouteHandler]:
    return [*items(memories, limits), *searches(memories, limits)]


def items(memories: Opening, limits: RequestLimits) -> list[HTTPRouteHandler]:
    """Those of one item."""

    @put("/store/items", status_code=204, opt={BODY: ItemPut})
    async def put_item(request: Request[Any, Any, Any]) -> None:
        asked = await body_of(request, _put, limits)
        kept = await memories()
        tenant = tenant_of(request)
        await kept.put(tenant, asked.namespace, asked.key, asked.value, ttl=asked.ttl, index=asked.index)

    @get("/store/items")
    async def show_item(request: Request[Any, Any, Any]) -> Response[ItemRecord | None]:
        asked = query(request, Place)
        kept = await memories()
        found = await kept.get(tenant_of(request), labels(asked.namespace), asked.key, refresh=asked.refresh_ttl)
        return Response(None if found is None else record(found))

    @delete("/store/items", opt={BODY: ItemDelete})
    async def delete_item(request: Request[Any, Any, Any]) -> None:
        asked = await body_of(request, _delete, limits)
        kept = await memories()
        await kept.delete(tenant_of(request), asked.namespace, asked.key)

    return [put_item, show_item, delete_item]


def searches(memories: Opening, limits: RequestLimits) -> list[HTTPRouteHandler]:
    """Those of many."""

    @post("/store/items/search", status_code=200, opt={BODY: ItemSearch})
    async def search_items(request: Request[Any, Any, Any]) -> Items:
        asked = await body_of(request, _search, limits)
        kept = await memories()
        wanted = MemorySearch(
            prefix=asked.namespace_prefix,
            filter=asked.filter or {},
            query=asked.query,
            limit=asked.limit,
            offset=asked.offset,
            refresh=asked.refresh_ttl,
        )
        found = await kept.search(tenant_of(request), wanted)
        return Items(tuple(record(memory, scored=True) for memory in found))

    @post("/store/namespaces", status_code=200, opt={BODY: NamespaceSearch})
    async def list_namespaces(request: Request[Any, Any, Any]) -> Namespaces:
        asked = await body_of(request, _namespaces, limits)
        kept = await memories()
        wanted = NamespaceQuery(
            prefix=asked.prefix or (),
            suffix=asked.suffix or (),
            max_depth=asked.max_depth,
            limit=asked.limit,
            offset=asked.offset,
        )
        return Namespaces(tuple(await kept.namespaces(tenant_of(request), wanted)))

    return [search_items, list_namespaces]


def labels(namespace: str) -> Namespace:
    """Raises `Unprocessable` for an empty one."""
    parts = tuple(namespace.split("."))
    if not all(parts):
        raise Unprocessable("No label of a namespace is empty.", param="namespace")
    return parts


def record(memory: Memory, *, scored: bool = False) -> ItemRecord:
    return ItemRecord(
        namespace=memory.namespace,
        key=memory.key,
        value=memory.value,
        created_at=memory.created_at.isoformat(),
        updated_at=memory.updated_at.isoformat(),
        score=memory.score if scored else UNSET,
    )

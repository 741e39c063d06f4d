"""The store of memories in LangGraph's API: its items, and what callers ask."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from proxy.wire.asked import Body, Limit, Name, Offset

Label = Annotated[str, Meta(min_length=1, pattern=r"^[^.]*$")]
"""Dots part the labels of a namespace in a query, so none may stand in one."""
Namespace = Annotated[tuple[Label, ...], Meta(min_length=1)]


class ItemRecord(Struct, frozen=True, kw_only=True):
    """One item; `score` only where it was searched for."""

    namespace: tuple[str, ...]
    key: str
    value: dict[str, Any]
    created_at: str
    updated_at: str
    score: float | UnsetType | None = UNSET


class Items(Struct, frozen=True):
    items: tuple[ItemRecord, ...]


class Namespaces(Struct, frozen=True):
    namespaces: tuple[tuple[str, ...], ...]


class ItemPut(Body, frozen=True, kw_only=True):
    """`index` names the fields to search by, or false for none; `ttl` is in minutes."""

    namespace: Namespace
    key: Name
    value: dict[str, Any]
    index: tuple[str, ...] | bool | None = None
    ttl: Annotated[float, Meta(gt=0, le=1e9)] | None = None


class ItemDelete(Body, frozen=True, kw_only=True):
    namespace: Namespace
    key: Name


class ItemSearch(Body, frozen=True, kw_only=True):
    namespace_prefix: tuple[Label, ...] = ()
    filter: dict[str, Any] | None = None
    limit: Limit = 10
    offset: Offset = 0
    query: str | None = None
    refresh_ttl: bool | None = None


class NamespaceSearch(Body, frozen=True, kw_only=True):
    """Labels of prefix and suffix may be `*`."""

    prefix: tuple[Label, ...] | None = None
    suffix: tuple[Label, ...] | None = None
    max_depth: Annotated[int, Meta(ge=1, lt=1 << 53)] | None = None
    limit: Limit = 100
    offset: Offset = 0

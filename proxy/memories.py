"""The port for memories: what agents and callers keep beyond a thread, as JSON objects under namespaces and keys.

One for a server. Whatever is put, found or listed belongs to a tenant, and no name reaches into another's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

Namespace = tuple[str, ...]
"""Labels from the outermost to the innermost; none is empty or has a dot."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """One value and where it stands. Times have a time zone."""

    namespace: Namespace
    key: str
    value: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    score: float | None = None
    """How near it is to what was searched for, where the store can tell."""


class MemorySearch(msgspec.Struct, frozen=True, kw_only=True):
    """Which memories: all in or below the namespace whose fields are as `filter` says, last changed first.

    A filter has for each field a value that it equals, an object of such, or comparisons: `$eq`, `$ne`, `$gt`,
    `$gte`, `$lt`, `$lte`. `query` ranks by meaning where the store has an index for that; else it does nothing.
    """

    prefix: Namespace = ()
    filter: dict[str, Any] = {}
    query: str | None = None
    limit: int = 10
    offset: int = 0
    refresh: bool | None = None
    """Whether what is found lives on for its whole time again; None is yes."""


class NamespaceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which namespaces, in order of their labels; `*` is any label, and below `max_depth` they are cut off."""

    prefix: Namespace = ()
    suffix: Namespace = ()
    max_depth: int | None = None
    limit: int = 100
    offset: int = 0


class Memories(ABC):
    """Where memories are kept. Everything raises `Unprocessable` for what it does not take, or `Unavailable`.

    Its files are opened when they are first needed, and closed when the last who joined has left.
    """

    @abstractmethod
    def join(self) -> None:
        """Count in one more who needs it; `leave` follows."""

    @abstractmethod
    async def leave(self) -> None:
        """Whoever joined needs it no longer."""

    @abstractmethod
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
        """Keep a value, in place of what stood there, for `ttl` minutes or for good.

        `index` names the fields to search by meaning, where the store can: false is none, null its own choice.
        """

    @abstractmethod
    async def get(self, tenant: str, namespace: Namespace, key: str, *, refresh: bool | None = None) -> Memory | None:
        """What stands there; `refresh` as in `MemorySearch`."""

    @abstractmethod
    async def delete(self, tenant: str, namespace: Namespace, key: str) -> None:
        """Forget it. What is not there is fine."""

    @abstractmethod
    async def search(self, tenant: str, wanted: MemorySearch) -> list[Memory]:
        """One page of what is found."""

    @abstractmethod
    async def namespaces(self, tenant: str, wanted: NamespaceQuery) -> list[Namespace]:
        """One page of the namespaces that have something in them."""


Opening = Callable[[], Awaitable[Memories]]
"""Gives the server's memories, which are made when first asked for. Raises `Unavailable` where there can be none."""

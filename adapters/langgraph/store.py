"""The long-term store as one tenant sees it, over that which all of a server share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchOp,
)

from adapters.langgraph.fence import Ousted, Right

FIELD = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
COMPARED = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte"})


class SharedStore(Protocol):
    """One for all runs, agents and tenants of a server; to be used through `TenantStore`.

    Every batch goes on to its end although the run that asked for it was cancelled, and fails alone.
    """

    async def abatch(self, ops: Iterable[Op], *, owner: str | None = None) -> list[Result]:
        """With an `owner` (see `Site.owner`), raises `Ousted` in place of putting anything once that is gone."""
        ...

    async def close(self) -> None:
        """Let what is under way end, and let go of what is open."""


class TenantStore(BaseStore):
    """What one tenant's runs and requests see of the store: their own namespaces, as if there were no others.

    Made in the server's loop; may be used from any thread. A synchronous call waits for that loop, so the loop's own
    thread may not make one. A run has it with its `right`: once that is lost, whoever puts anything is cancelled.
    """

    supports_ttl = True

    def __init__(self, opened: Callable[[], Awaitable[SharedStore]], tenant: str, right: Right | None = None) -> None:
        self._opened = opened
        self._right = right
        self._label = label(tenant)
        self._loop = asyncio.get_running_loop()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        if _running() is self._loop:
            raise asyncio.InvalidStateError(
                "Asynchronous code awaits the store: `await store.aget(...)` in place of `store.get(...)`, and so on."
            )
        with _cancelled():
            return asyncio.run_coroutine_threadsafe(self._batch(ops), self._loop).result()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        with _cancelled():
            if asyncio.get_running_loop() is self._loop:
                return await self._batch(ops)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._batch(ops), self._loop))

    async def _batch(self, ops: Iterable[Op]) -> list[Result]:
        inward = [self._inward(op) for op in ops]
        shared, owner = await self._opened(), None
        if self._right is not None and any(isinstance(op, PutOp) for op in inward):
            owner = self._right.owner
            if not self._right.holds():
                raise Ousted
        return [_outward(result) for result in await shared.abatch(inward, owner=owner)]

    def _inward(self, op: Op) -> Op:
        if isinstance(op, GetOp | PutOp):
            if isinstance(op, PutOp) and not op.namespace:
                raise InvalidNamespaceError("Namespace cannot be empty.")
            return op._replace(namespace=(self._label, *op.namespace))
        if isinstance(op, SearchOp):
            fields = dict(flat(op.filter or {}))
            return op._replace(namespace_prefix=(self._label, *op.namespace_prefix), filter=fields)
        return op._replace(
            match_conditions=tuple(self._conditions(op)),
            max_depth=None if op.max_depth is None else op.max_depth + 1,
        )

    def _conditions(self, op: ListNamespacesOp) -> Iterator[MatchCondition]:
        yield MatchCondition("prefix", (self._label,))
        for condition in op.match_conditions or ():
            if condition.match_type == "suffix":
                # Nor may the tenant's label be what the first of the suffix matches.
                yield condition
                yield MatchCondition("prefix", (self._label, *("*" for _ in condition.path)))
            else:
                yield MatchCondition("prefix", (self._label, *condition.path))


@contextmanager
def _cancelled() -> Iterator[None]:
    """A run whose process was taken over was cancelled, or ought to have been."""
    try:
        yield
    except Ousted:
        raise asyncio.CancelledError from None


def label(tenant: str) -> str:
    """The first label of all that is a tenant's: has no dot, is not empty, and no two tenants have the same."""
    return ":" + quote(tenant, safe="").replace(".", "%2E")


def flat(fields: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """A filter without objects: what is inside of one is found by a path with dots.

    Raises `ValueError` for what it cannot compare.
    """
    for name, wanted in fields.items():
        if not FIELD.fullmatch(name):
            raise ValueError(f"A filter names fields by letters, digits, `_` and `-`, so not `{name}`.")
        path = within + name
        if not isinstance(wanted, dict):
            yield path, wanted
        elif not any(each.startswith("$") for each in wanted):
            yield from flat(wanted, f"{path}.")
        else:
            yield path, _comparisons(path, wanted)


def _comparisons(path: str, wanted: dict[str, Any]) -> dict[str, Any]:
    for operator, value in wanted.items():
        if operator not in COMPARED:
            raise ValueError(f"`{operator}` is no comparison; `{path}` is compared by {', '.join(sorted(COMPARED))}.")
        if isinstance(value, dict | list | tuple) or (value is None and operator not in ("$eq", "$ne")):
            raise ValueError(f"`{operator}` of `{path}` compares with text, a number or a boolean.")
    return wanted


def _outward(result: Result) -> Result:
    if isinstance(result, Item):
        _shown(result)
    elif isinstance(result, list):
        return [_shown(found) if isinstance(found, Item) else found[1:] for found in result]  # type: ignore[return-value]
    return result


def _shown(item: Item) -> Item:
    """The item as its tenant sees it."""
    item.namespace = item.namespace[1:]
    item.created_at = _in_utc(item.created_at)
    item.updated_at = _in_utc(item.updated_at)
    return item


def _in_utc(time: datetime) -> datetime:
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None

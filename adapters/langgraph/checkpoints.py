"""Where graphs keep the state of their threads.

Beside the server's own database where that is a file: `sqlite:///runs.db` has its checkpoints in `runs.checkpoints.db`;
in tables of their own where it is PostgreSQL. What is read back is only data and types that are known: a checkpoint
cannot make this process import or build anything else.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol, cast, get_args, get_type_hints

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from adapters.langgraph import sqlite
from adapters.langgraph.durable import Saver
from adapters.langgraph.places import beside, in_postgres, needing_postgres
from proxy.adapter import Site

TypeName = tuple[str, str]
"""A class as checkpoints name it: its module and its name."""


def strict() -> JsonPlusSerializer:
    return JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=None)


class Home(Protocol):
    """A place that checkpoints are kept in."""

    async def open(self) -> None:
        """Make sure that they can be. Raises `ConfigError`, or `Unavailable` where that may pass."""

    async def saver(self) -> Saver:
        """The same each time, until it is closed."""

    async def close(self) -> None: ...


class Checkpoints:
    """The checkpoints of all agents of a server.

    They share one home, which is open from the first agent that joined to the last that left.
    """

    @classmethod
    def of(cls, site: Site) -> Checkpoints:
        """Those of the agent's server. Raises `ConfigError` for a store that has no place for them."""
        name = f"checkpoints {site.state}"
        found = site.shared.get(name)
        if found is None:
            found = site.shared[name] = cls(_home(site))
        assert isinstance(found, Checkpoints)
        return found

    def __init__(self, home: Home) -> None:
        self._home = home
        self._users = 0
        self._lock = asyncio.Lock()

    async def join(self) -> None:
        """`leave` follows, unless this raises: `ConfigError`, or `Unavailable` where that may pass."""
        async with self._lock:
            if not self._users:
                await self._home.open()
            self._users += 1

    async def saver(self) -> Saver:
        async with self._lock:
            return await self._home.saver()

    async def leave(self) -> None:
        self._users -= 1
        if not self._users:
            await self._home.close()


def _home(site: Site) -> Home:
    if in_postgres(site.state):
        with needing_postgres():
            from adapters.langgraph.postgres_home import PostgresHome
        return PostgresHome(site, strict())
    path = beside(site.state, site.folder, "checkpoints")
    return _Memory() if path is None else _File(path)


class _Memory:
    def __init__(self) -> None:
        self._saver = InMemorySaver(serde=strict())

    async def open(self) -> None: ...

    async def saver(self) -> Saver:
        return self._saver

    async def close(self) -> None: ...


class _File:
    """One connection, with its thread, made when the first run needs it: of several, one would find the file locked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saver: sqlite.SqliteSaver | None = None

    async def open(self) -> None:
        sqlite.check(self._path)

    async def saver(self) -> Saver:
        if self._saver is None:
            self._saver = await sqlite.SqliteSaver.at(self._path, strict())
        return self._saver

    async def close(self) -> None:
        saver, self._saver = self._saver, None
        if saver is not None:
            await saver.close()


class _AsIs:
    """Keeps objects as they are."""

    def dumps_typed(self, obj: Any) -> tuple[str, Any]:
        return "object", obj

    def loads_typed(self, data: tuple[str, Any]) -> Any:
        return data[1]


class Scratch(InMemorySaver):
    """State of a run that nobody comes back to: not encoded, and gone with it, unless it pauses and is moved."""

    def __init__(self, like: Saver | None) -> None:
        """`like` is the saver that it may be moved to, which says how versions look; None for ours."""
        super().__init__(serde=cast(SerializerProtocol, _AsIs()))
        self._like = like

    def get_next_version(self, current: Any, channel: None) -> Any:
        if self._like is not None:
            return self._like.get_next_version(current, channel)
        return super().get_next_version(current, channel)

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> Saver:
        """What is never encoded needs no list of types."""
        return self

    async def move(self, saver: Saver, thread_key: str) -> None:
        """Write all state of the thread to `saver`."""
        config: RunnableConfig = {"configurable": {"thread_id": thread_key}}
        found = [checkpoint async for checkpoint in self.alist(config)]
        for checkpoint in reversed(found):
            await put(saver, checkpoint, thread_key)


async def put(saver: Saver, found: CheckpointTuple, thread_key: str) -> None:
    """Write a checkpoint and its pending writes to a thread, in this saver or another."""
    ns = found.config["configurable"]["checkpoint_ns"]
    parent = (found.parent_config or {}).get("configurable", {})
    place = {"thread_id": thread_key, "checkpoint_ns": ns}
    under: RunnableConfig = {"configurable": {**place, "checkpoint_id": parent.get("checkpoint_id")}}
    versions = found.checkpoint["channel_versions"]
    await saver.aput(under, found.checkpoint, found.metadata, versions)
    writes: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
    for task, channel, value in found.pending_writes or ():
        writes[task].append((channel, value))
    at: RunnableConfig = {"configurable": {**place, "checkpoint_id": found.checkpoint["id"]}}
    for task, values in writes.items():
        await saver.aput_writes(at, values, task)


def types_in(annotation: Any, found: set[type]) -> None:
    """Collect the classes that a type's values are made of and checkpoints can hold."""
    for inner in get_args(annotation):
        types_in(inner, found)
    if not isinstance(annotation, type) or annotation in found or annotation.__module__ == "builtins":
        return
    if issubclass(annotation, BaseModel | enum.Enum) or dataclasses.is_dataclass(annotation) or _is_dict(annotation):
        found.add(annotation)
        try:
            hints = get_type_hints(annotation)
        except (NameError, TypeError):
            return
        for hint in hints.values():
            types_in(hint, found)


def _is_dict(annotation: type) -> bool:
    return issubclass(annotation, dict) and hasattr(annotation, "__required_keys__")

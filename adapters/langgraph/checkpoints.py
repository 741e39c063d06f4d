"""Where graphs keep the state of their threads.

Beside the server's own database, never in it: `sqlite:///runs.db` has its checkpoints in `runs.checkpoints.db`. What is
read back is only data and types that are known: a checkpoint cannot make this process import or build anything else.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import sqlite3
from collections import defaultdict
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from adapters.langgraph.durable import DurableSaver
from proxy.adapter import Site
from proxy.errors import ConfigError

Saver = BaseCheckpointSaver[Any]
TypeName = tuple[str, str]
"""A class as checkpoints name it: its module and its name."""

SQLITE = "sqlite:///"
BUSY = 30.0
"""Seconds to wait for a lock that another program holds."""


def strict() -> JsonPlusSerializer:
    return JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=None)


class Checkpoints:
    """The checkpoints of all agents of a server.

    They share one connection: of several, one would find the file locked. It is made, with its thread, when the first
    run needs it, and goes with the last agent that joined.
    """

    @classmethod
    def of(cls, site: Site) -> Checkpoints:
        """Those of the agent's server. Raises `ConfigError` for a store that has no place beside it."""
        path = beside(site.state, site.folder, "checkpoints")
        found = site.shared.setdefault(f"checkpoints {path}", cls(path))
        assert isinstance(found, Checkpoints)
        return found

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._users = 0
        self._lock = asyncio.Lock()
        self._saver: Saver | None = InMemorySaver(serde=strict()) if path is None else None

    def join(self) -> None:
        """Make sure that the file can be written; `leave` follows. Raises `ConfigError`."""
        self._users += 1
        if self._path is None or self._users > 1:
            return
        try:
            with closing(sqlite3.connect(self._path, timeout=BUSY)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.Error as error:
            raise ConfigError(f"`store`: checkpoints cannot be kept in {self._path}: {error}") from error

    async def saver(self) -> Saver:
        async with self._lock:
            if self._saver is None:
                self._saver = await self._connect()
            return self._saver

    async def _connect(self) -> Saver:
        connection = await aiosqlite.connect(cast(Path, self._path), timeout=BUSY)
        await connection.execute("PRAGMA synchronous=NORMAL")
        saver = DurableSaver(connection, strict())
        await saver.setup()
        return saver

    async def leave(self) -> None:
        self._users -= 1
        if not self._users and isinstance(self._saver, DurableSaver):
            await self._saver.close()
            self._saver = None


def beside(url: str, folder: Path, what: str) -> Path | None:
    """The file beside the server's database that `what` is kept in, or None for memory. Raises `ConfigError`."""
    if url.startswith("memory:"):
        return None
    if not url.startswith(SQLITE):
        raise ConfigError(
            f"`store`: agents keep their state beside sqlite:///... or memory://, not beside {url[:12]}..."
        )
    path = folder / url.removeprefix(SQLITE).partition("?")[0]
    return path.with_name(f"{path.stem}.{what}{path.suffix}")


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

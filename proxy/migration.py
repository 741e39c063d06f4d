"""Brings all that a config keeps in its store up to date: our own tables, and those of the agents' adapters."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from msgspec.structs import replace

from proxy import plugins
from proxy.memories import NamespaceQuery
from proxy.settings import Settings
from proxy.store import connect
from proxy.store.migrations import HEAD


def versions(settings: Settings) -> tuple[str | None, str]:
    """The version of the schema that is there, and the one that this program needs. Raises `ConfigError`."""
    return connect(settings.store, Path(settings.folder)).version(), HEAD


async def migrate(settings: Settings) -> None:
    """Raises `ConfigError`, naming the cure, and `Unavailable`."""
    settings = replace(settings, migrate=True)
    store = connect(settings.store, Path(settings.folder))
    await store.open(migrate=True)
    await store.close()
    if settings.shared:
        await _open_all(settings)


async def _open_all(settings: Settings) -> None:
    """Adapters make their tables when they are opened, and the memories when they are first used."""
    site = plugins.site(settings)
    async with AsyncExitStack() as stack:
        for adapter in plugins.Builder(settings, site).build(settings.agents).values():
            stack.push_async_callback(adapter.close)
            await adapter.open()
        if site.shared:
            memories = plugins.LazyMemories(site)
            stack.push_async_callback(memories.close)
            await (await memories()).namespaces("", NamespaceQuery())

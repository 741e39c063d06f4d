"""State: records and logs of runs, one class per backend, chosen by URL."""

from __future__ import annotations

from pathlib import Path

from proxy.errors import ConfigError
from proxy.store.base import Store
from proxy.store.memory import MemoryStore

SCHEMES = "use `sqlite:///file.db` or `memory://`"


def connect(url: str, folder: Path) -> Store:
    """The store that a URL names, not yet open. Relative files start from `folder`. Raises `ConfigError`."""
    scheme, separator, place = url.partition("://")
    if scheme == "memory" and separator:
        return MemoryStore()
    if scheme != "sqlite" or not separator:
        raise ConfigError(f"`store`: unknown scheme `{scheme[:40]}`; {SCHEMES}.")
    file = place.removeprefix("/")
    if not place.startswith("/") or file in ("", ":memory:"):
        raise ConfigError(f"`store`: `{url[:200]}` names no file; {SCHEMES} (four slashes for an absolute path).")
    from proxy.store.sqlite import SqliteStore

    return SqliteStore((folder / file).resolve())

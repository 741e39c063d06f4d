"""State: records and logs of runs, one class per backend, chosen by URL."""

from __future__ import annotations

from pathlib import Path

from proxy.errors import ConfigError
from proxy.store import live as fast
from proxy.store.base import Store
from proxy.store.memory.store import MemoryStore

SCHEMES = "use `sqlite:///file.db`, `postgresql://user:password@host/database` or `memory://`"
POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")


def connect(url: str, folder: Path, live: str = "") -> Store:
    """The store that a URL names, not yet open; `live` names what is faster beside one that is shared.

    Relative files start from `folder`. Raises `ConfigError`."""
    scheme, separator, place = url.partition("://")
    if scheme in POSTGRES and separator:
        return _postgres(place, live)
    if live:
        raise ConfigError("`live`: only processes that share a store need it; set `store` to `postgresql://...`.")
    if scheme == "memory" and separator:
        return MemoryStore()
    if not separator:  # whatever it is, it may hold a password
        raise ConfigError(f"`store`: what stands there is no URL of a store; {SCHEMES}.")
    if scheme != "sqlite":
        raise ConfigError(f"`store`: unknown scheme `{scheme[:40]}`; {SCHEMES}.")
    file = place.removeprefix("/")
    if not place.startswith("/") or file in ("", ":memory:"):
        raise ConfigError(f"`store`: `{url[:200]}` names no file; {SCHEMES} (four slashes for an absolute path).")
    from proxy.store.sql.sqlite import SqliteStore

    return SqliteStore((folder / file).resolve())


def _postgres(place: str, live: str) -> Store:
    """What stands in the place may hold a password: none of it is shown."""
    try:
        from proxy.store.postgres.store import PostgresStore
    except ImportError as error:
        raise ConfigError("`store`: PostgreSQL needs its driver: pip install 'runwire[postgres]'.") from error
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        if place.partition("?")[0].count("@") > 1:
            raise ValueError
        url = make_url(f"postgresql+psycopg://{place}")
    except (ArgumentError, ValueError):
        raise ConfigError(
            "`store`: the `postgresql://` URL cannot be read; write `postgresql://user:password@host:port/database`, "
            "with special characters of user and password percent-encoded (`@` as `%40`, `/` as `%2F`)."
        ) from None
    return PostgresStore(url, fast.connect(live, f"runwire:{url.database}") if live else None)

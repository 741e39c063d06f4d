"""Where the state of graphs is kept, as the `store` URL tells: in memory, in files beside the server's own, or in its
database in tables of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl

from proxy.errors import ConfigError

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgresql+psycopg://")


def in_postgres(url: str) -> bool:
    return url.startswith(POSTGRES)


@contextmanager
def needing_postgres() -> Iterator[None]:
    """Around imports of what comes with the extra `postgres`. Raises `ConfigError` where it is not installed."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"`store`: graphs cannot keep their state in PostgreSQL: {error}; pip install 'runwire[postgres]'"
        ) from error


def beside(url: str, folder: Path, what: str) -> Path | None:
    """The file beside the server's database that `what` is kept in, or None for memory. Raises `ConfigError`."""
    if url.startswith("memory:"):
        return None
    if not url.startswith(SQLITE):
        raise ConfigError(
            "`store`: agents keep their state beside sqlite:///... or memory://, or in postgresql://..., "
            f"not beside {url[:12]}..."
        )
    path = folder / url.removeprefix(SQLITE).partition("?")[0]
    return path.with_name(f"{path.stem}.{what}{path.suffix}")


def address(url: str) -> tuple[str, dict[str, str]]:
    """A PostgreSQL URL without its parameters, as libpq reads it, and those parameters.

    libpq itself wants a `=` within a value escaped; here `?options=-csearch_path=mine` is taken as it is meant.
    """
    base, _, query = url.partition("?")
    return f"postgresql://{base.partition('://')[2]}", dict(parse_qsl(query, keep_blank_values=True))

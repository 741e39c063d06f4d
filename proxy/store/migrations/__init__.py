"""The schema, brought up to date when a store is opened.

A change of `proxy.store.statements.tables` is a new file in `versions` and a new `HEAD`. Alembic is imported only where
there is something to do, since that import alone takes a quarter of a second.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from proxy.errors import ConfigError

HERE = Path(__file__).parent
HEAD = "0008"
ALONE = """
SET LOCAL lock_timeout = 0;
SET LOCAL statement_timeout = 0;
SELECT pg_advisory_xact_lock(hashtextextended('runwire migrations ' || current_schema(), 0));
"""
"""Of many processes that start at once, one brings a schema up to date, and the others wait for it."""


def upgrade(connection: Connection) -> None:
    """Bring the schema to `HEAD`, within the caller's transaction. Raises `ConfigError` for a newer schema."""
    if current(connection) == HEAD:
        return
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(ALONE)
    version = current(connection)
    if version == HEAD:
        return
    if version is not None and version not in known():
        raise newer(version)
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def check(connection: Connection) -> None:
    """Raises `ConfigError` where the schema is another than `HEAD`."""
    version = current(connection)
    if version is not None and version not in known():
        raise newer(version)
    if version != HEAD:
        raise ConfigError(
            f"`store`: its schema is {'missing' if version is None else f'of an older version ({version})'}; "
            "run `runwire migrate`, or set `migrate: true`."
        )


def newer(version: str) -> ConfigError:
    return ConfigError(
        f"`store`: a newer version of Runwire made its schema ({version[:40]}); "
        "install that version, or name another database."
    )


def current(connection: Connection) -> str | None:
    """The version of the schema; None in an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return version


def found(engine: Engine) -> str | None:
    """The version of the schema in a database that is not open yet."""
    try:
        with engine.connect() as connection:
            return current(connection)
    finally:
        engine.dispose()


def known() -> frozenset[str]:
    """The versions that this program can start from."""
    return frozenset(path.name.partition("_")[0] for path in (HERE / "versions").glob("[0-9]*.py"))

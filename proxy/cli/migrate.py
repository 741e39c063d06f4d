"""`runwire migrate`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from proxy.cli import options


@click.command()
@options.config
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if there is something to do.")
def migrate(path: Path | None, check: bool) -> None:
    """Bring the store's schema up to date, and the tables of the agents' adapters.

    Servers and workers do so themselves when they start, unless the config says `migrate: false`. Of many that start at
    once, one does it and the others wait.
    """
    from proxy import config, log, migration

    settings = config.read(path).settings
    log.setup(settings)
    if settings.store.startswith("memory:"):
        click.echo("a store in memory has no schema")
        return
    found, wanted = migration.versions(settings)
    way = f"from version {found or '0 (nothing)'} to {wanted}"
    if check:
        click.echo(f"the schema is up to date ({wanted})" if found == wanted else f"the schema is to be brought {way}")
        sys.exit(found != wanted)
    asyncio.run(migration.migrate(settings))
    click.echo(f"the schema is up to date ({wanted})" if found == wanted else f"the schema was brought {way}")

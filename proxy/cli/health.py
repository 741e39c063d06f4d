"""`runwire health`."""

from __future__ import annotations

import sys

import click

PATIENCE = 5.0


@click.command()
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where the server or worker answers.")
def health(url: str) -> None:
    """Ask a server, or a worker with --health, whether it takes work; exit code 0 if it does.

    For containers, which have no curl.
    """
    from http.client import HTTPException
    from urllib.request import urlopen

    asked = f"{url.rstrip('/')}/ready"
    try:
        with urlopen(asked, timeout=PATIENCE) as answer:  # noqa: S310
            click.echo(answer.read())
    except (OSError, HTTPException, ValueError) as error:  # the last for what is no URL
        click.echo(f"{asked}: {error}", err=True)
        sys.exit(1)

"""`runwire child`: one of the processes of `runwire serve --workers N`, which alone starts it."""

from __future__ import annotations

from pathlib import Path

import click

from proxy.cli import options

BEATS = 4
"""Signs of life in the time of a lease."""


@click.command(hidden=True)
@options.config
@click.option("--inherit", "descriptor", type=int, required=True, help="The file descriptor of the socket to serve on.")
@click.option("--lifeline", "line", type=int, required=True, help="The file descriptor that leads to the supervisor.")
def child(path: Path | None, descriptor: int, line: int) -> None:
    """Serve on a socket that was handed over, until told, or until nobody is left to tell."""
    from proxy import app, config, log, server
    from proxy.cli import files
    from proxy.cli.lifeline import Lifeline, inherited

    settings = config.read(path).settings
    lifeline = Lifeline(line, settings.runs.lease / BEATS)
    log.setup(settings, pid=True)
    files.raise_limit()
    server.run(app.create(settings), settings, inherited(descriptor), lifeline.up)

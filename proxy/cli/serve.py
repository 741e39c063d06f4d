"""`runwire serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli import options

if TYPE_CHECKING:
    from proxy.config import Config
    from proxy.settings import Settings

SPARE = 5.0
"""Seconds beyond those by which a child ends itself, and beyond those after which a silent one has lost its runs."""


@click.command()
@options.config
@click.option("--host", help="The address to listen on; overrides `server.host`.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; overrides `server.port`. 0 takes a free one.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that serve.")
@click.option("--reload", is_flag=True, help="Start anew when a .py or .yaml file beside the config changes.")
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without API keys.")
def serve(path: Path | None, host: str | None, port: int | None, workers: int, reload: bool, insecure: bool) -> None:
    """Serve the agents of a config file until SIGTERM or Ctrl-C.

    The first signal lets running answers end (`server.drain` seconds), a second one ends at once. More than one process
    need a store that processes share: `store: postgresql://...`.
    """
    if reload:
        from proxy.cli import reloading

        arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
        sys.exit(reloading.supervise(arguments, path or Path("config.yaml")))
    from proxy import config, log
    from proxy.cli import files, guards

    loaded = config.read(path)
    settings = guards.admitted(loaded.settings, host=host, port=port, workers=workers, insecure=insecure)
    log.setup(settings, pid=workers > 1)
    if workers > 1:
        sys.exit(_supervise(loaded, settings, workers))
    files.raise_limit()
    _serve(loaded, settings)


def _serve(loaded: Config, settings: Settings) -> None:
    from proxy import server
    from proxy.cli import banner

    bound = server.bind(settings.server.host, settings.server.port)

    from proxy import app

    text = banner.text(loaded, settings, server.url(bound))
    server.run(app.create(settings), settings, bound, lambda: click.echo(text))


def _supervise(loaded: Config, settings: Settings, count: int) -> int:
    from proxy import server
    from proxy.cli import banner
    from proxy.cli.supervisor import Supervisor

    # Never listened on: it only keeps the port.
    anchor = server.bind(settings.server.host, settings.server.port, shared=True)
    text = banner.text(loaded, settings, server.url(anchor))
    command = [sys.executable, "-m", "proxy.cli", "child", *([] if loaded.shipped else ["--config", str(loaded.path)])]
    supervisor = Supervisor(
        command,
        lambda: server.bind(settings.server.host, anchor.getsockname()[1], shared=True),
        lambda: click.echo(text),
        settings.runs.lease + SPARE,
    )
    return supervisor.run(count, server.longest_end(settings) + SPARE)

"""`runwire serve`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from proxy.cli import options

MOST_FILES = 65536


@click.command()
@options.config
@click.option("--host", help="The address to listen on; overrides `server.host`.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; overrides `server.port`. 0 takes a free one.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that serve.")
@click.option("--reload", is_flag=True, help="Start anew when a .py or .yaml file beside the config changes.")
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without API keys.")
def serve(path: Path | None, host: str | None, port: int | None, workers: int, reload: bool, insecure: bool) -> None:
    """Serve the agents of a config file until SIGTERM or Ctrl-C.

    The first signal lets running answers end (`server.drain` seconds), a second one ends at once.
    """
    if reload:
        from proxy.cli import reloading

        arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
        sys.exit(reloading.supervise(arguments, path or Path("config.yaml")))
    from proxy import config, log, server
    from proxy.cli import banner, guards

    loaded = config.read(path)
    settings = guards.admitted(loaded.settings, host=host, port=port, workers=workers, insecure=insecure)
    log.setup(settings)
    _raise_file_limit()
    bound = server.bind(settings.server.host, settings.server.port)

    from proxy import app

    text = banner.text(loaded, settings, server.url(bound))
    server.run(app.create(settings), settings, bound, lambda: click.echo(text))


def _raise_file_limit() -> None:
    """Each stream holds a socket, and the usual soft limit is 1024."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

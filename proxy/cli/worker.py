"""`runwire worker`."""

from __future__ import annotations

from pathlib import Path

import click

from proxy.cli import options
from proxy.settings import Settings


@click.command()
@options.config
@click.option("--concurrent", type=click.IntRange(min=1), help="Runs at a time; overrides `worker.concurrent`.")
@click.option("--agents", "names", help="Run these agents only, with commas between.  [default: all]")
@click.option("--health", "port", type=click.IntRange(0, 65535), help="Answer /health and /ready on this port.")
@click.option("--host", help="The address for --health.  [default: `server.host`]")
def worker(path: Path | None, concurrent: int | None, names: str | None, port: int | None, host: str | None) -> None:
    """Run what servers leave to workers, until SIGTERM or Ctrl-C.

    Servers and workers have one config, whose `store` they share. A worker takes the runs of agents with `execute:
    worker`, and those of all others that nobody waits for at once. The first signal lets runs end (`server.drain`
    seconds), a second one ends at once.
    """
    from proxy import config, log, server
    from proxy.cli import banner, files, guards

    loaded = config.read(path)
    here = guards.named(loaded.settings, names)
    settings = _with(loaded.settings, concurrent)
    log.setup(settings)
    files.raise_limit()
    bound = None if port is None else server.bind(host or settings.server.host, port)

    from proxy.worker import Worker

    text = banner.worker(loaded, here, None if bound is None else server.url(bound))
    server.run(Worker(settings, here), settings, bound, lambda: click.echo(text))


def _with(settings: Settings, concurrent: int | None) -> Settings:
    from msgspec.structs import replace

    return settings if concurrent is None else replace(settings, worker=replace(settings.worker, concurrent=concurrent))

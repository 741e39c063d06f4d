"""`runwire check` and `runwire agents`: what a config names, tried out or only listed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from proxy.cli import options
from proxy.errors import ProxyError
from proxy.settings import Settings


@click.command()
@options.config
def agents(path: Path | None) -> None:
    """List the agents of a config file, without importing them."""
    from proxy import config
    from proxy.cli import banner

    for line in banner.agents(config.read(path)):
        click.echo(line)


@click.command()
@options.config
def check(path: Path | None) -> None:
    """Validate a config file and import every agent it names.

    Exit code 1 if anything is wrong, with the place of each fault.
    """
    from proxy import config
    from proxy.cli import banner

    loaded = config.read(path)
    faults = asyncio.run(_tried(loaded.settings))
    width = max(len(name) for name in [*loaded.settings.agents, *(off.name for off in loaded.off)])
    for name, agent in loaded.settings.agents.items():
        click.echo(f"{name:{width}}  {'FAULT' if faults[name] else 'OK':5}  {faults[name] or agent.adapter}")
    for off in loaded.off:
        click.echo(f"{off.name:{width}}  {'off':5}  {banner.cure(off)}")
    if any(faults.values()):
        sys.exit(1)
    _compose(loaded.settings)
    click.echo(f"{loaded.path}: all is well")


async def _tried(settings: Settings) -> dict[str, str]:
    """What is wrong with each agent, or an empty text. Nothing is written: the agents get a store in memory."""
    from msgspec.structs import replace

    trial = replace(settings, store="memory://")
    found = await asyncio.gather(*(_opened(name, trial) for name in trial.agents), return_exceptions=True)
    return {name: "" if fault is None else _told(fault, name) for name, fault in zip(trial.agents, found, strict=True)}


async def _opened(name: str, settings: Settings) -> None:
    from proxy import plugins

    adapter = plugins.Builder(settings).make(name)
    await adapter.open()
    await adapter.close()


def _told(fault: BaseException, name: str) -> str:
    if isinstance(fault, ProxyError):
        return fault.message
    return f"{type(fault).__name__}: {fault} - at `$.agents.{name}`"


def _compose(settings: Settings) -> None:
    """What is not an agent's: the store's kind, the keys. Raises `ConfigError`."""
    from proxy import app

    app.create(settings)

"""`runwire init`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from proxy.errors import ConfigError

NAMES = ("config.yaml", "agents.py")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
def init(folder: Path) -> None:
    """Write a commented config.yaml and a first agent into FOLDER (by default this one).

    Files that are there already are never overwritten.
    """
    there = [name for name in NAMES if (folder / name).exists()]
    if there:
        raise ConfigError(f"{folder / there[0]} is there already; move it away, or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        source = files("proxy.cli").joinpath("template", name)
        (folder / name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        click.echo(f"wrote {folder / name}")
    where = "" if folder == Path() else f"cd {folder} && "
    click.echo(f"next: {where}runwire chat hello, or {where}runwire serve")

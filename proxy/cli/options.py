"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

config = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The config file.  [default: ./config.yaml, else the demo's]",
)

"""The command line. One file a command; what is heavy to import is imported inside the command that needs it."""

from __future__ import annotations

from typing import Any

import click

from proxy.cli.chat import chat
from proxy.cli.check import agents, check
from proxy.cli.child import child
from proxy.cli.health import health
from proxy.cli.init import init
from proxy.cli.migrate import migrate
from proxy.cli.serve import serve
from proxy.cli.worker import worker
from proxy.errors import ProxyError


class Commands(click.Group):
    """A group whose commands may raise our errors: they become a message and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ProxyError as error:
            raise click.ClickException(error.message) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Runwire puts any agent behind the OpenAI API.

    Agents are named in config.yaml. Begin with `runwire init`, or with `runwire serve` for a demo that needs no
    network and no key.
    """


@main.command()
def version() -> None:
    """Say which version this is."""
    from importlib.metadata import version as installed

    click.echo(f"runwire {installed('runwire')}")


for command in (serve, worker, migrate, check, agents, health, chat, init, child):
    main.add_command(command)

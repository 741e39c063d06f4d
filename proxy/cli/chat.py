"""`runwire chat`: a conversation in the terminal, by the same way as any client's: the `openai` SDK over HTTP."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli import options
from proxy.errors import ProxyError

if TYPE_CHECKING:
    from proxy.cli.talk import Talk

INTERRUPTED = 130


@click.command()
@click.argument("agent")
@click.argument("message", required=False)
@options.config
@click.option("--url", help="A server that runs already, as in http://127.0.0.1:8000.")
@click.option("--api-key", envvar="API_KEY", show_envvar=True, help="A key for that server.")
@click.option("--usage", is_flag=True, help="Say after each answer how many tokens it took.")
def chat(agent: str, message: str | None, path: Path | None, url: str | None, api_key: str | None, usage: bool) -> None:
    """Talk to AGENT; with a MESSAGE, say only that.

    Without --url the agents run in this process, and nothing of the conversation is kept. Ctrl-C stops an answer;
    at the prompt, it ends the conversation, as Ctrl-D does.
    """
    with _server(path) if url is None else contextlib.nullcontext((url, api_key or "none")) as (base, key):
        from proxy.cli.talk import Talk

        talk = Talk(base.rstrip("/").removesuffix("/v1") + "/v1", key, agent, usage=usage)
        sys.exit(_converse(talk) if message is None else _say(talk, message))


def _converse(talk: Talk) -> int:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # gives the prompt its editing keys
    talk.greet()
    click.echo(f"{talk.agent} listens. Ctrl-C stops an answer; Ctrl-D ends.", err=True)
    while True:
        try:
            message = click.prompt(">", prompt_suffix=" ")
        except click.Abort:
            click.echo()
            return 0
        _say(talk, message)


def _say(talk: Talk, message: str) -> int:
    """Say it and print the answer as it comes; gives what the exit code would be."""
    try:
        with contextlib.closing(talk.say(message)) as pieces:
            for piece in pieces:
                click.echo(piece, nl=False)
        click.echo()
    except ProxyError as error:
        click.echo(click.style(error.message, fg="red"), err=True)
        return 1
    except KeyboardInterrupt:
        click.echo(click.style(" [stopped]", dim=True))
        return INTERRUPTED
    if talk.usage:
        click.echo(click.style(talk.usage, dim=True), err=True)
    return 0


@contextmanager
def _server(path: Path | None) -> Iterator[tuple[str, str]]:
    """The config's agents behind a free port of this machine and a key made for now: the URL and the key."""
    from msgspec.structs import replace

    from proxy import config, log, server
    from proxy.settings import Logs, Server

    key = secrets.token_urlsafe()
    settings = replace(
        config.load(path), store="memory://", server=Server(port=0, api_keys=(key,), drain=0.0), log=Logs(level="error")
    )
    log.setup(settings)

    from proxy import app

    with server.running(app.create(settings), settings, server.bind("127.0.0.1", 0)) as url:
        yield url, key

"""What `serve` and `worker` say when they are up: where, what, and the lines to paste into a client. Never a key's
value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from proxy.config import Config, Off
from proxy.settings import Settings

_LOGIN = re.compile(r"^[^:/]*(:[^@]*)?@")
"""What stands before the host of a database, as its driver reads it: a password may hold a slash."""


def text(config: Config, settings: Settings, url: str) -> str:
    """`settings` are what is served, which the command line may have changed; `url` is without a path."""
    return "\n".join(_lines(config, settings, url))


def worker(config: Config, names: Sequence[str], url: str | None) -> str:
    """What `worker` says: which agents it runs; `url` is where its probes are."""
    lines = ["Runwire worker is up", f"  config  {config.path}", f"  state   {state(config.settings)}"]
    lines += [f"  health  {url}/ready"] if url else []
    return "\n".join([*lines, f"  agents  {', '.join(names)}"])


def agents(config: Config) -> Iterator[str]:
    """One line an agent: name, adapter, description; those that are off with what turns them on."""
    entries = [(name, agent.adapter, agent.description) for name, agent in config.settings.agents.items()]
    entries += [(off.name, "off", cure(off)) for off in config.off]
    first, second = (max(len(entry[column]) for entry in entries) for column in (0, 1))
    return (f"  {name:{first}}  {adapter:{second}}  {what}".rstrip() for name, adapter, what in entries)


def cure(off: Off) -> str:
    """How to turn an agent on."""
    return f"set {' or '.join(off.variables)} to turn it on" if off.variables else "its `enabled` turns it off"


def state(settings: Settings) -> str:
    """Where runs are kept; of a database without user, password and parameters, one of which may be a password too."""
    if not settings.shared:
        return settings.store
    kind, _, place = settings.store.partition("://")
    return f"{kind}://{_LOGIN.sub('', place).partition('?')[0]}"


def _lines(config: Config, settings: Settings, url: str) -> Iterator[str]:
    base = url + settings.server.root_path
    locked = bool(settings.server.api_keys or settings.server.jwt)
    key = '"YOUR_KEY"' if locked else '"none"'
    yield f"Runwire is up on {base}"
    yield f"  config  {config.path}" + ("  (the demo; `runwire init` begins your own)" if config.shipped else "")
    yield f"  state   {state(settings)}"
    yield "Agents"
    yield from agents(config)
    yield "From any OpenAI client"
    yield "  from openai import OpenAI"
    yield f'  client = OpenAI(base_url="{base}/v1", api_key={key})' + _about_keys(settings)
    yield (
        f'  client.chat.completions.create(model="{next(iter(settings.agents))}",'
        ' messages=[{"role": "user", "content": "Hello"}])'
    )


def _about_keys(settings: Settings) -> str:
    if settings.server.api_keys:
        return "  # one of server.api_keys"
    return "  # a token that server.jwt accepts" if settings.server.jwt else "  # no key is needed"

"""What the commands refuse to do, each with the reason and the cure."""

from __future__ import annotations

import ipaddress
import socket

from msgspec.structs import replace

from proxy.errors import ConfigError
from proxy.schema import did_you_mean
from proxy.settings import Settings


def admitted(settings: Settings, *, host: str | None, port: int | None, workers: int, insecure: bool) -> Settings:
    """The settings with the command line's word on top. Raises `ConfigError` for what would not be safe."""
    server = replace(
        settings.server,
        host=settings.server.host if host is None else host,
        port=settings.server.port if port is None else port,
    )
    if workers > 1 and not settings.shared:
        raise ConfigError(
            f"{workers} processes cannot share the store `{settings.store.partition(':')[0]}`, which belongs to one; "
            "set `store` to postgresql://..., or leave --workers at 1, which serves thousands of streams"
        )
    if workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("on this system, processes cannot share a port; start several with a --port each")
    if not (server.api_keys or server.jwt or insecure or is_loopback(server.host)):
        raise ConfigError(
            f"without API keys, anybody who reaches {server.host or 'this machine'} could use the agents; set "
            "`server.api_keys` (or `server.jwt`) in the config, listen on 127.0.0.1, or say --insecure"
        )
    return replace(settings, server=server)


def named(settings: Settings, names: str | None) -> list[str]:
    """The agents of that list with commas, all without one. Raises `ConfigError` for what is no agent."""
    wanted = list(settings.agents) if names is None else [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in settings.agents:
            cure = did_you_mean(name, settings.agents) or f"; there are {', '.join(settings.agents)}"
            raise ConfigError(f"--agents: there is no agent `{name}`{cure}")
    return wanted


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""What `serve` refuses to do, each with the reason and the cure."""

from __future__ import annotations

import ipaddress

from msgspec.structs import replace

from proxy.errors import ConfigError
from proxy.settings import Settings


def admitted(settings: Settings, *, host: str | None, port: int | None, workers: int, insecure: bool) -> Settings:
    """The settings with the command line's word on top. Raises `ConfigError` for what would not be safe."""
    server = replace(
        settings.server,
        host=settings.server.host if host is None else host,
        port=settings.server.port if port is None else port,
    )
    if workers > 1:
        raise ConfigError(
            f"{workers} processes cannot share the store `{settings.store.partition(':')[0]}`: its logs live in one "
            "process; leave --workers at 1, which serves thousands of streams"
        )
    if not (server.api_keys or server.jwt or insecure or is_loopback(server.host)):
        raise ConfigError(
            f"without API keys, anybody who reaches {server.host or 'this machine'} could use the agents; set "
            "`server.api_keys` (or `server.jwt`) in the config, listen on 127.0.0.1, or say --insecure"
        )
    return replace(settings, server=server)


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

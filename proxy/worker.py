"""The worker: a process that takes runs from the queue and serves nobody but probes.

It is an ASGI application like the server, so that one loop starts, drains and ends them both (`proxy/server.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection

from proxy.api.asgi import Receive, Scope, Send
from proxy.api.health import application
from proxy.api.lifespan import lived
from proxy.errors import ConfigError
from proxy.process import Process
from proxy.settings import Settings


class Worker:
    """One worker, for the agents of these names. Raises `ConfigError`, naming the place and the cure."""

    def __init__(self, settings: Settings, here: Collection[str]) -> None:
        if not settings.shared:
            kind = settings.store.partition(":")[0]
            raise ConfigError(
                f"`store`: {kind} belongs to one process, so that nobody can leave runs to a worker; set it to "
                "postgresql://... in the one config of all servers and workers"
            )
        self._process = Process(settings, here, "worker")
        self._probes = application(self._process.ready)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return lived(self._process.open(), receive, send)
        return self._probes(scope, receive, send)

    async def drain(self) -> None:
        """Claim nothing more and let runs end; returns when all have their end, or are handed over."""
        await self._process.drain()

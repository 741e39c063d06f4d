"""The life of an application: ours, and not the framework's, which would wrap what kept it from starting."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from proxy.api.asgi import Receive, Send


async def lived(life: AbstractAsyncContextManager[None], receive: Receive, send: Send) -> None:
    """Answer ASGI's lifespan: the application is up inside of the block. Raises what kept it from that."""
    await receive()
    async with life:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})

"""The agents that config.yaml names."""

from __future__ import annotations

from collections.abc import AsyncIterator

from adapters.plain import Request


async def hello(request: Request) -> AsyncIterator[str]:
    """Whatever is yielded streams to the client; a client that leaves stops it at its next `await` or `yield`."""
    yield "Hello! "
    for word in f"You said: {request.text}".split():
        yield word + " "

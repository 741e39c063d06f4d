"""Those who hear from this process of runs that others have, and cannot come back for the rest elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from proxy.events import Entry


class Readers:
    """Who is reading now."""

    def __init__(self) -> None:
        self.done: set[asyncio.Future[None]] = set()
        """One for each; it resolves once that reader has had all, or has left."""

    async def counted(self, batches: AsyncGenerator[list[Entry]]) -> AsyncGenerator[list[Entry]]:
        """The same; whoever takes them is a reader until then."""
        done = asyncio.get_running_loop().create_future()
        self.done.add(done)
        try:
            async with aclosing(batches):
                async for batch in batches:
                    yield batch
        finally:
            self.done.discard(done)
            done.set_result(None)

"""What a run comes to: the values in its log, or those that are made from its events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from msgspec import Struct

from proxy.api.native.mounts import Mount
from proxy.api.native.rooms import Rooms
from proxy.events import Entry
from proxy.model import Run
from proxy.wire.conversation import listed
from proxy.wire.frames import FrameMaker
from proxy.wire.waited import ValuesFold


class Source(Struct, frozen=True):
    """Follows a run's log; before the first entry is passed on, `made` is told what the run's thread held then.

    That is known only once the run has its turn: another may be at work on the thread before it.
    """

    rooms: Rooms
    run: Run
    made: FrameMaker | None = None

    async def __call__(
        self, *, idle: float, first: float | None = None, sink: Callable[[Entry], bool] | None = None
    ) -> AsyncGenerator[list[Entry]]:
        ready = self.made is None

        def taken(entry: Entry) -> bool:
            return ready and sink is not None and sink(entry)

        batches = self.rooms.manager.attend(self.run, idle=idle, first=first, sink=taken)
        async with aclosing(batches):
            async for batch in batches:
                if self.made is not None and batch and not ready:
                    self.made.begin(listed(await self.rooms.states.before(self.run)))
                    ready = True
                yield batch


def values_of(rooms: Rooms, mount: Mount, run: Run, *, native: bool) -> tuple[Source, ValuesFold]:
    """What a run's values are read from, and what makes an answer of them. `native`: its log has them."""
    made = None if native else FrameMaker(frozenset({"values"}))
    return Source(rooms, run, made), ValuesFold(made, wraps_errors=mount.wraps_errors)

"""How a run is told as it goes on: frames of its log as they are, and frames that are made from its events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
from msgspec import Struct

from proxy.api.native.mounts import Mount
from proxy.api.native.rooms import Rooms
from proxy.events import NULL, Entry
from proxy.model import Run
from proxy.runs.order import Order
from proxy.wire.conversation import listed
from proxy.wire.frames import FrameMaker
from proxy.wire.langgraph import LangGraphEncoder
from proxy.wire.waited import ValuesFold

encode = msgspec.json.Encoder().encode


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

        batches = self.rooms.manager.follow(self.run, idle=idle, first=first, sink=taken)
        async with aclosing(batches):
            async for batch in batches:
                if self.made is not None and batch and not ready:
                    self.made.begin(listed(await self.rooms.states.before(self.run)))
                    ready = True
                yield batch


class Told(Struct, frozen=True):
    """A run with what is to be told of it."""

    rooms: Rooms
    run: Run
    native: bool
    """Its log has frames of the modes that it was asked for."""

    @classmethod
    def of(cls, rooms: Rooms, run: Run, order: Order) -> Told:
        agent = rooms.agents.named(run.agent)
        if run.input == NULL:
            run = msgspec.structs.replace(run, input=msgspec.Raw(encode(order.input)))
        return cls(rooms, run, agent is not None and agent.adapter.native)

    def stream(self, mount: Mount) -> tuple[Source, LangGraphEncoder]:
        modes = frozenset(self.run.choices.modes)
        made = None if self.native else self._maker(modes)
        native = modes if self.native else frozenset[str]()
        return Source(self.rooms, self.run, made), LangGraphEncoder(mount.wire, native=native, made=made)

    def values(self, mount: Mount) -> tuple[Source, ValuesFold]:
        made = None if self.native else self._maker(frozenset({"values"}))
        return Source(self.rooms, self.run, made), ValuesFold(made, wraps_errors=mount.wraps_errors)

    def _maker(self, modes: frozenset[str]) -> FrameMaker:
        choices = self.run.choices
        return FrameMaker(modes, assistant_id=choices.assistant_id, subgraphs=choices.subgraphs)

"""A run that was lost to another process does nothing more here, whatever it was about to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from proxy.adapter import RunInput
from proxy.events import Cancelled, Event, Final, TextDelta
from proxy.model import Run, RunStatus, ThreadOutcome, new_id
from proxy.runs.limits import RunBounds
from proxy.runs.worker import Execution
from proxy.settings import Agent, Runs
from proxy.store.memory.store import MemoryStore


class Slow:
    """A keeper that takes its time to leave the thread."""

    def __init__(self) -> None:
        self.leaving, self.go, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.wrote = False

    async def begin(self, asked: RunInput) -> RunInput:
        return asked

    async def end(self, final: Final) -> ThreadOutcome | None:
        self.leaving.set()
        try:
            await self.go.wait()
            self.wrote = True
        finally:
            self.over.set()
        return None

    async def part(self) -> None: ...


def test_p11_a_run_whose_agent_was_abandoned_writes_nothing_to_its_thread_once_it_is_lost() -> None:
    async def main() -> None:
        begun, release, keeper = asyncio.Event(), asyncio.Event(), Slow()

        async def play(asked: RunInput) -> AsyncGenerator[Event]:
            begun.set()
            while not release.is_set():
                with suppress(asyncio.CancelledError):
                    await release.wait()
            yield TextDelta(text="too late")

        run = Run(run_id=new_id(), thread_id=new_id(), agent="agent", status=RunStatus.RUNNING)
        bounds = RunBounds.of(Agent(adapter="test"), Runs(cancel_grace=0.01))
        execution = Execution(MemoryStore().begin(run, inserted=False), bounds, lambda ended: None, keeper)
        execution.start(play, RunInput(run_id=run.run_id, thread_id=run.thread_id, agent="agent"))
        await begun.wait()
        execution.stop(Cancelled(action="rollback"))
        await keeper.leaving.wait()
        execution.lose()
        assert await execution.done is None
        keeper.go.set()
        await keeper.over.wait()
        release.set()
        assert not keeper.wrote

    asyncio.run(asyncio.wait_for(main(), 20))

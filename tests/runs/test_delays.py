"""Runs that are to start later start then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest

from proxy.adapter import RunInput
from proxy.errors import Unavailable
from proxy.events import Completed, Entry, Event, TextDelta
from proxy.model import Run, RunStatus, new_id
from proxy.store.memory.store import MemoryStore
from tests.runs.house import Scenario, house


async def answer(run: RunInput) -> AsyncGenerator[Event]:
    yield TextDelta(text="Hello")


@pytest.mark.parametrize("thread", [None, "t"])
def test_a_delayed_run_starts_though_timers_run_ahead_of_the_clock(
    monkeypatch: pytest.MonkeyPatch, thread: str | None
) -> None:
    real, began = time.time, time.time()
    monkeypatch.setattr(time, "time", lambda: began + (real() - began) / 2)

    async def main() -> None:
        async with house(Scenario(answer)) as here:
            run = await here.start(thread=thread, delay=0.05)
            assert await here.final(run) == Completed()

    asyncio.run(main())


class Hiccup(MemoryStore):
    """Cannot be read the first time."""

    away = True

    async def read(self, run_id: str, *, after: int, limit: int) -> list[Entry]:
        away, self.away = self.away, False
        if away:
            raise Unavailable("away")
        return await super().read(run_id, after=after, limit=limit)


def test_a_run_that_waits_again_is_cancelled_though_its_log_could_not_be_read_at_once() -> None:
    async def main() -> None:
        store = Hiccup()
        waiting = Run(run_id=new_id(), thread_id="t", agent="agent", attempt=2, not_before=time.time() + 3600)
        run = await store.insert(waiting)
        async with house(Scenario(answer), store=store) as here:
            with pytest.raises(Unavailable):
                await here.manager.cancel("default", run.run_id)
            ended = await asyncio.wait_for(here.manager.wait(run), 5)
            assert ended.status is RunStatus.CANCELLED

    asyncio.run(main())


def test_delayed_runs_on_hidden_threads_leave_nothing_behind() -> None:
    async def main() -> None:
        async with house(Scenario(answer)) as here:
            run = await here.start(delay=0.01)
            await here.final(run)
            gone = await here.start(delay=3600)
            await here.manager.cancel("default", gone.run_id)
            assert here.manager.live == []
            assert await here.store.waiting() == {}

    asyncio.run(main())

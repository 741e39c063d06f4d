"""Runs that are to start later start then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest

from proxy.adapter import RunInput
from proxy.events import Completed, Event, TextDelta
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

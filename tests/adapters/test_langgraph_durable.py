"""Checkpoints survive runs that are cancelled while they write."""

import asyncio
import random

import pytest

from tests.adapters.conftest import Place
from tests.adapters.langgraph_runs import agent, events_of, run_of, text


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_runs_cancelled_at_any_moment_leave_the_store_free_for_others(place: Place) -> None:
    async def main() -> None:
        dice = random.Random(3)
        async with agent("chat", folder=place.folder, state=place.state) as adapter:

            async def cut(number: int) -> None:
                run = run_of("hi", run_id=f"r{number}", thread_id=f"t{number % 7}", temporary=False)
                task = asyncio.create_task(events_of(adapter, run))
                await asyncio.sleep(dice.random() * 0.03)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

            for start in range(0, 200, 8):
                await asyncio.gather(*(cut(start + i) for i in range(8)))
            run = run_of("hi", run_id="last", thread_id="t1", temporary=False, fresh=False)
            assert text(await asyncio.wait_for(events_of(adapter, run), 30))
        async with agent("chat", folder=place.folder, state=place.state) as other:
            assert text(await asyncio.wait_for(events_of(other, run_of("hi", temporary=False)), 30))

    asyncio.run(main())

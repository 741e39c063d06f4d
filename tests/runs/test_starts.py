"""What a run is said to have started with is the same whenever it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.model import Run, SavedState
from proxy.runs.starts import before
from proxy.store.memory.store import MemoryStore
from proxy.wire.conversation import Conversation
from tests.runs.talks import Talk, raw, told

HI, AGAIN = ({"messages": [{"role": "user", "content": text}]} for text in ("hi", "again"))


class Busy(MemoryStore):
    """Something happens after it has been asked for states, before the next question."""

    then: Callable[[], Awaitable[object]] | None = None

    async def states(self, *args: Any, **query: Any) -> list[SavedState]:
        found = await super().states(*args, **query)
        then, self.then = self.then, None
        if then is not None:
            await then()
        return found


def test_a_run_that_is_over_between_two_looks_at_it_started_with_its_input_alone() -> None:
    async def main() -> None:
        store = Busy()
        talk = await Talk(store).open()
        await talk.run(talk.asked(HI), "one")
        asked = talk.asked(AGAIN)
        delayed = Run(run_id=asked.run_id, thread_id=asked.thread_id, agent="bot", input=raw(asked))

        store.then = lambda: talk.run(asked, "two")
        begun = told(await before(delayed, store, Conversation()))
        assert store.then is None
        assert begun == [("human", "hi"), ("ai", "one"), ("human", "again")]

    asyncio.run(asyncio.wait_for(main(), 20))

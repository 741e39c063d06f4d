"""Which webhooks are still to be called: bounded in memory, and none forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from proxy.errors import Unavailable
from proxy.events import NULL, Completed
from proxy.model import Run
from proxy.runs.deliveries import Deliveries
from proxy.runs.webhooks import Webhooks
from proxy.settings import Webhooks as Settings
from proxy.store.memory.store import MemoryStore
from proxy.testing.runs import ended, new_run
from tests.fakes.receiver import hangs, receiving

URL = "https://hooks.example.com/"


class Scripted:
    """Webhooks that take as long as the test wants."""

    def __init__(self, *, held: bool = False, taken: bool = True) -> None:
        self.calls: list[Run] = []
        self.go_on = asyncio.Event()
        self.arrived = asyncio.Semaphore(0)
        self.most = self._now = 0
        self._taken = taken
        if not held:
            self.go_on.set()

    async def deliver(self, run: Run) -> bool:
        self.calls.append(run)
        self._now += 1
        self.most = max(self.most, self._now)
        self.arrived.release()
        try:
            await self.go_on.wait()
        finally:
            self._now -= 1
        return self._taken

    async def all(self, count: int) -> None:
        for _ in range(count):
            await self.arrived.acquire()


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 30))


async def over(store: MemoryStore, url: str | None = URL) -> Run:
    """A run that has ended."""
    run = new_run(webhook=url)
    end = ended(run)
    await store.begin(run, inserted=False).settle(Completed(), end)
    return end


async def left(store: MemoryStore) -> list[str]:
    return [run.run_id for run in await store.calling(limit=1000)]


def test_an_ended_run_calls_once_and_is_forgotten() -> None:
    async def scene() -> None:
        store, webhooks = MemoryStore(), Scripted(held=True)
        deliveries = Deliveries(store, webhooks)
        run = await over(store)
        for _ in range(3):
            deliveries.add(run)
        await webhooks.all(1)
        assert await left(store) == [run.run_id], "until it was told"
        webhooks.go_on.set()
        while await left(store):
            await asyncio.sleep(0)
        await deliveries.close()
        assert [call.run_id for call in webhooks.calls] == [run.run_id]
        assert webhooks.calls[0].input == NULL, "what may be large is not held"

    play(scene())


def test_a_run_without_a_webhook_calls_nobody() -> None:
    async def scene() -> None:
        store, webhooks = MemoryStore(), Scripted()
        deliveries = Deliveries(store, webhooks)
        deliveries.add(await over(store, None))
        await deliveries.close()
        assert webhooks.calls == []

    play(scene())


def test_a_call_that_was_given_up_is_not_made_after_the_next_start() -> None:
    async def scene() -> None:
        store, webhooks = MemoryStore(), Scripted(taken=False)
        deliveries = Deliveries(store, webhooks)
        deliveries.add(await over(store))
        while await left(store):
            await asyncio.sleep(0)
        await deliveries.close()
        again = Deliveries(store, webhooks)
        await again.open()
        await again.close()
        assert len(webhooks.calls) == 1

    play(scene())


def test_what_was_not_told_is_told_after_the_next_start() -> None:
    async def scene() -> None:
        store, held, webhooks = MemoryStore(), Scripted(held=True), Scripted()
        deliveries = Deliveries(store, held)
        under_way, never_added = await over(store), await over(store)
        deliveries.add(under_way)
        await held.all(1)
        await deliveries.close()
        deliveries.add(never_added)
        again = Deliveries(store, webhooks)
        await again.open()
        await webhooks.all(2)
        while await left(store):
            await asyncio.sleep(0)
        await again.close()
        assert {call.run_id for call in webhooks.calls} == {under_way.run_id, never_added.run_id}
        assert len(held.calls) == 1

    play(scene())


def test_a_flood_of_ends_is_held_in_the_store_and_all_are_told_in_the_end() -> None:
    async def scene() -> None:
        store, webhooks = MemoryStore(), Scripted(held=True)
        deliveries = Deliveries(store, webhooks, most=8)
        runs = [await over(store) for _ in range(100)]
        for run in runs:
            deliveries.add(run)
        await webhooks.all(8)
        assert len(webhooks.calls) == 8
        webhooks.go_on.set()
        while await left(store):
            await asyncio.sleep(0)
        await deliveries.close()
        assert webhooks.most == 8
        assert {call.run_id for call in webhooks.calls} == {run.run_id for run in runs}

    play(scene())


def test_a_store_that_does_not_take_the_end_of_a_call_leads_to_another_call() -> None:
    class Away(MemoryStore):
        async def called(self, tenant: str, run_id: str) -> bool:
            raise Unavailable("The store cannot be written now.")

    async def scene() -> None:
        store, webhooks = Away(), Scripted()
        run = await over(store)
        for _ in range(2):
            deliveries = Deliveries(store, webhooks)
            await deliveries.open()
            await webhooks.all(1)
            await deliveries.close()
        assert [call.run_id for call in webhooks.calls] == [run.run_id] * 2

    play(scene())


def test_closing_does_not_wait_for_a_receiver_that_hangs() -> None:
    async def scene() -> None:
        async def body(run: Run) -> bytes:
            return b"{}"

        store = MemoryStore()
        async with receiving(hangs) as receiver:
            webhooks = Webhooks(Settings(allow=(f"127.0.0.1:{receiver.port}",), timeout=3600.0), body)
            deliveries = Deliveries(store, webhooks)
            run = await over(store, f"http://127.0.0.1:{receiver.port}/")
            deliveries.add(run)
            while not receiver.calls:
                await asyncio.sleep(0)
            await deliveries.close()
            await receiver.left.wait()
        assert await left(store) == [run.run_id]

    play(scene())


def test_calls_that_a_lost_process_left_are_taken_up_while_this_one_serves() -> None:
    async def scene() -> None:
        store, webhooks = MemoryStore(), Scripted()
        deliveries = Deliveries(store, webhooks)
        await deliveries.open()
        run = await over(store)
        assert await deliveries.look() is False, "it deletes nothing"
        await webhooks.all(1)
        while await left(store):
            await asyncio.sleep(0)
        await deliveries.look()
        await deliveries.close()
        assert [call.run_id for call in webhooks.calls] == [run.run_id]

    play(scene())

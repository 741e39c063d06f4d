"""How many threads there may be, how large they may be, and how long they stay."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from proxy.adapter import ThreadName
from proxy.errors import Conflict, TooManyThreads, Unprocessable
from proxy.model import (
    RunStatus,
)
from proxy.runs.threads import METADATA, ThreadQuery
from tests.runs.threads_house import HOUR, On, ThreadHouse, names

OLD = time.time() - 7200.0


def test_a_thread_goes_when_its_lifetime_is_over(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        over = await house.thread("held", updated_at=OLD, lifetime=HOUR)
        house.held.held.values[ThreadName(thread_id=over.thread_id).key] = [1]
        busy = await house.thread(updated_at=OLD, lifetime=HOUR)
        young, lasting = await house.thread(updated_at=time.time(), lifetime=HOUR), await house.thread(updated_at=OLD)
        run = await house.run(busy)
        agent = await house.started()
        assert await house.threads.sweep()
        assert house.held.held.values == {}
        assert not await house.threads.sweep()
        left = await house.threads.find(ThreadQuery(tenant="default"))
        assert set(names(*left)) == set(names(busy, young, lasting))
        await agent.end()
        assert (await house.manager.wait(run)).status is RunStatus.SUCCESS
        assert not await house.threads.sweep()

    on(act)


def test_a_thread_that_keeps_its_latest_state_is_thinned_once(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        keep = msgspec.structs.replace(HOUR, strategy="keep_latest")
        thread = await house.thread()
        for _ in range(3):
            await house.write(thread)
        await house.threads.patch(
            "default", thread.thread_id, metadata={}, lifetime=msgspec.structs.replace(keep, ttl=1e-9)
        )
        await asyncio.sleep(0.001)
        assert await house.threads.sweep()
        assert not await house.threads.sweep()
        assert len(await house.threads.history("default", thread.thread_id, limit=10)) == 1
        assert await house.said(thread) == ["hi"] * 3

    on(act)


def test_lifetimes_are_looked_after_while_the_server_runs(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        thread = await house.thread(updated_at=OLD, lifetime=HOUR)
        while await house.store.get_thread("default", thread.thread_id) is not None:
            await asyncio.sleep(0.001)

    on(act, sweeps_every=0.001)


def test_an_agent_that_cannot_forget_keeps_the_others_from_nothing(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        stuck, over = (
            await house.thread(updated_at=OLD - 1.0, lifetime=HOUR),
            await house.thread(updated_at=OLD, lifetime=HOUR),
        )
        forget = house.held.forget

        async def refuse(thread_key: str) -> None:
            if stuck.thread_id in thread_key:
                raise Conflict("not now")
            await forget(thread_key)

        house.held.forget = refuse  # type: ignore[method-assign]
        assert await house.threads.sweep()
        assert not await house.threads.sweep()
        assert names(*await house.threads.find(ThreadQuery(tenant="default"))) == [stuck.thread_id]
        assert over.thread_id != stuck.thread_id

    on(act)


def test_a_tenant_has_only_so_many_threads(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        threads = [await house.thread() for _ in range(3)]
        for refused in (house.thread(), house.threads.copy("default", threads[0].thread_id)):
            with pytest.raises(TooManyThreads, match="3 threads"):
                await refused
        assert await house.threads.create(threads[0], if_exists="do_nothing") == threads[0]
        await house.thread(tenant="b")
        await house.threads.delete("default", threads[0].thread_id)
        await house.thread()
        with pytest.raises(TooManyThreads):
            await house.thread()
        assert await house.threads.count(ThreadQuery(tenant="default")) == 3

    on(act, most=3)


def test_a_flood_of_threads_is_stopped_for_its_tenant_alone(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        flood = await asyncio.gather(*(house.thread() for _ in range(50)), return_exceptions=True)
        refused = [one for one in flood if isinstance(one, TooManyThreads)]
        assert len(refused) == 40
        assert (refused[0].status, refused[0].retryable) == (429, False)
        assert len(await asyncio.gather(*(house.thread(tenant="b") for _ in range(10)))) == 10

    on(act, most=10)


def test_metadata_does_not_grow_without_bound(on: On) -> None:
    async def act(house: ThreadHouse) -> None:
        half = "x" * (METADATA // 2)
        thread = await house.thread(metadata={"a": half})
        with pytest.raises(Unprocessable, match="metadata"):
            await house.thread(metadata={"a": half + half})
        with pytest.raises(Unprocessable, match="metadata"):
            await house.threads.patch("default", thread.thread_id, metadata={"b": half})
        assert (await house.threads.patch("default", thread.thread_id, metadata={"a": half})).metadata["a"] == half

    on(act)

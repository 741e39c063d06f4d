"""Runs are made, joined, cancelled, deleted and drained at one place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec
import pytest

from proxy.adapter import RunInput
from proxy.errors import Busy, Conflict, Draining, NotFound, NotWaiting, TooMany, Unavailable
from proxy.events import Cancelled, Completed, Event, Failed, Paused, TextDelta
from proxy.model import ACTIVE, Action, Choices, Idempotency, Run, RunStatus
from proxy.settings import Limits, Retention, Runs
from proxy.store.memory.store import MemoryStore
from proxy.testing import Script
from tests.runs.house import Scenario, house


async def answer(run: RunInput) -> AsyncGenerator[Event]:
    yield TextDelta(text="Hello")


def test_the_same_key_at_the_same_time_starts_one_run() -> None:
    async def main() -> None:
        async with house(Scenario(answer)) as here:
            key = Idempotency(key="k", fingerprint="f")
            runs = await asyncio.gather(*(here.start(idempotency=key) for _ in range(50)))
            assert len({run.run_id for run in runs}) == 1
            with pytest.raises(Conflict):
                await here.start(idempotency=Idempotency(key="k", fingerprint="other"))
            other = await here.start(idempotency=key, tenant="b")
            assert other.run_id != runs[0].run_id

    asyncio.run(main())


def test_a_busy_thread_refuses_and_names_the_run() -> None:
    async def main() -> None:
        script = Script()
        async with house(script) as here:
            first = await here.start(thread="t")
            agent = await script.started()
            with pytest.raises(Busy) as refused:
                await here.start(thread="t")
            assert refused.value.run_id == first.run_id
            await here.start(thread="t", tenant="b")
            await agent.end()
            await here.final(first)
            await here.start(thread="t")

    asyncio.run(main())


def test_more_runs_than_allowed_are_refused_until_one_ends() -> None:
    async def main() -> None:
        script = Script()
        async with house(script, limits=Limits(concurrent=2)) as here:
            first, _ = await here.start(), await here.start()
            with pytest.raises(TooMany) as refused:
                await here.start()
            assert refused.value.retry_after
            here.manager.stop(first)
            await here.final(first)
            await here.manager.wait(first)
            await here.start()

    asyncio.run(main())


def test_a_refused_run_leaves_no_slot_taken() -> None:
    async def main() -> None:
        script = Script()
        async with house(script, limits=Limits(concurrent=2)) as here:
            await here.start(thread="t")
            for _ in range(5):
                with pytest.raises(Busy):
                    await here.start(thread="t")
            await here.start(thread="u")

    asyncio.run(main())


def test_cancelling_a_finished_run_is_harmless_and_tells_its_status() -> None:
    async def main() -> None:
        async with house(Scenario(answer)) as here:
            run = await here.start()
            await here.final(run)
            [known] = await here.manager.cancel("default", run.run_id)
            assert known.status is RunStatus.SUCCESS
            with pytest.raises(NotFound):
                await here.manager.cancel("b", run.run_id)

    asyncio.run(main())


def test_cancelling_a_group_cancels_all_its_runs() -> None:
    async def main() -> None:
        script = Script()
        async with house(script) as here:
            runs = [await here.start(group="g") for _ in range(3)]
            other = await here.start()
            await here.manager.cancel("default", "g")
            for run in runs:
                assert await here.final(run) == Cancelled(action="interrupt")
            assert not (await here.manager.get("default", other.run_id)).ended
            assert len(await here.manager.cancel("default", "g")) == 3

    asyncio.run(main())


def test_a_pause_is_answered_once() -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            yield Paused()

        async with house(Scenario(play)) as here:
            first = await here.start(thread="t")
            await here.final(first)
            [pause] = await here.manager.pauses("default", "t", "agent")
            second = await here.start(thread="t", pause=pause)
            assert (second.resumes, second.turn_id) == (first.run_id, first.turn_id)
            await here.final(second)
            with pytest.raises(NotWaiting):
                await here.start(thread="t", pause=pause)
            third = await here.start(thread="t")
            await here.final(third)

    asyncio.run(main())


def test_any_run_of_a_turn_cancels_the_one_that_is_live() -> None:
    async def main() -> None:
        script = Script()
        async with house(script) as here:
            first = await here.start(thread="t")
            await (await script.started()).end(Paused())
            await here.final(first)
            [pause] = await here.manager.pauses("default", "t", "agent")
            second = await here.start(thread="t", pause=pause)
            await script.started()
            await here.manager.cancel("default", first.run_id)
            assert isinstance(await here.final(second), Cancelled)
            assert isinstance(await here.final(first), Paused)

    asyncio.run(main())


def test_deleting_a_running_run_stops_it_first() -> None:
    async def main() -> None:
        script = Script()
        async with house(script) as here:
            run = await here.start()
            agent = await script.started()
            await here.manager.delete("default", run.run_id)
            assert agent.cancelled.is_set()
            with pytest.raises(NotFound):
                await here.manager.get("default", run.run_id)

    asyncio.run(main())


def test_a_run_that_is_deleted_while_it_is_cancelled_is_not_found() -> None:
    class Raced(MemoryStore):
        async def ask_cancel(self, tenant: str, run_id: str, action: Action) -> Run | None:
            """As where another process ends and deletes the run just before."""
            known = await self.get(tenant, run_id)
            assert known is not None
            await self.transition(msgspec.structs.replace(known, status=RunStatus.CANCELLED), frm=ACTIVE)
            assert await self.delete(tenant, run_id)
            return await super().ask_cancel(tenant, run_id, action)

    async def main() -> None:
        async with house(Scenario(answer), store=Raced()) as here:
            run = await here.start(thread="t", delay=3600.0)
            with pytest.raises(NotFound):
                await here.manager.cancel(run.tenant, run.run_id)

    asyncio.run(main())


def test_draining_gives_runs_their_time_and_then_an_end_and_takes_no_more() -> None:
    async def main() -> None:
        script = Script()
        async with house(script) as here:
            quick, slow = await here.start(), await here.start()
            first = await script.started()
            await script.started()
            ending = asyncio.create_task(first.end())
            await here.manager.drain(0.05)
            await ending
            assert isinstance(await here.final(quick), Completed)
            final = await here.final(slow)
            assert isinstance(final, Failed)
            assert (final.code, final.retryable) == ("server_shutting_down", True)
            with pytest.raises(Draining):
                await here.start()

    asyncio.run(main())


def test_a_run_that_was_being_stored_when_the_draining_began_gets_its_end_too() -> None:
    async def main() -> None:
        script = Script()
        async with house(script) as here:
            storing, go = asyncio.Event(), asyncio.Event()
            insert = here.store.insert

            async def slow(run: Run, **how: object) -> Run:
                storing.set()
                await go.wait()
                return await insert(run, **how)  # type: ignore[arg-type]

            here.store.insert = slow  # type: ignore[method-assign, assignment]
            making = asyncio.create_task(here.start(thread="t"))
            await storing.wait()
            await here.manager.drain(0.05)
            go.set()
            final = await here.final(await making)
            assert isinstance(final, Failed)
            assert final.code == "server_shutting_down"

    asyncio.run(main())


def test_content_that_is_not_to_be_kept_goes_when_the_run_is_over() -> None:
    async def main() -> None:
        script = Script()
        async with house(script) as here:
            run = await here.start(choices=Choices(store=False))
            reading = asyncio.create_task(here.final(run))
            agent = await script.started()
            await agent.say("private")
            await agent.end()
            assert isinstance(await reading, Completed)
            kept = await here.manager.get("default", run.run_id)
            assert bytes(kept.input) == b"null"
            while len(entries := await here.manager.read(run, after=0, limit=10)) > 1:
                await asyncio.sleep(0)
            assert isinstance(entries[0].event, Completed)

    asyncio.run(main())


def test_old_runs_are_swept_away() -> None:
    async def main() -> None:
        runs = Runs(retention=Retention(count=2, every=0.01))
        async with house(Scenario(answer), runs) as here:
            made = [await here.start() for _ in range(5)]
            for run in made[-2:]:  # the others may be gone by now
                await here.final(run)
            while await here.store.get("default", made[0].run_id):
                await asyncio.sleep(0.01)
            await here.manager.get("default", made[-1].run_id)

    asyncio.run(main())


def test_sweeping_goes_on_when_the_store_was_away_for_a_while() -> None:
    class Shaky(MemoryStore):
        away = 2

        async def sweep(self, *, before: float, keep: int, gone: float = 0.0) -> list[Run]:
            if self.away:
                self.away -= 1
                raise Unavailable
            return await super().sweep(before=before, keep=keep, gone=gone)

    async def main() -> None:
        runs = Runs(retention=Retention(count=1, every=0.01))
        async with house(Scenario(answer), runs, store=Shaky()) as here:
            made = [await here.start() for _ in range(3)]
            await here.final(made[-1])  # the others may be gone by now
            async with asyncio.timeout(20):
                while await here.store.get("default", made[0].run_id):
                    await asyncio.sleep(0.01)

    asyncio.run(main())

"""Whatever an agent does, its run ends in exactly one final event."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator

import msgspec
import pytest

from proxy.adapter import RunInput
from proxy.errors import RateLimited, UpstreamError
from proxy.events import (
    Cancelled,
    Completed,
    Custom,
    Event,
    Failed,
    Interrupt,
    Paused,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from proxy.model import RunStatus
from proxy.settings import Limits, Price, Runs
from proxy.testing import Script
from tests.runs.house import House, Scenario, house


async def cancel(here: House, run_id: str) -> None:
    await here.manager.cancel("default", run_id)


def test_a_run_that_ends_without_a_word_is_completed() -> None:
    async def main() -> None:
        script = Script()
        async with house(script) as here:
            run = await here.start()
            agent = await script.started()
            await agent.say("Hel", "lo")
            await agent.end()
            assert await here.final(run) == Completed(finish_reason="stop")
            ended = await here.manager.wait(run)
            assert ended.status is RunStatus.SUCCESS
            assert ended.outcome is not None
            assert ended.outcome.stop_reason == "end_turn"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (ValueError("secret"), "internal_error", 500),
        (SystemExit(3), "internal_error", 500),
        (KeyboardInterrupt(), "internal_error", 500),
        (GeneratorExit(), "internal_error", 500),
        (asyncio.CancelledError(), "internal_error", 500),
        (RateLimited(retry_after=3), "llm_rate_limit", 429),
        (UpstreamError(), "llm_error", 502),
        (TimeoutError("hm"), "internal_error", 500),
        (RecursionError(), "internal_error", 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
@pytest.mark.parametrize("said", [0, 2])
def test_whatever_the_agent_raises_fails_the_run_alone(error: BaseException, code: str, status: int, said: int) -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            for _ in range(said):
                yield TextDelta(text="x")
            raise error

        async with house(Scenario(play)) as here:
            final = await here.final(await here.start())
            assert isinstance(final, Failed)
            assert (final.code, final.status) == (code, status)
            assert "secret" not in final.message

    asyncio.run(main())


@pytest.mark.parametrize("steps", range(6))
def test_a_cancel_reaches_the_agent_at_every_step(steps: int) -> None:
    async def main() -> None:
        script = Script()
        async with house(script) as here:
            run = await here.start()
            agent = await script.started()
            for _ in range(steps):
                await agent.say("x")
            await cancel(here, run.run_id)
            assert await here.final(run) == Cancelled(action="interrupt")
            assert agent.cancelled.is_set()
            assert agent.closed.is_set()
            assert (await here.manager.get("default", run.run_id)).status is RunStatus.CANCELLED

    asyncio.run(main())


def test_a_cancel_before_the_first_step_ends_the_run_without_running_it() -> None:
    async def main() -> None:
        ran: list[str] = []

        async def play(run: RunInput) -> AsyncGenerator[Event]:
            ran.append(run.run_id)
            yield TextDelta(text="x")

        async with house(Scenario(play)) as here:
            run = await here.start()
            here.manager.stop(run)
            assert await here.final(run) == Cancelled(action="interrupt")
            assert not ran

    asyncio.run(main())


def test_hundreds_of_cancels_at_random_moments_leave_exactly_one_end_each() -> None:
    async def main() -> None:
        dice = random.Random(7)

        async def play(run: RunInput) -> AsyncGenerator[Event]:
            try:
                for i in range(40):
                    for _ in range(dice.randrange(3)):
                        await asyncio.sleep(0)
                    yield TextDelta(text=str(i))
            finally:
                await asyncio.sleep(0)

        async with house(Scenario(play)) as here:

            async def one() -> Event:
                run = await here.start()
                reading = asyncio.create_task(here.final(run))
                for _ in range(dice.randrange(150)):
                    await asyncio.sleep(0)
                here.manager.stop(run)
                if dice.random() < 0.5:
                    await asyncio.sleep(0)
                    here.manager.stop(run, "rollback")
                return await reading

            ends = await asyncio.gather(*(one() for _ in range(400)))
            kinds = {type(end) for end in ends}
            assert kinds == {Cancelled, Completed}
            assert not here.manager.live

    asyncio.run(main())


def test_an_agent_that_swallows_its_cancel_never_turns_it_into_success() -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            yield TextDelta(text="x")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                yield TextDelta(text="after")
                yield Completed()

        async with house(Scenario(play)) as here:
            run = await here.start()
            async for batch in here.manager.follow(run):
                if any(isinstance(entry.event, TextDelta) for entry in batch):
                    break
            await cancel(here, run.run_id)
            assert await here.final(run) == Cancelled(action="interrupt")
            texts = [e.event.text for e in await here.log(run) if isinstance(e.event, TextDelta)]
            assert texts == ["x"]

    asyncio.run(main())


def test_an_agent_that_does_not_stop_is_abandoned_after_the_grace_time() -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def play(run: RunInput) -> AsyncGenerator[Event]:
            yield TextDelta(text="x")
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            yield TextDelta(text="too late")

        async with house(Scenario(play), Runs(cancel_grace=0.05)) as here:
            run = await here.start()
            async for batch in here.manager.follow(run):
                if any(isinstance(entry.event, TextDelta) for entry in batch):
                    break
            await cancel(here, run.run_id)
            assert await here.final(run) == Cancelled(action="interrupt")
            release.set()
            await asyncio.sleep(0)
            assert isinstance(await here.final(run), Cancelled)

    asyncio.run(main())


def test_what_an_agent_says_after_its_end_is_not_heard() -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            yield Completed(finish_reason="length")
            yield TextDelta(text="more")

        async with house(Scenario(play)) as here:
            assert await here.final(await here.start()) == Completed(finish_reason="length")

    asyncio.run(main())


@pytest.mark.parametrize("moment", ["finally", "ignored exit"])
def test_an_agent_that_breaks_while_it_is_closed_still_has_one_end(moment: str) -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            try:
                yield TextDelta(text="x")
                yield Completed()
            finally:
                if moment == "finally":
                    raise ValueError("in finally")
                yield TextDelta(text="never do this")

        async with house(Scenario(play)) as here:
            final = await here.final(await here.start())
            assert isinstance(final, Failed)
            assert final.code == "internal_error"

    asyncio.run(main())


def test_something_that_is_no_event_fails_the_run() -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            yield "text"  # type: ignore[misc]

        async with house(Scenario(play)) as here:
            assert isinstance(await here.final(await here.start()), Failed)

    asyncio.run(main())


@pytest.mark.parametrize("runs", [Runs(timeout=0.05), Runs(idle_timeout=0.05)], ids=["timeout", "idle timeout"])
def test_a_run_that_takes_too_long_is_ended_and_its_agent_stopped(runs: Runs) -> None:
    async def main() -> None:
        script = Script()
        async with house(script, runs) as here:
            run = await here.start()
            agent = await script.started()
            final = await here.final(run)
            assert isinstance(final, Failed)
            assert (final.code, final.status) == ("run_timeout", 504)
            assert agent.cancelled.is_set()

    asyncio.run(main())


def test_an_agent_that_never_waits_lets_others_run_and_is_bounded() -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            while True:
                yield TextDelta(text="x")

        async with house(Scenario(play), limits=Limits(events=5000)) as here:
            run = await here.start()
            final = await here.final(run)
            assert isinstance(final, Failed)
            assert final.code == "run_limit"

    asyncio.run(main())


def test_model_calls_and_tokens_are_bounded_and_summed() -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            for _ in range(3):
                yield Usage(model="m", input_tokens=10, output_tokens=5)

        async with house(Scenario(play)) as here:
            run = await here.start()
            await here.final(run)
            outcome = (await here.manager.wait(run)).outcome
            assert outcome is not None
            assert (outcome.usage.input_tokens, outcome.usage.output_tokens, outcome.model_calls) == (30, 15, 3)
        async with house(Scenario(play), limits=Limits(model_calls=2)) as here:
            assert isinstance(await here.final(await here.start()), Failed)
        async with house(Scenario(play), limits=Limits(tokens=29)) as here:
            assert isinstance(await here.final(await here.start()), Failed)

    asyncio.run(main())


def test_a_pause_ends_the_run_as_success_and_leaves_its_questions() -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            yield Paused()

        async with house(Scenario(play)) as here:
            run = await here.start(thread="t1")
            assert await here.final(run) == Paused()
            [pause] = await here.manager.pauses("default", "t1", "agent")
            assert pause.run_id == run.run_id
            assert (await here.manager.wait(run)).status is RunStatus.SUCCESS

    asyncio.run(main())


def test_text_that_is_no_unicode_is_mended_where_it_comes_in() -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            yield TextDelta(text="a\ud800b")
            yield TextDelta(text="\ud83d\ude00")
            yield ToolCallDelta(call_id="\udfff", name="f", path=("\ud800",))
            yield Paused(interrupts=(Interrupt(id="\ud800"),))

        async with house(Scenario(play)) as here:
            run = await here.start()
            assert isinstance(await here.final(run), Paused)
            events = [entry.event for entry in await here.log(run)]
            assert events[1:3] == [TextDelta(text="a\ufffdb"), TextDelta(text="😀")]
            for event in events:
                msgspec.json.encode(event)

    asyncio.run(main())


def test_cost_is_summed_by_the_prices_and_bounded() -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            for _ in range(2):
                yield Usage(model="m", input_tokens=1_000_000, cached_tokens=500_000, output_tokens=100_000)
            yield Usage(model="free", input_tokens=5)

        runs = Runs(prices={"m": Price(input=2.0, cached=1.0, output=10.0)})
        async with house(Scenario(play), runs) as here:
            run = await here.start()
            await here.final(run)
            outcome = (await here.manager.wait(run)).outcome
            assert outcome is not None
            assert outcome.cost == 5.0
        async with house(Scenario(play), runs, Limits(cost=4.0)) as here:
            final = await here.final(await here.start())
            assert isinstance(final, Failed)
            assert final.code == "run_limit"

    asyncio.run(main())


@pytest.mark.parametrize("event", [TextDelta(text="x" * 101), TextDelta(text="é" * 60), Custom(name="x" * 101)])
def test_an_event_that_is_too_large_fails_its_run_alone(event: Event) -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            yield TextDelta(text="x" * 50)
            yield event

        async with house(Scenario(play), limits=Limits(event_bytes=100)) as here:
            run = await here.start()
            assert isinstance(await here.final(run), Failed)
            assert len(await here.log(run)) == 3

    asyncio.run(main())


def test_a_run_of_few_and_large_events_is_stopped_at_the_bytes_it_may_write() -> None:
    async def main() -> None:
        async def play(run: RunInput) -> AsyncGenerator[Event]:
            for _ in range(50):
                yield TextDelta(text="x" * 2000)

        async with house(Scenario(play), limits=Limits(log_bytes=10_000)) as here:
            run = await here.start()
            final = await here.final(run)
            assert isinstance(final, Failed)
            assert final.code == "run_limit"
            assert len(await here.log(run)) < 10

    asyncio.run(main())


def test_an_adapter_that_fails_before_it_begins_fails_its_run_and_frees_its_place() -> None:
    async def main() -> None:
        def play(run: RunInput) -> AsyncGenerator[Event]:
            raise ValueError("no generator at all")

        async with house(Scenario(play), limits=Limits(concurrent=1)) as here:
            for _ in range(2):
                assert isinstance(await here.final(await here.start()), Failed)

    asyncio.run(main())

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from proxy.adapter import RunInput
from proxy.events import Completed, Event, TextDelta, Usage
from proxy.testing import RunOver, Script, ScriptedRun

Reading = asyncio.Task[list[Event]]


def played(test: Callable[[ScriptedRun, Reading, list[Event]], Awaitable[None]]) -> None:
    """Play a test on a run that has begun, with the task that reads it and what it has read."""
    seen: list[Event] = []
    script = Script()

    async def read() -> list[Event]:
        async with aclosing(script.stream(RunInput(run_id="r", thread_id="t", agent="script"))) as events:
            async for event in events:
                seen.append(event)
                if isinstance(event, Completed):
                    break
        return seen

    async def play() -> None:
        task = asyncio.create_task(read())
        await test(await script.started(), task, seen)

    asyncio.run(play())


def test_what_is_said_has_arrived_when_say_returns() -> None:
    async def test(run: ScriptedRun, reading: Reading, seen: list[Event]) -> None:
        assert run.given.run_id == "r"
        await run.say("a", Usage(model="m"))
        assert seen == [TextDelta(text="a"), Usage(model="m")]
        assert not run.closed.is_set()
        await run.end()
        assert await reading == seen

    played(test)


def test_a_reader_that_leaves_at_the_last_event_is_a_good_end() -> None:
    async def test(run: ScriptedRun, reading: Reading, seen: list[Event]) -> None:
        await run.end(Completed())
        assert await reading == [Completed()]

    played(test)


def test_an_error_is_raised_in_the_agent() -> None:
    async def test(run: ScriptedRun, reading: Reading, seen: list[Event]) -> None:
        await run.fail(ValueError("out of ideas"))
        with pytest.raises(ValueError, match="out of ideas"):
            await reading

    played(test)


def test_a_cancel_is_seen_by_the_agent_and_ends_it() -> None:
    async def test(run: ScriptedRun, reading: Reading, seen: list[Event]) -> None:
        await run.say("a")
        reading.cancel()
        await run.closed.wait()
        assert run.cancelled.is_set()
        with pytest.raises(RunOver):
            await run.say("b")
        await run.end()

    played(test)


def test_a_reader_that_leaves_is_no_cancel() -> None:
    async def test(run: ScriptedRun, reading: Reading, seen: list[Event]) -> None:
        await run.say(Completed())
        await run.closed.wait()
        assert not run.cancelled.is_set()

    played(test)


def test_what_waits_to_be_said_at_the_end_is_refused() -> None:
    async def test(run: ScriptedRun, reading: Reading, seen: list[Event]) -> None:
        saying = [asyncio.ensure_future(run.say(item)) for item in ("a", Completed(), "b", "c")]
        outcomes = await asyncio.gather(*saying, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), type(None), RunOver, RunOver]
        assert seen == [TextDelta(text="a"), Completed()]

    played(test)


def test_runs_are_handed_out_in_the_order_of_their_start() -> None:
    async def play() -> None:
        script = Script()
        streams = [script.stream(RunInput(run_id=name, thread_id="t", agent="script")) for name in "ab"]
        first = [asyncio.ensure_future(anext(stream)) for stream in streams]
        runs = [await script.started() for _ in streams]
        assert [run.given.run_id for run in runs] == ["a", "b"]
        for run in reversed(runs):
            saying = asyncio.ensure_future(run.say(run.given.run_id))
            await first[runs.index(run)]
            await streams[runs.index(run)].aclose()
            await saying
        assert [step.result() for step in first] == [TextDelta(text="a"), TextDelta(text="b")]

    asyncio.run(play())

"""The suite accepts an adapter that keeps the rules, and names the rule that a broken one breaks."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from proxy.adapter import Adapter, Model, NoOptions, RunInput, Site
from proxy.errors import RateLimited
from proxy.events import (
    Cancelled,
    Completed,
    Custom,
    Event,
    Failed,
    Frame,
    Interrupt,
    Paused,
    PendingCall,
    RunStarted,
    TextDelta,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from proxy.messages import Message
from proxy.testing import BrokenContract, check_adapter

QUICK = 0.1
SITE = Site(agent="good", folder=Path(), state="memory://")


def run(text: str) -> RunInput:
    return RunInput(run_id="", thread_id="", agent="good", messages=(Message(role="user", content=text),))


def call(arguments: str, call_id: str = "c1", name: str = "clock", client: bool = False) -> ToolCallDelta:
    return ToolCallDelta(call_id=call_id, name=name, arguments=arguments, client=client)


class Sources:
    """What the adapters under test hold."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


class Good(Adapter):
    """Keeps every rule; the broken ones below differ from it in one point each."""

    script: tuple[Event, ...] = (
        TextDelta(text="one "),
        TextDelta(text="two"),
        call('{"zone":'),
        call(' "UTC"}'),
        ToolResult(call_id="c1", output="noon"),
        Custom(name="note", data=Raw(b"[1]")),
        Usage(model="m", input_tokens=1, output_tokens=2),
        Completed(),
    )

    def __init__(self, sources: Sources) -> None:
        super().__init__(NoOptions(), SITE)
        self.sources = sources

    async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
        with self.sources.one():
            if run.text == "hang":
                yield TextDelta(text="well")
                await asyncio.Event().wait()
            elif run.text == "fail":
                await self.fail()
            elif run.text == "pause":
                yield Paused(interrupts=(Interrupt(id="q", value=Raw(b'"sure?"')),))
            else:
                for event in self.script:
                    await asyncio.sleep(0)
                    yield event

    async def fail(self) -> None:
        raise RateLimited("The model is overloaded.")


def check(make: Callable[[Sources], Adapter], *, held: Callable[[], int] | None = None, within: float = 1.0) -> None:
    sources = Sources()
    trial = check_adapter(
        lambda: make(sources),
        ends=[run("answer"), run("pause")],
        hangs=run("hang"),
        held=held or (lambda: sources.count),
        fails=[run("fail")],
        within=within,
    )
    asyncio.run(trial)


def broken(make: Callable[[Sources], Adapter], **wanted: Any) -> frozenset[str]:
    with pytest.raises(BrokenContract) as caught:
        check(make, **wanted)
    assert all(rule in str(caught.value) for rule in caught.value.rules)
    return caught.value.rules


def test_an_adapter_that_keeps_the_rules_passes() -> None:
    check(Good)


@pytest.mark.parametrize(
    ("rule", "script"),
    [
        ("gives_events_of_its_own", ("text", TextDelta(text="x"))),
        ("gives_events_of_its_own", (TextDelta(text="x"), RunStarted(run_id="r", thread_id="t", agent="a"))),
        ("gives_events_of_its_own", (TextDelta(text="x"), Cancelled())),
        ("survives_the_log", (TextDelta(text="x"), TextDelta(text="\ud800"))),
        ("survives_the_log", (TextDelta(text="x"), TextDelta(text=7))),  # type: ignore[arg-type]
        ("names_every_tool_call", (TextDelta(text="x"), call("{}", call_id=""))),
        ("names_every_tool_call", (TextDelta(text="x"), call("{}", name=""))),
        ("names_every_tool_call", (call("{"), call("}", name="other"))),
        ("names_every_tool_call", (call("{"), call("}", client=True))),
        ("names_every_tool_call", (TextDelta(text="x"), ToolResult(call_id="", output=""))),
        ("joins_arguments_to_json", (call('{"zone":'), call('"UTC"'))),
        ("joins_arguments_to_json", (call("{}"), call("{}"))),
        ("joins_arguments_to_json", (call(""), Completed())),
        ("joins_arguments_to_json", (call("{}"), Paused(calls=(PendingCall(call_id="c1", name="f", arguments="{"),)))),
        ("ends_once", (TextDelta(text="x"), Completed(), Completed())),
        ("ends_once", (TextDelta(text="x"), Completed(), TextDelta(text="more"))),
        ("gives_frames_only_when_asked", (TextDelta(text="x"), Frame(mode="values", data=Raw(b"{}")))),
        ("carries_json", (TextDelta(text="x"), Custom(name="x", data=Raw(b"{'a': 1}")))),
        ("finishes_for_a_known_reason", (TextDelta(text="x"), Completed(finish_reason="done"))),
        ("finishes_for_a_known_reason", (call("{}"), Completed(finish_reason="tool_calls"))),
        ("pauses_for_something", (TextDelta(text="x"), Paused())),
        ("pauses_for_something", (TextDelta(text="x"), Paused(interrupts=(Interrupt(id=""),)))),
        ("pauses_for_something", (TextDelta(text="x"), Paused(interrupts=(Interrupt(id="q"), Interrupt(id="q"))))),
        ("does_not_fail_where_it_should_end", (TextDelta(text="x"), Failed(code="llm_error", message="no"))),
    ],
)
def test_a_stream_that_breaks_a_rule_is_named(rule: str, script: tuple[Event, ...]) -> None:
    class Bad(Good):
        pass

    Bad.script = script
    assert rule in broken(Bad)


def test_frames_of_a_native_adapter_must_be_of_a_mode_that_was_asked_for() -> None:
    class Bad(Good):
        native = True
        script = (TextDelta(text="x"), Frame(mode="values", data=Raw(b"{}")))

    assert broken(Bad) == {"gives_frames_only_when_asked"}


def test_options_that_take_any_name() -> None:
    class Loose(msgspec.Struct):
        pass

    class Bad(Good):
        Options = Loose

    assert broken(Bad) == {"refuses_unknown_options"}


def test_models_of_one_name() -> None:
    class Bad(Good):
        async def models(self) -> list[Model]:
            return [Model(id="a"), Model(id="a")]

    assert broken(Bad) == {"opens_and_closes_without_a_run"}


def test_a_source_that_is_opened_with_the_adapter_and_kept() -> None:
    class Bad(Good):
        async def open(self) -> None:
            self.sources.count += 1

    assert broken(Bad, within=QUICK) == {"opens_and_closes_without_a_run"}


def test_a_source_that_is_opened_before_the_stream_begins() -> None:
    class Bad(Good):
        def stream(self, run: RunInput) -> AsyncGenerator[Event]:
            self.sources.count += 1
            return self._rest(run)

        async def _rest(self, run: RunInput) -> AsyncGenerator[Event]:
            self.sources.count -= 1
            async for event in super().stream(run):
                yield event

    assert "holds_nothing_before_its_first_event_is_asked_for" in broken(Bad)


class Held(Good):
    """Holds one more source; how it lets go is what differs."""

    async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
        self.sources.count += 1
        async for event in super().stream(run):
            yield event
        self.sources.count -= 1


def test_a_source_that_is_let_go_only_at_a_good_end() -> None:
    assert {"lets_go_when_closed_midway", "stops_when_cancelled_in_silence"} < broken(Held, within=QUICK)


def test_a_source_that_is_let_go_only_when_stopped() -> None:
    class Bad(Good):
        async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
            self.sources.count += 1
            try:
                async for event in super().stream(run):
                    yield event
            except (asyncio.CancelledError, GeneratorExit):
                self.sources.count -= 1
                raise

    assert "lets_go_at_its_end" in broken(Bad, within=QUICK)


def test_a_source_that_is_let_go_only_when_cancelled() -> None:
    class Bad(Good):
        async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
            self.sources.count += 1
            try:
                async for event in super().stream(run):
                    yield event
            except GeneratorExit:
                raise
            except BaseException:
                self.sources.count -= 1
                raise
            self.sources.count -= 1

    assert "lets_go_when_closed_midway" in broken(Bad, within=QUICK)


def test_an_agent_that_goes_on_after_it_is_closed() -> None:
    class Bad(Good):
        async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
            try:
                async for event in super().stream(run):
                    yield event
            except GeneratorExit:
                yield TextDelta(text="one more thing")

    assert {"can_be_closed_twice", "lets_go_when_closed_midway"} <= broken(Bad)


class Stream:
    """An async iterator written by hand, as it is easily got wrong."""

    def __init__(self, events: AsyncGenerator[Event]) -> None:
        self.events = events
        self.closings = 0

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Event:
        return await anext(self.events)

    async def aclose(self) -> None:
        self.closings += 1
        if self.closings > 1:
            raise RuntimeError("closed already")
        await self.events.aclose()


def test_a_stream_that_cannot_be_closed_twice() -> None:
    class Bad(Good):
        def stream(self, run: RunInput) -> Any:
            return Stream(super().stream(run))

    assert broken(Bad) == {"can_be_closed_twice"}


def test_a_cancel_that_is_swallowed() -> None:
    class Bad(Good):
        async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
            try:
                async for event in super().stream(run):
                    yield event
            except asyncio.CancelledError:
                yield Completed()

    assert {"stops_when_cancelled_in_silence", "keeps_its_streams_apart"} <= broken(Bad)


def test_a_cancel_that_takes_too_long() -> None:
    class Bad(Good):
        async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
            try:
                async for event in super().stream(run):
                    yield event
            finally:
                if run.text == "hang":
                    await asyncio.Event().wait()

    assert {"stops_when_cancelled_in_silence", "stops_when_cancelled_at_any_step"} <= broken(Bad, within=QUICK)


def test_an_adapter_of_no_use_after_a_cancel() -> None:
    class Bad(Good):
        spoilt = False

        async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
            if self.spoilt:
                raise RuntimeError("the connection is closed")
            try:
                async for event in super().stream(run):
                    yield event
            except asyncio.CancelledError:
                self.spoilt = True
                raise

    assert "stops_when_cancelled_in_silence" in broken(Bad)


def test_streams_that_share_what_they_read() -> None:
    class Bad(Good):
        def __init__(self, sources: Sources) -> None:
            super().__init__(sources)
            self.last = ""

        async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
            for word in ("one ", "two ", "three"):
                self.last += word
                await asyncio.sleep(0)
                yield TextDelta(text=self.last)
            self.last = ""
            async for event in super().stream(run):
                yield event

    assert "keeps_its_streams_apart" in broken(Bad)


def test_an_adapter_that_serves_one_stream_at_a_time() -> None:
    class Bad(Good):
        def __init__(self, sources: Sources) -> None:
            super().__init__(sources)
            self.running: asyncio.Task[Any] | None = None

        async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
            if self.running is not None:
                self.running.cancel()
            self.running = asyncio.current_task()
            try:
                async for event in super().stream(run):
                    yield event
            finally:
                self.running = None

    assert broken(Bad) == {"keeps_its_streams_apart"}


@pytest.mark.parametrize("error", [ValueError("429"), RateLimited("http://10.0.0.7:9000/v1 is overloaded")])
def test_a_failure_of_another_kind_or_with_a_url(error: Exception) -> None:
    class Bad(Good):
        async def fail(self) -> None:
            raise error

    assert broken(Bad) == {"fails_with_an_upstream_error"}


def test_a_failure_that_looks_like_an_answer() -> None:
    class Bad(Good):
        async def fail(self) -> None:
            return

    assert broken(Bad) == {"fails_with_an_upstream_error"}


def test_an_adapter_that_cannot_be_opened() -> None:
    class Bad(Good):
        async def open(self) -> None:
            raise OSError("no network")

    assert len(broken(Bad)) > 5


def test_a_probe_that_shows_nothing_is_refused() -> None:
    assert broken(Good, held=lambda: 0) == {"stops_when_cancelled_in_silence"}


def test_a_hanging_run_that_ends_is_refused() -> None:
    class Bad(Good):
        async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
            with self.sources.one():
                yield TextDelta(text="a")
                yield TextDelta(text="b")

    assert "stops_when_cancelled_in_silence" in broken(Bad)


def test_a_first_run_of_one_event_is_refused() -> None:
    class Bad(Good):
        script = (TextDelta(text="all"),)

    assert broken(Bad) == {"lets_go_at_its_end"}

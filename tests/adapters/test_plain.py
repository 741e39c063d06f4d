"""Functions as agents: what they are called with, what they may give, how they stop."""

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from adapters.plain import PlainAdapter, PlainOptions, Request
from proxy.adapter import Answer, RunInput, Site
from proxy.errors import ConfigError, RateLimited
from proxy.events import Completed, Event, Interrupt, Paused, RunStarted, TextDelta, ToolCallDelta, ToolResult, Usage
from proxy.messages import Message
from proxy.testing import check_adapter


def run(text: str = "hello", **fields: Any) -> RunInput:
    return RunInput(run_id="r", thread_id="t", agent="fn", messages=(Message(role="user", content=text),), **fields)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="ours") as pool:
        yield pool


@pytest.fixture
def adapter(tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> "Make":
    """Builds an open adapter around a function."""

    def make(function: object, **options: Any) -> PlainAdapter:
        monkeypatch.setitem(globals(), "under_test", function)
        site = Site(agent="fn", folder=tmp_path, state="memory://", executor=pool)
        made = PlainAdapter(PlainOptions(function=f"{__name__}:under_test", **options), site)
        asyncio.run(made.open())
        return made

    return make


Make = Callable[..., PlainAdapter]


async def read(adapter: PlainAdapter, given: RunInput) -> list[Event]:
    async with aclosing(adapter.stream(given)) as events:
        return [event async for event in events]


def events(adapter: PlainAdapter, given: RunInput | None = None) -> list[Event]:
    return asyncio.run(read(adapter, given or run()))


def fault(tmp_path: Path, function: str) -> str:
    made = PlainAdapter(PlainOptions(function=function), Site(agent="fn", folder=tmp_path, state="memory://"))
    with pytest.raises(ConfigError) as caught:
        asyncio.run(made.open())
    assert caught.value.message.startswith("agents.fn.options.function: ")
    return caught.value.message


async def async_words(request: Request) -> AsyncGenerator[str]:
    for word in request.text.split():
        yield word


def words(request: Request) -> Iterator[str]:
    yield from request.text.split()


async def async_shout(request: Request) -> str:
    return request.text.upper()


def shout(request: Request) -> str:
    return request.text.upper()


class Caller:
    """An object that is called like a function."""

    async def __call__(self, request: Request) -> AsyncGenerator[str]:
        for word in request.text.split():
            yield word

    async def method(self, request: Request) -> str:
        return request.text.upper()


@pytest.mark.parametrize(
    ("function", "texts"),
    [
        (async_words, ["a", "b"]),
        (words, ["a", "b"]),
        (async_shout, ["A B"]),
        (shout, ["A B"]),
        (Caller(), ["a", "b"]),
        (Caller().method, ["A B"]),
        (functools.partial(async_words), ["a", "b"]),
    ],
)
def test_every_kind_of_function_gives_its_strings_as_text(adapter: Make, function: object, texts: list[str]) -> None:
    assert events(adapter(function), run("a b")) == [TextDelta(text=text) for text in texts]


def test_events_pass_as_they_are_and_nothing_follows_the_final_one(adapter: Make) -> None:
    said = [ToolCallDelta(call_id="c", name="f", arguments="{}"), ToolResult(call_id="c", output="1"), Completed()]

    async def answer(request: Request) -> AsyncGenerator[object]:
        for item in [*said, "late"]:
            yield item

    def answer_in_a_thread(request: Request) -> Iterator[object]:
        yield from [*said, "late"]

    assert events(adapter(answer)) == said
    assert events(adapter(answer_in_a_thread)) == said


@pytest.mark.parametrize("item", [None, 7, b"bytes", {"text": "x"}, RunStarted(run_id="r", thread_id="t", agent="a")])
def test_anything_else_is_an_error_that_names_function_and_kind(adapter: Make, item: object) -> None:
    async def yields(request: Request) -> AsyncGenerator[object]:
        yield item

    def yields_in_a_thread(request: Request) -> Iterator[object]:
        yield item

    async def returns(request: Request) -> object:
        return item

    for function in (yields, yields_in_a_thread, returns, lambda request: item):
        with pytest.raises(TypeError, match=rf"under_test` gave a `{type(item).__name__}`: an agent gives strings"):
            events(adapter(function))


def test_the_request_holds_what_is_known_of_the_run(adapter: Make) -> None:
    seen: list[Request] = []

    async def answer(request: Request) -> str:
        seen.append(request)
        return "ok"

    given = run(
        "hello",
        params={"temperature": Raw(b"0.5"), "stop": Raw(b'["x"]')},
        metadata={"a": "b"},
        user="u",
        headers={"x-team": "red"},
        answer=Answer(text="yes"),
    )
    events(adapter(answer), given)
    [request] = seen
    assert (request.text, request.run_id, request.thread_id) == ("hello", "r", "t")
    assert request.params == {"temperature": 0.5, "stop": ["x"]}
    assert (request.metadata, request.user, request.headers) == ({"a": "b"}, "u", {"x-team": "red"})
    assert (request.messages, request.tools, request.answer) == (given.messages, (), Answer(text="yes"))


def test_params_are_decoded_only_when_looked_at(adapter: Make) -> None:
    given = run(params={"broken": Raw(b"{")})
    assert events(adapter(async_shout), given) == [TextDelta(text="HELLO")]

    async def looks(request: Request) -> str:
        return str(request.params)

    with pytest.raises(msgspec.DecodeError):
        events(adapter(looks), given)


def test_context_is_the_configs_and_a_request_sets_only_listed_keys(adapter: Make) -> None:
    seen: list[dict[str, Any]] = []

    async def answer(request: Request) -> str:
        seen.append(request.context)
        request.context["mine"] = True
        return "ok"

    made = adapter(answer, context={"city": "Bern", "key": "secret"}, request_keys=("city", "mood"))
    events(made, run(context={"city": "Rome", "key": "stolen", "other": 1}))
    events(made)
    assert seen[0] == {"city": "Rome", "key": "secret", "mine": True}
    assert seen[1] == {"city": "Bern", "key": "secret", "mine": True}
    assert made.options.context == {"city": "Bern", "key": "secret"}


def test_synchronous_code_runs_in_the_servers_threads_with_the_runs_context(adapter: Make) -> None:
    here: contextvars.ContextVar[str] = contextvars.ContextVar("here", default="unset")

    def in_thread(request: Request) -> str:
        return f"{threading.current_thread().name.split('_')[0]} {here.get()}"

    def in_threads(request: Request) -> Iterator[str]:
        yield in_thread(request)
        here.set("changed")
        yield in_thread(request)

    async def with_context(made: PlainAdapter) -> list[str]:
        here.set("set")
        return [event.text for event in await read(made, run()) if isinstance(event, TextDelta)]

    assert asyncio.run(with_context(adapter(in_thread))) == ["ours set"]
    assert asyncio.run(with_context(adapter(in_threads))) == ["ours set", "ours changed"]


def test_an_error_of_the_agent_comes_through(adapter: Make) -> None:
    async def refused(request: Request) -> AsyncGenerator[str]:
        yield "so far"
        raise RateLimited

    def broken(request: Request) -> Iterator[str]:
        yield "so far"
        raise ValueError("out of ideas")

    with pytest.raises(RateLimited):
        events(adapter(refused))
    with pytest.raises(ValueError, match="out of ideas"):
        events(adapter(broken))


def test_a_stray_stop_iteration_is_an_error_and_not_a_hang(adapter: Make) -> None:
    def first(request: Request) -> str:
        return next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        events(adapter(first))


def test_a_generator_that_is_closed_midway_stops_at_its_yield_and_cleans_up_in_a_thread(adapter: Make) -> None:
    ended: list[str] = []

    def forever(request: Request) -> Iterator[str]:
        try:
            while True:
                yield "again"
        finally:
            ended.append(threading.current_thread().name.split("_")[0])

    async def leave(made: PlainAdapter) -> None:
        stream = made.stream(run())
        await anext(stream)
        await stream.aclose()
        assert ended == ["ours"]

    asyncio.run(leave(adapter(forever)))


def test_a_generator_that_is_cancelled_inside_a_step_stops_at_its_next_yield(adapter: Make) -> None:
    working, may_go_on = threading.Event(), threading.Event()
    said: list[str] = []

    def slow(request: Request) -> Iterator[str]:
        try:
            yield "one"
            working.set()
            may_go_on.wait(10)
            said.append("worked on")
            yield "two"
            said.append("never")
        finally:
            said.append("finally")

    async def cancel(made: PlainAdapter) -> None:
        task = asyncio.create_task(read(made, run()))
        await asyncio.to_thread(working.wait, 10)
        task.cancel()
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert said == ["worked on", "finally"]

    asyncio.run(cancel(adapter(slow)))


def test_a_generator_is_closed_even_if_its_closing_is_cancelled_too(adapter: Make) -> None:
    working, may_go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(request: Request) -> Iterator[str]:
        try:
            working.set()
            may_go_on.wait(10)
            yield "one"
        finally:
            ended.set()

    async def cancel(made: PlainAdapter) -> None:
        task = asyncio.create_task(read(made, run()))
        await asyncio.to_thread(working.wait, 10)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        may_go_on.set()
        assert await asyncio.to_thread(ended.wait, 10)

    asyncio.run(cancel(adapter(slow)))


async def waits(seen: list[str]) -> None:
    try:
        seen.append("waiting")
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise
    finally:
        seen.append("finally")


def test_async_agents_are_cancelled_at_their_await(adapter: Make) -> None:
    seen: list[str] = []

    async def coroutine(request: Request) -> str:
        await waits(seen)
        return "never"

    async def generator(request: Request) -> AsyncGenerator[str]:
        await waits(seen)
        yield "never"

    async def cancel(made: PlainAdapter) -> None:
        task = asyncio.create_task(read(made, run()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for function in (coroutine, generator):
        asyncio.run(cancel(adapter(function)))
        assert seen == ["waiting", "cancelled", "finally"]
        seen.clear()


def test_a_file_beside_the_config_is_found(tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text("async def answer(request):\n    yield request.text")
    options = PlainOptions(function="./agents.py:answer")
    made = PlainAdapter(options, Site(agent="fn", folder=tmp_path, state="memory://"))

    async def opened() -> list[Event]:
        await made.open()
        return await read(made, run())

    assert asyncio.run(opened()) == [TextDelta(text="hello")]


def test_what_cannot_be_an_agent_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("class Agent: ...\nnumber = 7\ndef nothing(): ...\ndef two(a, b): ...\n")
    assert "`bad.py:Agent` is not a function, but a type" in fault(tmp_path, "bad.py:Agent")
    assert "`bad.py:number` is not a function, but a int" in fault(tmp_path, "bad.py:number")
    assert "must take one argument, the request" in fault(tmp_path, "bad.py:nothing")
    assert "must take one argument, the request" in fault(tmp_path, "bad.py:two")
    assert "did you mean `nothing`?" in fault(tmp_path, "bad.py:nothin")


class Held:
    """An agent, and how many of its runs are at work."""

    def __init__(self) -> None:
        self.count = 0

    async def agent(self, request: Request) -> AsyncGenerator[object]:
        self.count += 1
        try:
            yield "well "
            match request.text:
                case "hang":
                    await asyncio.Event().wait()
                case "fail":
                    raise RateLimited
                case "pause":
                    yield Paused(interrupts=(Interrupt(id="q", value=Raw(b'"sure?"')),))
                case _:
                    yield ToolCallDelta(call_id="c", name="clock", arguments="{}")
                    yield ToolResult(call_id="c", output="noon")
                    yield Usage(model="m", input_tokens=1, output_tokens=2)
                    yield "done"
        finally:
            self.count -= 1


def test_an_async_agent_keeps_the_contract(adapter: Make) -> None:
    held = Held()
    made = adapter(held.agent)
    trial = check_adapter(
        lambda: made,
        ends=[run("answer"), run("pause")],
        hangs=run("hang"),
        held=lambda: held.count,
        fails=[run("fail")],
    )
    asyncio.run(trial)

"""Plain Python as an agent: a function that takes a `Request` and gives text, no framework needed.

    async def answer(request):
        for word in request.text.split():
            yield word + " "

An async generator, a coroutine, a generator or a simple function: the latter two run in the server's threads. What
it gives is a string, or an event of `proxy.events` where a string does not say enough.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing
from functools import cached_property, partial
from typing import Any, ClassVar, cast

import msgspec
from msgspec import Raw

from proxy.adapter import Adapter, Answer, RunInput
from proxy.errors import ConfigError
from proxy.events import FINAL, Cancelled, Event, RunStarted, TextDelta, Word
from proxy.loading import load
from proxy.messages import Message, Tool

_DONE = object()


class PlainOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`function` is "package.module:name" or "path/to/file.py:name", from the config's folder.

    `context` goes to the function as it stands; a request may set the keys in `request_keys`, and no others.
    """

    function: str
    context: dict[str, Any] = {}
    request_keys: tuple[str, ...] = ()


class Request(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What the function is called with."""

    text: str = ""
    """The text of the last user message."""
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    raw_params: dict[str, Raw] = {}
    """All other fields of the request, such as `temperature`, as JSON."""
    metadata: dict[str, str] = {}
    user: str | None = None
    context: dict[str, Any] = {}
    run_id: str = ""
    thread_id: str = ""
    headers: dict[str, str] = {}
    answer: Answer | None = None
    """The reply to what a run before asked with a `Paused` event."""

    @cached_property
    def params(self) -> dict[str, Any]:
        """All other fields of the request, decoded when first looked at."""
        return {name: msgspec.json.decode(value) for name, value in self.raw_params.items()}


class PlainAdapter(Adapter):
    """One function. A generator or function that is not async stops at its next `yield`, since no thread can be
    stopped; an async one at its `await`."""

    Options: ClassVar[type[msgspec.Struct]] = PlainOptions

    options: PlainOptions
    _function: Callable[[Request], Any]
    _stream: Callable[[Request], AsyncGenerator[Event]]

    async def open(self) -> None:
        place = f"agents.{self.site.agent}.options.function"
        function = load(self.options.function, folder=self.site.folder, place=place)
        self._function = _checked(function, self.options.function, place)
        self._stream = self._kind()

    def stream(self, run: RunInput) -> AsyncGenerator[Event]:
        return self._stream(self._request(run))

    def _request(self, run: RunInput) -> Request:
        context = dict(self.options.context)
        context.update((key, run.context[key]) for key in self.options.request_keys if key in run.context)
        return Request(
            text=run.text,
            messages=run.messages,
            tools=run.tools,
            raw_params=run.params,
            metadata=run.metadata,
            user=run.user,
            context=context,
            run_id=run.run_id,
            thread_id=run.thread_id,
            headers=run.headers,
            answer=run.answer,
        )

    def _kind(self) -> Callable[[Request], AsyncGenerator[Event]]:
        called = type(self._function).__call__
        for is_kind, kind in (
            (inspect.isasyncgenfunction, self._from_async_generator),
            (inspect.iscoroutinefunction, self._from_coroutine),
            (inspect.isgeneratorfunction, self._from_generator),
        ):
            if is_kind(self._function) or is_kind(called):
                return kind
        return self._from_function

    async def _from_async_generator(self, request: Request) -> AsyncGenerator[Event]:
        async with aclosing(self._function(request)) as items:
            async for item in items:
                if type(item) is str:
                    yield TextDelta(text=item)
                    continue
                event = self._event(item)
                yield event
                if isinstance(event, FINAL):
                    return

    async def _from_coroutine(self, request: Request) -> AsyncGenerator[Event]:
        yield self._event(await self._function(request))

    async def _from_generator(self, request: Request) -> AsyncGenerator[Event]:
        steps = _Steps(self._function(request))
        try:
            while (item := await self._in_thread(steps.advance)) is not _DONE:
                event = self._event(item)
                yield event
                if isinstance(event, FINAL):
                    return
        finally:
            await asyncio.shield(self._in_thread(steps.close))

    async def _from_function(self, request: Request) -> AsyncGenerator[Event]:
        context = contextvars.copy_context()
        yield self._event(await self._in_thread(partial(context.run, _called, self._function, request)))

    def _in_thread(self, act: Callable[[], object]) -> Awaitable[object]:
        return asyncio.get_running_loop().run_in_executor(self.site.executor, act)

    def _event(self, item: object) -> Event:
        if isinstance(item, str):
            return TextDelta(text=str(item))
        if isinstance(item, Word) and not isinstance(item, RunStarted | Cancelled):
            return cast(Event, item)
        kind = type(item).__name__
        raise TypeError(f"`{self.options.function}` gave a `{kind}`: an agent gives strings, or events to say more")


class _Steps:
    """A generator whose steps run in threads. One at a time: closing waits for the step under way."""

    def __init__(self, items: Generator[object]) -> None:
        self._items = items
        self._busy = threading.Lock()
        self._context = contextvars.copy_context()

    def advance(self) -> object:
        with self._busy:
            return self._context.run(next, self._items, _DONE)

    def close(self) -> None:
        with self._busy:
            self._context.run(self._items.close)


def _called(function: Callable[[Request], Any], request: Request) -> object:
    try:
        return function(request)
    except StopIteration as error:  # no future can carry it: the run would wait for ever
        raise RuntimeError("the agent raised StopIteration") from error


def _checked(function: object, name: str, place: str) -> Callable[[Request], Any]:
    """The function, if it can be called with one request. Raises `ConfigError`."""
    if isinstance(function, type) or not callable(function):
        raise ConfigError(f"{place}: `{name}` is not a function, but a {type(function).__name__}")
    try:
        inspect.signature(function).bind(Request())
    except TypeError as error:
        raise ConfigError(f"{place}: `{name}` must take one argument, the request ({error})") from error
    except ValueError:
        pass  # written in C, without a signature: the first run will tell
    return function

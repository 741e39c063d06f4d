"""An agent that the test steps: it says what it is told, when it is told, and nothing by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec

from proxy.adapter import Adapter, NoOptions, RunInput, Site
from proxy.events import Event, TextDelta

_SITE = Site(agent="script", folder=Path(), state="memory://")


class RunOver(Exception):
    """The run that should speak has ended; `closed` is set."""


class _Step(msgspec.Struct, frozen=True):
    """What to do next (an event to yield, an error to raise, None to end), and who waits for it."""

    act: Event | BaseException | None
    done: asyncio.Future[None]


class ScriptedRun:
    """One run of a `Script` in the test's hand. Speaking to a run that is over raises `RunOver`."""

    def __init__(self, given: RunInput) -> None:
        self.given = given
        self.cancelled = asyncio.Event()
        """Set when a cancel reached the agent's `await`."""
        self.closed = asyncio.Event()
        """Set when the agent has let go, in whatever way it ended."""
        self._steps: asyncio.Queue[_Step] = asyncio.Queue()
        self._now: _Step | None = None

    async def say(self, *items: str | Event) -> None:
        """Yield text or events; returns when the reader has come back for more, or has closed the stream."""
        for item in items:
            await self._do(TextDelta(text=item) if isinstance(item, str) else item)

    async def end(self, final: Event | None = None) -> None:
        """End, with a last event if one is given; returns when the stream is over."""
        if final is not None:
            await self._do(final)
        await self._last(None)

    async def fail(self, error: BaseException) -> None:
        """Raise `error` inside the agent; returns when the stream is over."""
        await self._last(error)

    async def events(self, started: asyncio.Queue[ScriptedRun]) -> AsyncGenerator[Event]:
        """The agent's side: what it was told, step by step."""
        started.put_nowait(self)
        try:
            while (act := await self._next()) is not None:
                if isinstance(act, BaseException):
                    raise act
                yield act
        finally:
            self._close()

    async def _last(self, act: BaseException | None) -> None:
        if not self.closed.is_set():
            self._steps.put_nowait(_Step(act, asyncio.get_running_loop().create_future()))
        await self.closed.wait()

    async def _do(self, act: Event) -> None:
        if self.closed.is_set():
            raise RunOver
        step = _Step(act, asyncio.get_running_loop().create_future())
        self._steps.put_nowait(step)
        await step.done

    async def _next(self) -> Event | BaseException | None:
        self._taken()
        try:
            self._now = await self._steps.get()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self._now.act

    def _taken(self) -> None:
        if self._now and not self._now.done.done():
            self._now.done.set_result(None)

    def _close(self) -> None:
        """The step under way was yielded; those still queued will never be."""
        self.closed.set()
        self._taken()
        while not self._steps.empty():
            done = self._steps.get_nowait().done
            if not done.done():
                done.set_exception(RunOver())


class Script(Adapter):
    """An agent whose runs a test takes in hand, all on one event loop:

    script = Script()
    ...                              # start a run on it
    run = await script.started()
    await run.say("Hello")           # returns when the reader has it
    await run.end()
    """

    def __init__(self, options: Any = None, site: Site = _SITE) -> None:
        super().__init__(options or NoOptions(), site)
        self._runs: asyncio.Queue[ScriptedRun] = asyncio.Queue()

    async def started(self) -> ScriptedRun:
        """The next run that has begun, in order; waits for one."""
        return await self._runs.get()

    def stream(self, run: RunInput) -> AsyncGenerator[Event]:
        return ScriptedRun(run).events(self._runs)

"""What holds for an adapter's life: how its streams begin, stop, fail and live beside each other.

A rule tries something on the adapter of a `Case` and raises `Broken`; its docstring is the rule's text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import msgspec

from proxy.adapter import Adapter, RunInput
from proxy.errors import UpstreamError
from proxy.events import Event, Failed
from proxy.model import new_id
from proxy.testing.streams import Broken, Stream, require, text_of

END = 10.0
QUIET = 0.05
STEPS = 12


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter and the runs to try on it, as `check_adapter` takes them."""

    make: Callable[[], Adapter]
    ends: tuple[RunInput, ...]
    hangs: RunInput
    held: Callable[[], int]
    fails: tuple[RunInput, ...]
    within: float
    """Seconds in which a stopped stream must be over and its sources let go."""


Rule = Callable[[Case], Awaitable[None]]


async def read(case: Case, run: RunInput) -> Stream:
    """The whole stream of one run."""
    async with _trial(case) as trial:
        return Stream(adapter=trial.adapter, run=run, events=await trial.read(run).end())


class _Reader:
    """Begins, advances and closes one stream, in one task as a worker does."""

    def __init__(self, case: Case, adapter: Adapter, run: RunInput, take: int | None) -> None:
        own = new_id()
        self._within = case.within
        self._take = take
        self.events: list[Event] = []
        self._run = msgspec.structs.replace(run, run_id=own, thread_id=f"thread-{own}")
        self._arrivals: asyncio.Queue[Event | None] = asyncio.Queue()
        self.task = asyncio.create_task(self._read(adapter))

    async def _read(self, adapter: Adapter) -> list[Event]:
        try:
            async with aclosing(adapter.stream(self._run)) as events:
                async for event in events:
                    self.events.append(event)
                    self._arrivals.put_nowait(event)
                    if len(self.events) == self._take:
                        break
        finally:
            self._arrivals.put_nowait(None)
        return self.events

    async def next(self, timeout: float = END) -> Event | None:
        """The next event, or None at the end. Raises `TimeoutError`."""
        return await asyncio.wait_for(self._arrivals.get(), timeout)

    async def silence(self) -> None:
        """Read until something was said and no more comes."""
        try:
            while await self.next(QUIET if self.events else END) is not None:
                pass
        except TimeoutError:
            require(bool(self.events), f"`hangs` said nothing within {END:g} s")
            return
        await self.task
        raise Broken("`hangs` came to an end")

    async def end(self) -> list[Event]:
        """All events, once the stream is over. Raises what the adapter raised."""
        await self._over(END)
        return self.task.result()

    async def closed(self) -> None:
        """Wait until it took its last event; then it must be over soon."""
        for _ in range(self._take or 0):
            if await self.next() is None:
                break
        await self._over(self._within)
        self.task.result()

    async def cancel(self, *, silent: bool) -> None:
        """Cancel the task as a worker does; one that waits in silence must end by that."""
        self.task.cancel()
        await self._over(self._within)
        if not self.task.cancelled():
            self.task.result()
            require(not silent, "the cancel was swallowed")

    async def _over(self, within: float) -> None:
        await asyncio.wait([self.task], timeout=within)
        require(self.task.done(), f"the stream was not over after {within:g} s")


class _Trial:
    """An open adapter, and the streams that a rule reads from it."""

    def __init__(self, case: Case, adapter: Adapter) -> None:
        self.adapter = adapter
        self.idle = case.held()
        self._case = case
        self._readers: list[_Reader] = []

    def read(self, run: RunInput, *, take: int | None = None) -> _Reader:
        reader = _Reader(self._case, self.adapter, run, take)
        self._readers.append(reader)
        return reader

    async def let_go(self) -> None:
        """Wait until no more sources are held than in the beginning."""
        await _let_go(self._case, self.idle)

    async def close(self) -> None:
        """Stop what a broken rule left running, also what does not stop at once; then close the adapter."""
        for _ in range(3):
            left = [reader.task for reader in self._readers if not reader.task.done()]
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=QUIET)
        await self.adapter.close()


async def _let_go(case: Case, idle: int) -> None:
    deadline = asyncio.get_running_loop().time() + case.within
    while (held := case.held()) > idle:
        if asyncio.get_running_loop().time() > deadline:
            raise Broken(f"{held - idle} sources still at work after {case.within:g} s")
        await asyncio.sleep(0.002)


@asynccontextmanager
async def _trial(case: Case) -> AsyncGenerator[_Trial]:
    adapter = case.make()
    await adapter.open()
    trial = _Trial(case, adapter)
    try:
        yield trial
    finally:
        await trial.close()


async def refuses_unknown_options(case: Case) -> None:
    """`Options` is a struct that refuses names it does not know, so that a misspelt option is an error."""
    async with _trial(case) as trial:
        config = getattr(trial.adapter.Options, "__struct_config__", None)
        require(config is not None and config.forbid_unknown_fields, f"{trial.adapter.Options!r} takes any name")


async def opens_and_closes_without_a_run(case: Case) -> None:
    """It can be opened and closed again without a run, forgets unknown threads, and names its models once each."""
    idle = case.held()
    async with _trial(case) as trial:
        await trial.adapter.forget("default:a-thread-nobody-knows")
        names = [model.id for model in await trial.adapter.models() or ()]
        require(all(names) and len(set(names)) == len(names), f"its models are {names}")
    await _let_go(case, idle)


async def holds_nothing_before_its_first_event_is_asked_for(case: Case) -> None:
    """A stream that is closed before it began held nothing, and says nothing."""
    async with _trial(case) as trial:
        events = trial.adapter.stream(case.hangs)
        require(case.held() == trial.idle, "`stream` holds a source before it is iterated")
        await events.aclose()
        async for event in events:
            raise Broken(f"gave {event!r:.200} after it was closed")


async def lets_go_at_its_end(case: Case) -> None:
    """A run that ends by itself lets go of its sources, and gives what the suite needs to see."""
    async with _trial(case) as trial:
        for run in case.ends:
            await trial.read(run).end()
            await trial.let_go()
        first = await trial.read(case.ends[0]).end()
        require(len(first) > 1, f"the first of `ends` gave {len(first)} events, the suite needs two")


async def lets_go_when_closed_midway(case: Case) -> None:
    """Closed after any event, it lets go of its sources within a second."""
    async with _trial(case) as trial:
        steps = min(STEPS, len(await trial.read(case.ends[0]).end()))
        for run, take in [(case.ends[0], step) for step in range(1, steps + 1)] + [(case.hangs, 1)]:
            await trial.read(run, take=take).closed()
            await trial.let_go()


async def can_be_closed_twice(case: Case) -> None:
    """Closing a closed stream does nothing, and it gives no more events."""
    async with _trial(case) as trial:
        events = trial.adapter.stream(case.ends[0])
        await anext(events)
        await events.aclose()
        await events.aclose()
        require(await anext(events, None) is None, "gave an event after it was closed")
        await trial.let_go()


async def stops_when_cancelled_in_silence(case: Case) -> None:
    """Cancelled while its agent is silent, it ends by that cancel within a second and lets go; then it works on."""
    async with _trial(case) as trial:
        reader = trial.read(case.hangs)
        await reader.silence()
        require(case.held() > trial.idle, "the probe shows nothing: `held` counts no source while `hangs` hangs")
        await reader.cancel(silent=True)
        await trial.let_go()
        await trial.read(case.ends[0]).end()


async def stops_when_cancelled_at_any_step(case: Case) -> None:
    """Cancelled before or after any event, it is over within a second and lets go."""
    async with _trial(case) as trial:
        for turns in range(1, STEPS):
            reader = trial.read(case.hangs)
            for _ in range(turns):
                await asyncio.sleep(0)
            await reader.cancel(silent=False)
            await trial.let_go()
        for step in range(1, STEPS):
            reader = trial.read(case.ends[0])
            for _ in range(step):
                if await reader.next() is None:
                    break
            await reader.cancel(silent=False)
            await trial.let_go()


async def keeps_its_streams_apart(case: Case) -> None:
    """Many streams at once give what each gives alone, while another hangs and others are stopped."""
    async with _trial(case) as trial:
        alone = [text_of(await trial.read(run).end()) for run in case.ends]
        hanging = trial.read(case.hangs)
        await hanging.silence()
        closed = [trial.read(case.ends[0], take=1) for _ in range(4)]
        together = [[trial.read(run) for run in case.ends] for _ in range(4)]
        stopped = trial.read(case.hangs)
        await stopped.next()
        await stopped.cancel(silent=False)
        for readers in together:
            texts = [text_of(await reader.end()) for reader in readers]
            require(texts == alone, f"alone the runs gave {alone!r:.300}, at once {texts!r:.300}")
        for reader in closed:
            await reader.closed()
        require(not hanging.task.done(), "the silent stream ended with the others")
        await hanging.cancel(silent=True)
        await trial.let_go()


async def fails_with_an_upstream_error(case: Case) -> None:
    """A model's failure is raised as an `UpstreamError` (or given as Failed) whose text shows no URL."""
    async with _trial(case) as trial:
        for run in case.fails:
            reader = trial.read(run)
            await asyncio.wait([reader.task], timeout=END)
            _require_failure(reader)
            await trial.let_go()


def _require_failure(reader: _Reader) -> None:
    require(reader.task.done(), f"a run of `fails` was not over after {END:g} s")
    error = reader.task.exception()
    if error is None:
        last = reader.events[-1] if reader.events else None
        require(isinstance(last, Failed), "a run of `fails` ended well")
        text = last.message if isinstance(last, Failed) else ""
    else:
        require(isinstance(error, UpstreamError), f"raised {type(error).__name__}: {error}")
        text = str(error)
    require("://" not in text, f"the error's text shows a URL: {text!r:.300}")


RULES: tuple[Rule, ...] = (
    refuses_unknown_options,
    opens_and_closes_without_a_run,
    holds_nothing_before_its_first_event_is_asked_for,
    lets_go_at_its_end,
    lets_go_when_closed_midway,
    can_be_closed_twice,
    stops_when_cancelled_in_silence,
    stops_when_cancelled_at_any_step,
    keeps_its_streams_apart,
    fails_with_an_upstream_error,
)

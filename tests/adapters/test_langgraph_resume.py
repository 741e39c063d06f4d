"""A run goes on in another process where the one that ran it was lost, whatever that had written until then."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from adapters.langgraph import LangGraphAdapter
from proxy.adapter import Answer, Command, RunInput, Site, State, ThreadName
from proxy.events import Completed, Event, Paused
from tests.adapters.conftest import Place
from tests.adapters.langgraph_runs import events_of, run_of
from tests.adapters.native_runs import native_run
from tests.adapters.resume_graphs import Life, life

GRAPHS = "tests.adapters.resume_graphs"
INPUT = {"log": ["in"]}


class Process:
    """One that is killed after some writes: nothing that it does afterwards is kept or counts."""

    def __init__(self, place: Place, graph: str) -> None:
        options = LangGraphAdapter.Options(graph=f"{GRAPHS}:{graph}")
        self.adapter = LangGraphAdapter(
            options, Site(agent="a", folder=place.folder, state=place.state, holds=self._holds)
        )
        self.writes = 10_000
        self.life = Life()
        self._task: asyncio.Task[list[Event]] | None = None

    def _holds(self) -> bool:
        self.writes -= 1
        if self.writes < 0:
            self.life.alive = False
            assert self._task is not None
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        return self.writes >= 0

    async def run(self, run: RunInput, writes: int) -> list[Event] | None:
        """What it said, or None if it was killed."""
        self.writes = writes
        self.life = Life()
        life.set(self.life)
        self._task = asyncio.create_task(events_of(self.adapter, run))
        await asyncio.wait([self._task])
        return None if self.writes < 0 else self._task.result()


class Pair:
    """A process that is killed, and another that takes over."""

    def __init__(self, place: Place, graph: str) -> None:
        self.lost, self.next = Process(place, graph), Process(place, graph)
        self.threads = self.next.adapter.threads
        self.ran: Counter[str] = Counter()

    async def play(self, run: RunInput, writes: int) -> tuple[list[Event], bool]:
        """What the second attempt at the run said, and whether the first was kept from writing all; at the least it was
        kept from telling its end."""
        killed = await self.lost.run(run, writes) is None
        self.ran = Counter(self.lost.life.ran)
        said = await self.next.run(msgspec.structs.replace(run, attempt=2), 10_000)
        assert said is not None
        again = Counter(self.next.life.ran)
        assert max(again.values(), default=0) <= 1, again
        self.ran += again
        return said, killed


@asynccontextmanager
async def pair(place: Place, graph: str) -> AsyncIterator[Pair]:
    made = Pair(place, graph)
    for process in (made.lost, made.next):
        await process.adapter.open()
    try:
        yield made
    finally:
        for process in (made.lost, made.next):
            await process.adapter.close()


Scene = Callable[[Pair, ThreadName, int], Awaitable[bool]]


def at_every_write(place: Place, graph: str, scene: Scene) -> None:
    """Play the scene, each time on a new thread, with the process killed one write later, until all is written."""

    async def main() -> None:
        async with pair(place, graph) as processes:
            for writes in itertools.count():
                if not await scene(processes, ThreadName(thread_id=f"t{writes}"), writes):
                    assert writes > 0
                    return

    asyncio.run(asyncio.wait_for(main(), 120))


def run_on(thread: ThreadName, graph: str, input: Any = None, **more: Any) -> RunInput:
    return msgspec.structs.replace(native_run(graph, [], input, **more), thread_id=thread.thread_id)


def answer(value: Any, **more: Any) -> Command:
    return Command(resume=Raw(msgspec.json.encode(value)), **more)


def log(state: State) -> Any:
    return msgspec.json.decode(state.values)["log"]


def asked(state: State) -> list[Any]:
    return [msgspec.json.decode(each.value) for each in state.interrupts]


async def paused(processes: Pair, thread: ThreadName, graph: str) -> State:
    said = await processes.next.run(run_on(thread, graph, INPUT), 10_000)
    assert said is not None
    assert isinstance(said[-1], Paused)
    return await processes.threads.state(thread)


@pytest.mark.parametrize("durability", ["async", "sync"])
def test_an_input_is_taken_once_and_each_node_runs_at_most_once_more(place: Place, durability: Any) -> None:
    async def scene(processes: Pair, thread: ThreadName, writes: int) -> bool:
        run = run_on(thread, "steps", INPUT, durability=durability)
        said, killed = await processes.play(run, writes)
        assert isinstance(said[-1], Paused)
        assert max(processes.ran.values()) <= 2
        state = await processes.threads.state(thread)
        assert (log(state), asked(state)) == (["in", "a"], ["ok?"])
        await processes.next.run(run_on(thread, "steps", command=answer("yes")), 10_000)
        assert log(await processes.threads.state(thread)) == ["in", "a", "x", "ask=yes", "y", "b", "c"]
        return killed

    at_every_write(place, "steps", scene)


@pytest.mark.parametrize("by_id", [False, True])
def test_an_answer_is_taken_once_and_sub_graphs_go_on_where_they_were(place: Place, by_id: bool) -> None:
    async def scene(processes: Pair, thread: ThreadName, writes: int) -> bool:
        (question,) = (await paused(processes, thread, "steps")).interrupts
        command = answer({question.id: "yes"} if by_id else "yes")
        said, killed = await processes.play(run_on(thread, "steps", command=command), writes)
        assert said[-1] == Completed()
        assert processes.ran["a"] == processes.ran["x"] == 0
        assert max(processes.ran.values()) <= 2
        state = await processes.threads.state(thread)
        assert (log(state), state.next) == (["in", "a", "x", "ask=yes", "y", "b", "c"], ())
        return killed

    at_every_write(place, "steps", scene)


@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize("graph", ["twice", "within"])
def test_an_answer_is_never_taken_for_that_to_the_next_question(place: Place, graph: str, by_id: bool) -> None:
    async def scene(processes: Pair, thread: ThreadName, writes: int) -> bool:
        (question,) = (await paused(processes, thread, graph)).interrupts
        command = answer({question.id: "first"} if by_id else "first")
        said, killed = await processes.play(run_on(thread, graph, command=command), writes)
        assert isinstance(said[-1], Paused)
        assert asked(await processes.threads.state(thread)) == ["two?"]
        await processes.next.run(run_on(thread, graph, command=answer("second")), 10_000)
        said_log = log(await processes.threads.state(thread))
        assert [entry.partition("=")[2] for entry in said_log if "=" in entry] == ["first", "second"]
        assert said_log.count("b") == 1
        return killed

    at_every_write(place, graph, scene)


def test_answers_to_several_questions_are_taken_once_each(place: Place) -> None:
    async def scene(processes: Pair, thread: ThreadName, writes: int) -> bool:
        state = await paused(processes, thread, "pair")
        answers = {each.id: msgspec.json.decode(each.value).upper() for each in state.interrupts}
        said, killed = await processes.play(run_on(thread, "pair", command=answer(answers)), writes)
        assert said[-1] == Completed()
        assert log(await processes.threads.state(thread)) == ["in", "left=L?", "right=R?", "b"]
        return killed

    at_every_write(place, "pair", scene)


def test_an_update_that_comes_with_an_answer_is_written_once(place: Place) -> None:
    async def scene(processes: Pair, thread: ThreadName, writes: int) -> bool:
        await paused(processes, thread, "twice")
        command = answer("first", update=Raw(b'{"log": ["given"]}'))
        said, killed = await processes.play(run_on(thread, "twice", command=command), writes)
        assert isinstance(said[-1], Paused)
        await processes.next.run(run_on(thread, "twice", command=answer("second")), 10_000)
        assert log(await processes.threads.state(thread)) == ["in", "a", "given", "ask=first", "ask=second", "b"]
        return killed

    at_every_write(place, "twice", scene)


@pytest.mark.parametrize("halt", ["interrupt_before", "interrupt_after"])
def test_a_breakpoint_holds_for_the_second_attempt_too(place: Place, halt: str) -> None:
    stop, seen = {"interrupt_before": ("ask", ["in", "a"]), "interrupt_after": ("a", ["in", "a"])}[halt]

    async def scene(processes: Pair, thread: ThreadName, writes: int) -> bool:
        said, killed = await processes.play(run_on(thread, "twice", INPUT, **{halt: stop}), writes)
        assert isinstance(said[-1], Paused)
        assert processes.ran["ask"] == 0
        state = await processes.threads.state(thread)
        assert (log(state), state.next) == (seen, ("ask",))
        return killed

    at_every_write(place, "twice", scene)


def test_what_goes_on_from_an_older_checkpoint_ends_as_if_undisturbed(place: Place) -> None:
    async def scene(processes: Pair, thread: ThreadName, writes: int) -> bool:
        ends = []
        for name, kept in ((thread, writes), (ThreadName(thread_id=f"{thread.thread_id}-whole"), 10_000)):
            old = (await paused(processes, name, "within")).checkpoint
            await processes.next.run(run_on(name, "within", command=answer("one")), 10_000)
            run = run_on(name, "within", command=answer("other"), checkpoint=old)
            said, killed = await processes.play(run, kept)
            state = await processes.threads.state(name)
            ends.append((type(said[-1]), log(state), asked(state), state.next))
            if name is thread:
                disturbed = killed
        assert ends[0] == ends[1]
        return disturbed

    at_every_write(place, "within", scene)


@pytest.mark.parametrize("graph", ["steps", "twice", "within"])
def test_a_rollback_of_a_second_attempt_brings_back_what_was_before_the_first(place: Place, graph: str) -> None:
    async def scene(processes: Pair, thread: ThreadName, writes: int) -> bool:
        await paused(processes, thread, graph)
        before = await whole(processes, thread)
        run = run_on(thread, graph, command=answer("yes"))
        await processes.threads.mark(thread, run_id=run.run_id)
        _, killed = await processes.play(run, writes)
        mark = await processes.threads.mark(thread, run_id=run.run_id)
        await processes.threads.rollback(thread, mark)
        assert await whole(processes, thread) == before
        return killed

    at_every_write(place, graph, scene)


async def whole(processes: Pair, thread: ThreadName) -> list[State]:
    now = await processes.threads.state(thread, subgraphs=True)
    return [now, *await processes.threads.history(thread, limit=100)]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_turn_of_a_chat_goes_on(place: Place, fresh: bool) -> None:
    async def scene(processes: Pair, thread: ThreadName, writes: int) -> bool:
        talk = {"thread_id": thread.thread_id, "temporary": False}
        await processes.next.run(run_of("hi", run_id=f"{thread.thread_id}-1", fresh=True, **talk), 10_000)
        said, killed = await processes.play(run_of("so", run_id=f"{thread.thread_id}-2", fresh=fresh, **talk), writes)
        assert max(processes.ran.values()) <= (2 if killed else 1)
        messages = msgspec.json.decode((await processes.threads.state(thread)).values)["messages"]
        assert said[-1] == Completed()
        assert [message["content"] for message in messages] == ["hi", "1 seen", "2 then"][: 0 if fresh else 3] + (
            ["so", "1 seen", "2 then"] if fresh else ["so", "4 seen", "5 then"]
        )
        return killed

    at_every_write(place, "talks", scene)


def test_an_answer_in_a_chat_is_taken_once(place: Place) -> None:
    async def scene(processes: Pair, thread: ThreadName, writes: int) -> bool:
        talk = {"thread_id": thread.thread_id, "temporary": False}
        await processes.next.run(run_of("hi", run_id=f"{thread.thread_id}-1", fresh=True, **talk), 10_000)
        run = run_of(messages=(), run_id=f"{thread.thread_id}-2", fresh=False, answer=Answer(text="yes"), **talk)
        said, killed = await processes.play(run, writes)
        assert said[-1] == Completed()
        messages = msgspec.json.decode((await processes.threads.state(thread)).values)["messages"]
        assert [message["content"] for message in messages] == ["hi", "1 seen", "answer: yes", "3 then"]
        return killed

    at_every_write(place, "questions", scene)


def test_a_run_that_keeps_its_state_for_the_end_starts_over(place: Place) -> None:
    async def main() -> None:
        async with pair(place, "twice") as processes:
            thread = ThreadName(thread_id="t")
            said, killed = await processes.play(run_on(thread, "twice", INPUT, durability="exit"), 0)
            assert killed
            assert isinstance(said[-1], Paused)
            assert processes.ran["a"] == 2
            assert log(await processes.threads.state(thread)) == ["in", "a"]

    asyncio.run(main())

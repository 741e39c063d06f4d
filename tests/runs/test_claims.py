"""Which runs a process takes from the queue, when, and how many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from proxy.errors import Unavailable
from proxy.model import Run, RunStatus, new_id
from proxy.runs.claims import Claims, Room
from proxy.store.memory.store import MemoryStore


class Counted(MemoryStore):
    """Counts how often it is asked for runs, and can be away."""

    asked = 0
    away = 0

    async def claim(self, agents: Collection[str], *, limit: int) -> list[Run]:
        self.asked += 1
        if self.away:
            self.away -= 1
            raise Unavailable
        return await super().claim(agents, limit=limit)


class Desk:
    """A process that takes runs, and has each until the test says that it is over."""

    def __init__(self, room: Room, agents: Collection[str]) -> None:
        self.store = Counted()
        self.begun: asyncio.Queue[Run] = asyncio.Queue()
        self.under_way: dict[str, asyncio.Future[Run | None]] = {}
        self.claims = Claims(self.store, room, lambda: agents, self._begin)

    def _begin(self, run: Run) -> asyncio.Future[Run | None] | None:
        if run.cancel is not None:
            return None
        self.begun.put_nowait(run)
        done = self.under_way[run.run_id] = asyncio.get_running_loop().create_future()
        return done

    async def queue(self, agent: str = "a", tenant: str = "default") -> Run:
        run = Run(run_id=new_id(), thread_id=new_id(), agent=agent, tenant=tenant, temporary=True)
        return await self.store.insert(run)

    def over(self, run: Run) -> None:
        self.under_way.pop(run.run_id).set_result(None)


def play(
    scene: Callable[[Desk], Awaitable[None]], most: int = 100, limits: dict[str, int] | None = None, agents: str = "ab"
) -> None:
    async def main() -> None:
        desk = Desk(Room(most, limits or {}), frozenset(agents))
        await desk.store.open()
        claiming = asyncio.create_task(desk.claims.run())
        await scene(desk)
        desk.claims.close()
        await claiming

    asyncio.run(asyncio.wait_for(main(), 20))


async def idle() -> None:
    """Until all that can be done now was done."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_what_is_queued_begins_at_once_and_many_signals_are_one_look() -> None:
    async def scene(desk: Desk) -> None:
        await idle()
        asked = desk.store.asked
        runs = [await desk.queue() for _ in range(20)]
        begun = [await desk.begun.get() for _ in runs]
        assert [run.run_id for run in begun] == [run.run_id for run in runs]
        assert all(run.status is RunStatus.RUNNING and run.owner == desk.store.lease.owner for run in begun)
        await idle()
        assert desk.store.asked - asked <= 2

    play(scene)


def test_a_process_takes_what_it_has_room_for_and_more_when_something_is_over() -> None:
    async def scene(desk: Desk) -> None:
        for _ in range(5):
            await desk.queue()
        first, _ = await desk.begun.get(), await desk.begun.get()
        await idle()
        assert desk.begun.empty()
        asked = desk.store.asked
        desk.claims.ring()
        await idle()
        assert desk.store.asked == asked
        desk.over(first)
        await desk.begun.get()
        await idle()
        assert desk.begun.empty()

    play(scene, most=2)


def test_an_agent_has_a_bound_of_its_own_and_does_not_hold_up_others() -> None:
    async def scene(desk: Desk) -> None:
        for agent in ("a", "a", "a", "b", "b"):
            await desk.queue(agent)
        begun = [await desk.begun.get() for _ in range(3)]
        await idle()
        assert sorted(run.agent for run in begun) == ["a", "b", "b"]
        assert desk.begun.empty()
        desk.over(next(run for run in begun if run.agent == "a"))
        assert (await desk.begun.get()).agent == "a"

    play(scene, limits={"a": 1})


def test_where_all_is_little_each_bounded_agent_gets_its_turn() -> None:
    room = Room(1, {"a": 5, "b": 5})
    firsts = [room.portions(["a", "b", "c"])[0][0] for _ in range(6)]
    assert set(firsts) == {frozenset("a"), frozenset("b"), frozenset("c")}


def test_agents_of_other_processes_are_left_to_them() -> None:
    async def scene(desk: Desk) -> None:
        other, mine = await desk.queue("b"), await desk.queue("a")
        assert (await desk.begun.get()).run_id == mine.run_id
        known = await desk.store.get("default", other.run_id)
        assert known is not None
        assert known.status is RunStatus.PENDING

    play(scene, agents="a")


def test_a_store_that_was_away_is_asked_again() -> None:
    async def scene(desk: Desk) -> None:
        desk.store.away = 2
        run = await desk.queue()
        assert (await desk.begun.get()).run_id == run.run_id

    play(scene)


def test_who_is_closing_takes_nothing_and_gives_back_what_comes_all_the_same() -> None:
    async def main() -> None:
        desk = Desk(Room(5, {}), frozenset("a"))
        await desk.store.open()
        claim, reached, go = desk.store.claim, asyncio.Event(), asyncio.Event()

        async def slow(agents: Collection[str], *, limit: int) -> list[Run]:
            runs = await claim(agents, limit=limit)
            if runs:
                reached.set()
                await go.wait()
            return runs

        desk.store.claim = slow  # type: ignore[method-assign]
        claiming = asyncio.create_task(desk.claims.run())
        run = await desk.queue()
        await reached.wait()
        desk.claims.close()
        later = await desk.queue()
        go.set()
        await claiming
        assert desk.begun.empty()
        for each in (run, later):
            known = await desk.store.get("default", each.run_id)
            assert known is not None
            assert (known.status, known.owner) == (RunStatus.PENDING, None)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_run_that_is_given_back_waits_for_its_next_attempt() -> None:
    async def scene(desk: Desk) -> None:
        run = await desk.queue()
        begun = await desk.begun.get()
        desk.over(begun)
        desk.claims.give_back(begun)
        again = await desk.begun.get()
        assert (again.run_id, again.attempt) == (run.run_id, 1)

    play(scene)


def test_a_run_that_could_not_be_begun_is_claimed_again() -> None:
    async def scene(desk: Desk) -> None:
        run = await desk.queue()
        await desk.begun.get()
        desk.under_way.pop(run.run_id).set_exception(Unavailable())
        assert (await desk.begun.get()).run_id == run.run_id

    play(scene)

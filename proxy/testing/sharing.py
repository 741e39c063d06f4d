"""What a store promises to processes that share it: a log is the same wherever it is followed.

Each promise gets two stores over one place, opened and joined, as two processes have them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing

import msgspec

from proxy.errors import Draining, LeaseLost
from proxy.events import Completed, Entry, RunStarted
from proxy.model import RunStatus
from proxy.store.base import Store
from proxy.store.claims import Lost, Server
from proxy.testing import shared_claims, shared_workflows, workflows
from proxy.testing.runs import SharedPromise, ended, finished, followed, new_run, say, seqs, word
from proxy.testing.store import LIMIT, BrokenPromise

BRIEF = 0.4
"""Seconds of a lease that is to run out."""
AHEAD = 10_000


async def a_run_is_followed_from_another_process(here: Store, there: Store) -> None:
    """A follower of a run that another process owns sees its entries as they come, and its end."""
    run = await here.insert(new_run())
    log = here.begin(run, inserted=True)
    async with aclosing(there.follow(run.run_id)) as batches:
        for number in range(3):
            log.append(word(str(number)))
            assert seqs(await anext(batches)) == [number + 1]
        assert await log.settle(Completed(), ended(run))
        assert seqs(await anext(batches)) == [4]
        assert [batch async for batch in batches] == []
    assert seqs(await followed(there, run.run_id, 2)) == [3, 4]
    assert await followed(there, run.run_id, 4) == []
    assert await followed(there, run.run_id, 40) == []
    assert await there.last(run.run_id) == 4


async def a_run_that_waits_is_followed_wherever_it_begins(here: Store, there: Store) -> None:
    """A follower of a run that waits sees it begin, in this process or in another."""
    for owner in (here, there):
        run = await here.insert(new_run(status=RunStatus.PENDING))
        readers = [asyncio.ensure_future(followed(store, run.run_id)) for store in (here, there)]
        await asyncio.sleep(0.02)
        [claimed] = await owner.claim(["trial"], limit=1)
        log = owner.begin(claimed, inserted=True)
        await say(log, range(5))
        await log.settle(Completed(), ended(claimed))
        for reader in readers:
            assert seqs(await reader) == [1, 2, 3, 4, 5, 6]


async def who_reconnects_anywhere_misses_nothing(here: Store, there: Store) -> None:
    """A reader that comes back a hundred times, to either process, where it was, has the whole log in the end; others
    that begin anywhere see each entry after it once, in order."""
    dice = random.Random(11)  # noqa: S311
    run = await here.insert(new_run())
    log = here.begin(run, inserted=True)
    others: list[tuple[int, asyncio.Task[list[Entry]]]] = []

    async def reconnect() -> list[int]:
        seen: list[int] = []
        for store in [here, there] * 50:
            left = dice.randrange(1, 12)
            async with aclosing(store.follow(run.run_id, after=seen[-1] if seen else 0)) as batches:
                async for batch in batches:
                    seen += seqs(batch)
                    left -= 1
                    if not left:
                        break
        return seen + seqs(await followed(there, run.run_id, seen[-1]))

    reader = asyncio.ensure_future(reconnect())
    for number in range(600):
        log.append(word(str(number)))
        if dice.random() < 0.05:
            after = dice.randrange(log.last + 1)
            others.append((after, asyncio.ensure_future(followed(there, run.run_id, after))))
        if dice.random() < 0.3:
            await asyncio.sleep(dice.choice((0, 0.001, 0.005)))
    await log.settle(Completed(), ended(run))
    assert await reader == list(range(1, 602))
    for after, other in others:
        assert seqs(await other) == list(range(after + 1, 602)), f"a follower from {after}"


async def joining_elsewhere_at_the_end_sees_the_end(here: Store, there: Store) -> None:
    """A follower that comes, in another process, at the very moment of a run's end sees the end."""
    for number in range(40):
        run = await here.insert(new_run())
        log = here.begin(run, inserted=True)
        log.append(word("0"))
        settling = asyncio.ensure_future(log.settle(Completed(), ended(run)))
        await asyncio.sleep(number % 10 * 0.0005)
        assert seqs(await followed(there, run.run_id, number % 2)) == list(range(1 + number % 2, 3))
        await settling


async def a_slow_follower_elsewhere_reads_all(here: Store, there: Store) -> None:
    """A follower in another process that lags far behind a fast writer misses nothing, nor does a quick one."""
    run = await here.insert(new_run())
    log = here.begin(run, inserted=True)
    seen: list[int] = []

    async def read_slowly() -> None:
        async with aclosing(there.follow(run.run_id)) as batches:
            async for batch in batches:
                seen.extend(seqs(batch))
                await asyncio.sleep(0.02)

    slow = asyncio.ensure_future(read_slowly())
    quick = asyncio.ensure_future(followed(there, run.run_id))
    for start in range(0, 10_000, 100):
        await say(log, range(start, start + 100))
        await asyncio.sleep(0)
    await log.settle(Completed(), ended(run))
    await slow
    assert seqs(await quick) == seen == list(range(1, 10_002))


async def what_is_not_kept_is_still_read_elsewhere(here: Store, there: Store) -> None:
    """Content that is deleted right after its run's end still reaches those who follow the run in other processes."""
    run = await here.insert(new_run())
    log = here.begin(run, inserted=True)
    reader = asyncio.ensure_future(followed(there, run.run_id))
    await say(log, range(5))
    end = ended(run)
    await log.settle(Completed(), end)
    await here.strip(end)
    assert seqs(await reader) == [1, 2, 3, 4, 5, 6]


async def past_its_lease_a_process_shows_nothing(here: Store, there: Store) -> None:
    """Past its lease a process shows nothing new of its runs to anybody; renewed late, it shows all."""
    run = await here.insert(new_run())
    log = here.begin(run, inserted=True)
    async with aclosing(here.follow(run.run_id, idle=0.05)) as near:
        log.append(word("0"))
        assert seqs(await anext(near)) == [1]
        here.lease.deadline = time.monotonic()
        log.append(word("1"))
        log.append(word("2"))
        assert await anext(near) == []
        assert await here.renew()
        assert seqs(await anext(near)) == [2, 3]
        await log.settle(Completed(), ended(run))
    assert seqs(await followed(there, run.run_id)) == [1, 2, 3, 4]


async def a_lost_run_goes_on_elsewhere(here: Store, there: Store) -> None:
    """A process that lost a run writes no more of it. Its followers, who may have seen more than was stored, are told
    from where the next owner goes on, and so is everybody else; positions grow."""
    here.lease.seconds = BRIEF
    assert await here.renew()
    run = await here.insert(new_run())
    old = here.begin(run, inserted=True)
    readers = [asyncio.ensure_future(followed(store, run.run_id)) for store in (here, there, here)]
    await say(old, range(3))
    lost = await taken(there)
    assert lost.run.run_id == run.run_id
    assert lost.run.attempt == 2
    old.append(word("too late"))
    try:
        await old.settle(Completed(), ended(run))
    except LeaseLost:
        pass
    else:
        raise AssertionError("a process ended a run that it had lost")
    new = there.begin(lost.run, inserted=True, after=lost.last + AHEAD)
    new.append(
        RunStarted(run_id=run.run_id, thread_id=run.thread_id, agent="trial", attempt=2, resumes_after=lost.last)
    )
    await new.settle(Completed(), ended(lost.run))
    whole = seqs(await followed(there, run.run_id))
    assert whole == [*range(1, lost.last + 1), lost.last + AHEAD + 1, lost.last + AHEAD + 2]
    for reader in readers:
        seen = await reader
        assert seqs(seen) == sorted(set(seqs(seen)))
        assert seqs(seen)[-2:] == whole[-2:]
        assert isinstance(seen[-2].event, RunStarted)
    for cursor in (lost.last, lost.last + 1, lost.last + AHEAD):
        assert seqs(await followed(there, run.run_id, cursor)) == whole[-2:]


async def taken(store: Store) -> Lost:
    """The next run that loses its process."""
    while True:
        if found := await store.take_lost(limit=10):
            return found[0]
        await asyncio.sleep(0.05)


async def followers_are_let_go(here: Store, there: Store) -> None:
    """When a process lets its followers go, those who follow runs that it does not have are told to come back."""
    run = await here.insert(new_run())
    log = here.begin(run, inserted=True)
    reader = asyncio.ensure_future(followed(there, run.run_id))
    await asyncio.sleep(0.02)
    there.leave_logs()
    try:
        await reader
    except Draining:
        await log.settle(Completed(), ended(run))
        assert seqs(await followed(here, run.run_id)) == [1]
        return
    raise AssertionError("a follower was not told to go")


async def workflow_events_are_followed_from_another_process(here: Store, there: Store) -> None:
    """A follower of a workflow run that another process owns sees its events as they come, and its end."""
    run = await workflows.started(here, "run_started")
    reader = asyncio.ensure_future(workflows.followed(there, run))
    for _ in range(3):
        run = await workflows.went_on(here, run, "node_started")
        await asyncio.sleep(0.01)
    await workflows.ended(here, run)
    assert workflows.seqs(await reader) == [1, 2, 3, 4, 5]


async def an_ended_run_is_the_same_everywhere(here: Store, there: Store) -> None:
    """Record and log of an ended run are the same in each process."""
    run = new_run()
    end = await finished(here, run, words=20)
    stored = await there.get("default", run.run_id)
    assert stored is not None
    assert msgspec.structs.replace(stored, owner=None) == msgspec.structs.replace(end, owner=None)
    assert await followed(there, run.run_id) == await followed(here, run.run_id)


SHARED_PROMISES: tuple[SharedPromise, ...] = (
    a_run_is_followed_from_another_process,
    a_run_that_waits_is_followed_wherever_it_begins,
    who_reconnects_anywhere_misses_nothing,
    joining_elsewhere_at_the_end_sees_the_end,
    a_slow_follower_elsewhere_reads_all,
    what_is_not_kept_is_still_read_elsewhere,
    past_its_lease_a_process_shows_nothing,
    a_lost_run_goes_on_elsewhere,
    followers_are_let_go,
    workflow_events_are_followed_from_another_process,
    an_ended_run_is_the_same_everywhere,
    *shared_claims.PROMISES,
    *shared_workflows.PROMISES,
)


async def check_sharing(
    make: Callable[[], tuple[Store, Store]], promises: Iterable[SharedPromise] = SHARED_PROMISES
) -> None:
    """Hold a store that processes share against these promises; raises `BrokenPromise` for the first one broken.

    `make` builds two stores over one empty place, not open yet; each promise gets two of its own."""
    for promise in promises:
        here, there = make()
        for store in (here, there):
            await store.open()
            await store.join(Server(server_id=""))
        try:
            async with asyncio.timeout(LIMIT):
                await promise(here, there)
        except (AssertionError, TimeoutError) as error:
            raise BrokenPromise(f"{promise.__name__}: {promise.__doc__} {error}") from error
        finally:
            for store in (here, there):
                await store.close()

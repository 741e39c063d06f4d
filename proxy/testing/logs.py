"""What a store promises of logs."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, suppress

from proxy.errors import LeaseLost, LogTrimmed
from proxy.events import FINAL, Cancelled, Completed, Entry, Event, Failed
from proxy.store.base import Store
from proxy.testing.runs import Promise, all_of, emptied, ended, finished, followed, new_run, say, seqs, word

MANY = 20_000


async def entries_are_numbered_from_one(store: Store) -> None:
    """Entries are numbered 1, 2, 3, and the final one comes last."""
    run = new_run()
    await finished(store, run, words=20)
    entries = await all_of(store, run.run_id)
    assert seqs(entries) == list(range(1, 22)), seqs(entries)
    assert isinstance(entries[-1].event, FINAL)
    assert [entry.event for entry in entries[:-1]] == [word(str(number)) for number in range(20)]


async def followers_miss_nothing_and_see_nothing_twice(store: Store) -> None:
    """Followers that join at any moment, from any position, see each entry after it once, in order."""
    dice = random.Random(7)  # noqa: S311
    run = new_run()
    log = store.begin(run, inserted=False)
    readers: list[tuple[int, asyncio.Task[list[Entry]]]] = []
    for number in range(300):
        log.append(word(str(number)))
        if dice.random() < 0.1:
            after = dice.randrange(log.last + 1)
            readers.append((after, asyncio.ensure_future(followed(store, run.run_id, after))))
        if dice.random() < 0.3:
            await asyncio.sleep(dice.choice((0, 0, 0.001, 0.01)))
    await log.settle(Completed(), ended(run))
    for after, reader in readers:
        assert seqs(await reader) == list(range(after + 1, 302)), f"a follower from {after}"


async def a_follower_may_start_in_the_middle(store: Store) -> None:
    """Following after a number gives only what is above it, of a live run and of an ended one."""
    run = new_run()
    log = store.begin(run, inserted=False)
    await say(log, range(10))
    reader = asyncio.ensure_future(followed(store, run.run_id, 4))
    await asyncio.sleep(0)
    await log.settle(Completed(), ended(run))
    assert seqs(await reader) == list(range(5, 12))
    assert seqs(await followed(store, run.run_id, 4)) == list(range(5, 12))


async def following_an_ended_run_replays_it_and_ends(store: Store) -> None:
    """Following a run that has ended gives its whole log, and nothing from its end on."""
    run = new_run()
    await finished(store, run, words=5)
    assert seqs(await followed(store, run.run_id)) == [1, 2, 3, 4, 5, 6]
    assert await followed(store, run.run_id, 6) == []
    assert await followed(store, run.run_id, 60) == []


async def an_unknown_run_has_an_empty_log(store: Store) -> None:
    """An unknown run has no entries, and following it ends at once."""
    assert await store.read("nobody", after=0, limit=10) == []
    assert await followed(store, "nobody") == []


async def silence_yields_an_empty_list(store: Store) -> None:
    """A follower gets an empty list after each `idle` seconds of silence, and entries after that."""
    run = new_run()
    log = store.begin(run, inserted=False)
    async with aclosing(store.follow(run.run_id, idle=0.02)) as batches:
        assert await anext(batches) == []
        assert await anext(batches) == []
        log.append(word("at last"))
        assert seqs(await anext(batches)) == [1]
    await log.settle(Completed(), ended(run))


async def a_sink_takes_entries_in_the_turn_of_the_writer(store: Store) -> None:
    """What the sink of a resting follower takes is not yielded again; what it refuses is. The end is never offered."""
    run = new_run()
    log = store.begin(run, inserted=False)
    taken: list[Entry] = []

    def sink(entry: Entry) -> bool:
        if entry.seq % 5 == 0:
            return False
        taken.append(entry)
        return True

    yielded: list[Entry] = []

    async def read() -> None:
        async with aclosing(store.follow(run.run_id, sink=sink)) as batches:
            async for batch in batches:
                yielded.extend(batch)

    reader = asyncio.ensure_future(read())
    for number in range(40):
        await asyncio.sleep(0)
        log.append(word(str(number)))
    await log.settle(Completed(), ended(run))
    await reader
    assert sorted(seqs(taken + yielded)) == list(range(1, 42))
    assert taken, "the sink was never asked"
    assert isinstance(yielded[-1].event, FINAL)


async def the_first_end_wins(store: Store) -> None:
    """Of many that settle a run one wins, and the log has one final entry: the last."""
    run = new_run()
    log = store.begin(run, inserted=False)
    log.append(word("so"))
    ends: list[Event] = [Completed(), Cancelled(), Failed(code="timeout", message="")] * 5
    won = await asyncio.gather(*(log.settle(end, ended(run)) for end in ends))
    assert won.count(True) == 1
    entries = await followed(store, run.run_id)
    assert [isinstance(entry.event, FINAL) for entry in entries] == [False, True]
    assert entries[-1].event == ends[won.index(True)]


async def nothing_comes_after_the_end(store: Store) -> None:
    """Appending to a settled log raises `LeaseLost`, from the moment that settling begins."""
    run = new_run()
    log = store.begin(run, inserted=False)
    settling = asyncio.ensure_future(log.settle(Completed(), ended(run)))
    await asyncio.sleep(0)
    for _ in range(2):
        try:
            log.append(word("too late"))
        except LeaseLost:
            await settling
        else:
            raise AssertionError("an entry was taken after the end")
    assert seqs(await followed(store, run.run_id)) == [1]


async def a_cancelled_settler_leaves_one_end(store: Store) -> None:
    """A settler that is cancelled while it waits either ended the run or can be followed by another that does."""
    for turns in range(6):
        run = new_run()
        log = store.begin(run, inserted=False)
        log.append(word("so"))
        first = asyncio.ensure_future(log.settle(Completed(), ended(run)))
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        await log.settle(Cancelled(), ended(run))
        entries = await followed(store, run.run_id)
        assert seqs(entries) == [1, 2]
        assert isinstance(entries[-1].event, FINAL)


async def a_slow_follower_reads_all(store: Store) -> None:
    """A follower that lags far behind a fast writer misses nothing."""
    run = new_run()
    log = store.begin(run, inserted=False)
    seen: list[int] = []

    async def read_slowly() -> None:
        async with aclosing(store.follow(run.run_id)) as batches:
            async for batch in batches:
                seen.extend(seqs(batch))
                await asyncio.sleep(0.002)

    reader = asyncio.ensure_future(read_slowly())
    for start in range(0, MANY, 100):
        await say(log, range(start, start + 100))
        await asyncio.sleep(0)
    await log.settle(Completed(), ended(run))
    await reader
    assert seen == list(range(1, MANY + 2))


async def a_stripped_log_never_looks_whole(store: Store) -> None:
    """Of a stripped log the final entry is left; following it from before that raises `LogTrimmed`."""
    run = new_run()
    end = await finished(store, run, words=5)
    await emptied(store, end)
    assert seqs(await store.read(run.run_id, after=0, limit=10)) == [6]
    assert seqs(await followed(store, run.run_id, 5)) == [6]
    try:
        await followed(store, run.run_id)
    except LogTrimmed:
        return
    raise AssertionError("a follower took a stripped log for a whole one")


async def stripping_does_not_cut_followers_off(store: Store) -> None:
    """A follower that is not through yet when the run is stripped still reads all; then the content goes."""
    run = new_run()
    log = store.begin(run, inserted=False)
    log.append(word("0"))
    seen: list[int] = []
    async with aclosing(store.follow(run.run_id)) as batches:
        seen += seqs(await anext(batches))
        await say(log, range(1, 5000))
        end = ended(run)
        await log.settle(Completed(), end)
        await store.strip(end)
        async for batch in batches:
            seen += seqs(batch)
    assert seen == list(range(1, 5002))
    await emptied(store, end)
    assert seqs(await store.read(run.run_id, after=0, limit=10)) == [5001]


async def a_log_goes_on_after_a_number(store: Store) -> None:
    """A log that begins after a number numbers on from there."""
    run = new_run()
    await store.insert(run)
    log = store.begin(run, inserted=True, after=10_000)
    log.append(word("on"))
    await log.settle(Completed(), ended(run))
    assert seqs(await followed(store, run.run_id)) == [10_001, 10_002]
    assert seqs(await followed(store, run.run_id, 10_001)) == [10_002]


PROMISES: tuple[Promise, ...] = (
    entries_are_numbered_from_one,
    followers_miss_nothing_and_see_nothing_twice,
    a_follower_may_start_in_the_middle,
    following_an_ended_run_replays_it_and_ends,
    an_unknown_run_has_an_empty_log,
    silence_yields_an_empty_list,
    a_sink_takes_entries_in_the_turn_of_the_writer,
    the_first_end_wins,
    nothing_comes_after_the_end,
    a_cancelled_settler_leaves_one_end,
    a_slow_follower_reads_all,
    a_stripped_log_never_looks_whole,
    stripping_does_not_cut_followers_off,
    a_log_goes_on_after_a_number,
)

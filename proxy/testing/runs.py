"""Runs, logs and readers for trials of a store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import Raw

from proxy.events import NULL, Completed, Entry, Event, TextDelta
from proxy.model import Choices, Outcome, Pause, Run, RunStatus, new_id
from proxy.store.base import RunQuery, Store
from proxy.store.event_log import RunLog
from proxy.store.signals import Topic

Promise = Callable[[Store], Awaitable[None]]
SharedPromise = Callable[[Store, Store], Awaitable[None]]
TRIAL = ("trial",)
"""The agents of most runs here."""


def new_run(**fields: Any) -> Run:
    """A running run on a thread of its own."""
    run_id, now = new_id(), time.time()
    run = Run(
        run_id=run_id,
        thread_id=new_id(),
        agent="trial",
        status=RunStatus.RUNNING,
        created_at=now,
        updated_at=now,
        turn_id=run_id,
        input=Raw(b'{"messages":[{"role":"user","content":"secret"}]}'),
    )
    return msgspec.structs.replace(run, **fields)


def waiting_run(**fields: Any) -> Run:
    """A run that waits to be claimed."""
    return new_run(**({"status": RunStatus.PENDING, "choices": Choices(strategy="enqueue")} | fields))


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    while not holds():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0.005)


def ended(run: Run, status: RunStatus = RunStatus.SUCCESS, **fields: Any) -> Run:
    outcome = Outcome(stop_reason="end_turn", finish_reason="stop")
    return msgspec.structs.replace(run, status=status, outcome=outcome, updated_at=time.time(), **fields)


def pause_of(run: Run, **fields: Any) -> Pause:
    pause = Pause(
        run_id=run.run_id,
        thread_id=run.thread_id,
        agent=run.agent,
        turn_id=run.turn_id,
        tenant=run.tenant,
        expires_at=time.time() + 3600,
    )
    return msgspec.structs.replace(pause, **fields)


def word(text: str) -> Event:
    return TextDelta(text=text)


async def finished(store: Store, run: Run, words: int = 3, pause: Pause | None = None) -> Run:
    """A run that said so many words and ended well; its record as it is then."""
    log = store.begin(run, inserted=False)
    await say(log, range(words))
    end = ended(log.run)
    assert await log.settle(Completed(), end, pause)
    return end


async def emptied(store: Store, run: Run) -> None:
    """Delete the content of an ended run, and wait until it is gone: where others read it, that takes a moment."""
    await store.strip(run)
    known = await store.get(run.tenant, run.run_id)
    while known is not None and known.input != NULL:
        await asyncio.sleep(0.01)  # a store tells nobody of it
        known = await store.get(run.tenant, run.run_id)


async def say(log: RunLog, words: range) -> None:
    for number in words:
        log.append(word(str(number)))
        if log.full:
            await log.drain()


async def followed(store: Store, run_id: str, after: int = 0) -> list[Entry]:
    """All entries that a follower sees, to the end."""
    seen: list[Entry] = []
    async with aclosing(store.follow(run_id, after=after)) as batches:
        async for batch in batches:
            seen += batch
    return seen


async def all_of(store: Store, run_id: str, after: int = 0) -> list[Entry]:
    """All entries above `after`, a page at a time."""
    seen: list[Entry] = []
    while page := await store.read(run_id, after=seen[-1].seq if seen else after, limit=7):
        assert len(page) <= 7, "a page is larger than its limit"
        seen += page
    return seen


async def ids(store: Store, **query: Any) -> list[str]:
    return [run.run_id for run in await store.find(RunQuery(**{"tenant": "default"} | query))]


def seqs(entries: list[Entry]) -> list[int]:
    return [entry.seq for entry in entries]


def names(runs: list[Run]) -> list[str]:
    return [run.run_id for run in runs]


def heard(store: Store, topic: Topic) -> list[str]:
    """What is rung on the topic from now on."""
    rung: list[str] = []
    store.signals.hear(topic, rung.append)
    return rung


async def settled(store: Store, run: Run) -> None:
    log = store.begin(run, inserted=True)
    assert await log.settle(Completed(), ended(log.run))

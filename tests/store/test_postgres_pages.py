"""What PostgreSQL gives of a lot of rows at once: no more than a page may hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.events import Completed
from proxy.store.base import ThreadQuery
from proxy.store.postgres.store import PostgresStore
from proxy.store.workflow import Advance, EventQuery
from proxy.testing.runs import all_of, ended, new_run, seqs, word
from proxy.testing.threads import new_thread
from proxy.testing.workflows import events_from, new_workflow, start_of
from tests.store.databases import Database


def on(known: Database, act: Callable[[PostgresStore], Awaitable[None]]) -> None:
    async def run() -> None:
        store = known.store()
        await store.open()
        try:
            await act(store)
        finally:
            await store.close()

    asyncio.run(run())


def test_a_page_of_a_log_ends_with_the_segment_that_fills_it(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.statements.records.PAGE_BYTES", 300_000)

    async def act(store: PostgresStore) -> None:
        log = store.begin(await store.insert(new_run()), inserted=True)
        for number in range(10):
            log.append(word(str(number) * 100_000))
            await store._journal.store(log)
        await log.settle(Completed(), ended(log.run))
        store._logs.drop(log.run_id)
        assert seqs(await store.read(log.run_id, after=0, limit=100)) == [1, 2, 3]
        assert seqs(await store.read(log.run_id, after=3, limit=2)) == [4, 5]
        assert seqs(await all_of(store, log.run_id)) == list(range(1, 12))

    on(postgres, act)


def test_a_page_of_a_workflow_runs_log_ends_with_the_event_that_fills_it(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.statements.workflows.PAGE_BYTES", 30)

    async def act(store: PostgresStore) -> None:
        run = await store.start_workflow(start_of(new_workflow()))
        await store.advance(Advance(run=run, events=tuple(events_from(1, *"abcdefghij"))))
        for contents in (False, True):
            query = EventQuery(tenant="default", run_id=run.run_id, contents=contents)
            page = await store.read_events(query)
            sizes = [len(event.body) + len(event.content or b"") for event in page.events]
            assert sum(sizes[:-1]) <= 30 < sum(sizes)

    on(postgres, act)


def test_what_is_looked_into_is_fetched_a_few_rows_at_a_time(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.statements.pages.AT_ONCE", 2)

    async def act(store: PostgresStore) -> None:
        for number in range(9):
            await store.insert_thread(new_thread(metadata={"n": number % 2}))
        query = ThreadQuery(tenant="default", metadata={"n": 1}, limit=3, offset=1)
        for _ in range(5):
            assert len(await store.find_threads(query)) == 3
            assert await store.count_threads(query) == 4

    on(postgres, act)

"""What becomes of writes when the tables of PostgreSQL are slow, as under the queries of others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.errors import Unavailable
from proxy.events import Completed
from proxy.testing.runs import all_of, ended, new_run, seqs, word
from proxy.testing.threads import new_thread
from tests.store.databases import Database, slow
from tests.store.test_postgres_faults import opened


@contextmanager
def brief(monkeypatch: pytest.MonkeyPatch, name: str, seconds: float) -> Iterator[None]:
    """A time of the writer's is as short as this."""
    with monkeypatch.context() as patched:
        patched.setattr(f"proxy.store.sql.writer.{name}", seconds)
        yield


def test_a_group_that_is_too_slow_is_given_up_and_not_tried_again(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act() -> None:
        async with opened(postgres) as store:
            with brief(monkeypatch, "LIMIT", 0.2), slow(postgres.url, "threads", 1.0), pytest.raises(Unavailable):
                await store.insert_thread(new_thread())
            assert postgres.ask("SELECT count(*) FROM threads") == [(0,)]
            await store.insert_thread(new_thread())

    asyncio.run(act())


def test_of_a_slow_group_what_was_done_counts_and_the_rest_is_told_to_come_back(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act() -> None:
        async with opened(postgres) as store:
            log = store.begin(new_run(), inserted=False)
            log.append(word("0"))
            with brief(monkeypatch, "ENOUGH", 0.0), slow(postgres.url, "threads", 0.01):
                writes = [store.insert_thread(new_thread()) for _ in range(4)]
                outcomes = await asyncio.gather(
                    *writes, log.settle(Completed(), ended(log.run)), return_exceptions=True
                )
            assert [isinstance(outcome, Unavailable) for outcome in outcomes] == [False, True, True, True, False]
            assert {outcome.retry_after for outcome in outcomes if isinstance(outcome, Unavailable)} == {1}
            assert postgres.ask("SELECT count(*) FROM threads") == [(1,)]
            assert seqs(await all_of(store, log.run_id)) == [1, 2]
            await store.ping()
            await store.insert_thread(new_thread())

    asyncio.run(act())

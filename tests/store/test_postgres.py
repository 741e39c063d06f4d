"""`postgresql://` keeps the promises of every store, and those that hold between processes."""

from __future__ import annotations

import asyncio

import pytest

from proxy.model import RunStatus
from proxy.testing import STORE_PROMISES, check_store
from proxy.testing.runs import Promise, new_run, settled
from proxy.testing.sharing import SHARED_PROMISES, SharedPromise, check_sharing
from tests.store.databases import Database
from tests.store.test_postgres_faults import opened

WATCH = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'written again'; END $$;
CREATE TRIGGER watch BEFORE UPDATE OF input ON runs FOR EACH STATEMENT EXECUTE FUNCTION refuse()
"""
UNWATCH = "DROP TRIGGER watch ON runs; DROP FUNCTION refuse"


@pytest.mark.parametrize("promise", STORE_PROMISES, ids=lambda promise: promise.__name__)
def test_postgres_keeps_the_promise(promise: Promise, postgres: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.store.logs.livelogs.GRACE", 0.05)
    asyncio.run(check_store(postgres.store, [promise]))


@pytest.mark.parametrize("promise", SHARED_PROMISES, ids=lambda promise: promise.__name__)
def test_processes_that_share_postgres_are_kept_the_promise(promise: SharedPromise, postgres: Database) -> None:
    asyncio.run(check_sharing(lambda: (postgres.store(), postgres.store()), [promise]))


def test_the_end_of_a_run_does_not_write_its_input_again(postgres: Database) -> None:
    """It may be as large as a conversation."""

    async def act() -> None:
        async with opened(postgres) as store:
            run = await store.insert(new_run())
            postgres.ask(WATCH)
            try:
                await settled(store, run)
            finally:
                postgres.ask(UNWATCH)
            known = await store.get("default", run.run_id)
            assert known is not None
            assert (known.status, known.input) == (RunStatus.SUCCESS, run.input)

    asyncio.run(act())

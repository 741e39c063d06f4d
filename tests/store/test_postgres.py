"""`postgresql://` keeps the promises of every store, and those that hold between processes."""

from __future__ import annotations

import asyncio

import pytest

from proxy.testing import STORE_PROMISES, check_store
from proxy.testing.runs import Promise
from proxy.testing.sharing import SHARED_PROMISES, SharedPromise, check_sharing
from tests.store.databases import Database


@pytest.mark.parametrize("promise", STORE_PROMISES, ids=lambda promise: promise.__name__)
def test_postgres_keeps_the_promise(promise: Promise, postgres: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.store.logs.livelogs.GRACE", 0.05)
    asyncio.run(check_store(postgres.store, [promise]))


@pytest.mark.parametrize("promise", SHARED_PROMISES, ids=lambda promise: promise.__name__)
def test_processes_that_share_postgres_are_kept_the_promise(promise: SharedPromise, postgres: Database) -> None:
    asyncio.run(check_sharing(lambda: (postgres.store(), postgres.store()), [promise]))

"""`postgresql://` keeps the promises of every store."""

from __future__ import annotations

import asyncio

import pytest

from proxy.testing import STORE_PROMISES, check_store
from proxy.testing.runs import Promise
from tests.store.databases import Database


@pytest.mark.parametrize("promise", STORE_PROMISES, ids=lambda promise: promise.__name__)
def test_postgres_keeps_the_promise(promise: Promise, postgres: Database) -> None:
    asyncio.run(check_store(postgres.store, [promise]))

"""The contract of stores in executable form: any backend, ours or yours, can be held against it.

    @pytest.mark.parametrize("promise", STORE_PROMISES, ids=lambda promise: promise.__name__)
    def test_my_store_keeps_its_promises(promise):
        asyncio.run(check_store(make, [promise]))

Needs no test framework. The promises are the functions in `logs`, `records`, `threads` and so on, their docstrings
the text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from proxy.store.base import Store
from proxy.testing import (
    admission,
    assistants,
    claims,
    crons,
    limits,
    logs,
    records,
    sessions,
    states,
    threads,
    webhooks,
    workflow_events,
    workflows,
)
from proxy.testing.runs import Promise

STORE_PROMISES: tuple[Promise, ...] = (
    *logs.PROMISES,
    *records.PROMISES,
    *admission.PROMISES,
    *claims.PROMISES,
    *limits.PROMISES,
    *threads.PROMISES,
    *assistants.PROMISES,
    *crons.PROMISES,
    *webhooks.PROMISES,
    *states.PROMISES,
    *workflows.PROMISES,
    *workflow_events.PROMISES,
    *sessions.PROMISES,
)
LIMIT = 30.0
"""Seconds that one promise may take."""


class BrokenPromise(AssertionError):
    """A promise that a store does not keep."""


async def check_store(make: Callable[[], Store], promises: Iterable[Promise] = STORE_PROMISES) -> None:
    """Hold a store against the promises; raises `BrokenPromise` for the first that does not hold.

    `make` builds a new, empty store that is not open yet; each promise gets one of its own. Takes a few seconds.
    """
    for promise in promises:
        store = make()
        await store.open()
        try:
            async with asyncio.timeout(LIMIT):
                await promise(store)
        except (AssertionError, TimeoutError) as error:
            raise BrokenPromise(f"{promise.__name__}: {promise.__doc__} {error}") from error
        finally:
            await store.close()

"""Many runs that come in at once: they share a statement, and are counted and refused as if each had come alone."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from proxy.errors import BadRequest, LeaseLost, TooMany
from proxy.model import Run, RunStatus
from proxy.store.claims import Server
from proxy.store.signals import Topic
from proxy.store.statements.inserts import NEAR
from proxy.testing.runs import finished, heard, new_run, until
from tests.store.databases import Database
from tests.store.test_postgres_faults import opened
from tests.store.test_postgres_races import Pair, play

STATEMENTS = "SELECT count(DISTINCT (xmin::text, cmin::text)) FROM runs"
"""How many statements the runs were written by."""


def test_runs_that_come_at_once_are_stored_by_one_statement(postgres: Database) -> None:
    async def act() -> None:
        async with opened(postgres, joins=True) as store:
            fields = [{"tenant": "one"}, {"tenant": "two"}, {"agent": "other"}, {"status": RunStatus.PENDING}] * 3
            runs = [new_run(temporary=True, owner="nobody", **each) for each in fields]
            stored = await asyncio.gather(*(store.insert(run, most=1000 * (run.agent == "other")) for run in runs))
            assert postgres.ask(STATEMENTS) == [(1,)]
            assert [run.run_id for run in stored] == [run.run_id for run in runs]
            assert {(run.status, run.owner) for run in stored} == {("running", store.lease.owner), ("pending", None)}
            assert [await store.get(run.tenant, run.run_id) for run in stored] == stored
            for run in stored:
                await finished(store, run)

    asyncio.run(act())


@pytest.mark.parametrize("most", [NEAR + 20, 30])
def test_the_bound_is_exact_wherever_and_however_many_come_at_once(most: int, postgres: Database) -> None:
    """First far from it, then near to it, and then there is no room for all that come together."""

    async def scene(stores: Pair) -> None:
        for at_once in (10, 200):
            tries = [store.insert(new_run(temporary=True), most=most) for _ in range(at_once) for store in stores]
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} <= {Run, TooMany}
        assert postgres.ask("SELECT count(*) FROM runs") == [(most,)]
        assert (await stores[0].insert(new_run(temporary=True, agent="other"), most=1)).owner == stores[0].lease.owner

    play(postgres, scene)


def test_runs_near_the_bound_share_a_statement_where_there_is_room_for_all(postgres: Database) -> None:
    async def act() -> None:
        async with opened(postgres) as store:
            await asyncio.gather(*(store.insert(new_run(temporary=True), most=10) for _ in range(10)))
            assert postgres.ask(STATEMENTS) == [(1,)]

    asyncio.run(act())


def test_of_runs_that_come_at_once_only_the_one_that_cannot_be_kept_is_refused(postgres: Database) -> None:
    async def act() -> None:
        async with opened(postgres) as store:
            tries = [new_run(temporary=True, group=group) for group in ("a", "b\0", "c")]
            outcomes = await asyncio.gather(*map(store.insert, tries), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [Run, BadRequest, Run]
            assert postgres.ask("SELECT group_id FROM runs ORDER BY run_id") == [("a",), ("c",)]

    asyncio.run(act())


def test_a_process_that_has_lost_its_lease_stores_none_of_them(postgres: Database) -> None:
    async def act() -> None:
        async with opened(postgres, joins=True) as store:
            postgres.ask("DELETE FROM servers")
            tries = [store.insert(new_run(temporary=True)) for _ in range(3)]
            assert Counter(map(type, await asyncio.gather(*tries, return_exceptions=True))) == {LeaseLost: 3}
            assert postgres.ask("SELECT count(*) FROM runs") == [(0,)]
            await store.join(Server(server_id=""))
            assert (await store.insert(new_run(temporary=True))).owner == store.lease.owner

    asyncio.run(act())


def test_others_are_told_of_runs_that_wait_for_them(postgres: Database) -> None:
    async def scene(stores: Pair) -> None:
        here, there = stores
        told = heard(there, Topic.QUEUE)
        await here.insert(new_run(temporary=True))
        waiting = await here.insert(new_run(temporary=True, status=RunStatus.PENDING))
        async with asyncio.timeout(5):
            await until(lambda: bool(told))
        [run] = await there.claim(["trial"], limit=9)
        assert (run.run_id, run.owner) == (waiting.run_id, there.lease.owner)

    play(postgres, scene)

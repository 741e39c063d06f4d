"""What a store promises of crons."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Raw

from proxy.model import Cron, new_id
from proxy.store.base import Store
from proxy.store.native import CronQuery
from proxy.testing.runs import Promise

AT_ONCE = 20


def new_cron(**fields: Any) -> Cron:
    cron = Cron(cron_id=new_id(), assistant_id=new_id(), schedule="0 9 * * *", next_at=100.0, created_at=1.0)
    return msgspec.structs.replace(cron, **fields)


async def found(store: Store, **query: Any) -> list[str]:
    return [cron.cron_id for cron in await store.find_crons(CronQuery(**{"tenant": "default"} | query))]


async def a_cron_comes_back_as_it_was(store: Store) -> None:
    """Every field of a cron is kept."""
    cron = new_cron(
        thread_id=new_id(),
        timezone="Europe/Berlin",
        end_time=1e9 + 0.1,
        payload=Raw('{"input": {"text": "ä\u2028"}, "n": null}'.encode()),
        metadata={"a": "ä\u2028", "deep": [1, {"x": None}]},
        keep=True,
        enabled=False,
        user="u",
        updated_at=2.5,
    )
    plain = new_cron()
    for each in (cron, plain):
        await store.insert_cron(each)
        assert await store.get_cron("default", each.cron_id) == each
    assert await store.find_crons(CronQuery(tenant="default", enabled=False)) == [cron]


async def crons_of_other_tenants_do_not_exist(store: Store) -> None:
    """What belongs to one tenant does not exist for another."""
    cron = new_cron(tenant="a")
    await store.insert_cron(cron)
    assert await store.get_cron("b", cron.cron_id) is None
    assert await found(store, tenant="b") == []
    assert await store.count_crons(CronQuery(tenant="b")) == 0
    assert not await store.delete_cron("b", cron.cron_id)
    stolen = msgspec.structs.replace(cron, tenant="b")
    assert not await store.replace_cron(stolen, was=stolen)
    assert await store.get_cron("a", cron.cron_id) == cron


async def a_cron_changes_only_from_what_it_was(store: Store) -> None:
    """Of many that change a cron from the same state, one succeeds; a state that has passed changes nothing."""
    cron = new_cron(payload=Raw(b'{"input": 1}'))
    await store.insert_cron(cron)
    known = await store.get_cron("default", cron.cron_id)
    assert known is not None, "the cron is gone"
    tries = [msgspec.structs.replace(known, next_at=200.0, metadata={"n": number}) for number in range(AT_ONCE)]
    done = await asyncio.gather(*(store.replace_cron(each, was=known) for each in tries))
    assert done.count(True) == 1
    assert await store.get_cron("default", cron.cron_id) == tries[done.index(True)]
    assert not await store.replace_cron(cron, was=cron)
    assert not await store.replace_cron(other := new_cron(), was=other)


async def a_deleted_cron_is_gone(store: Store) -> None:
    """Deleting says whether there was one, and what is deleted is not due any more."""
    cron = new_cron()
    await store.insert_cron(cron)
    assert await store.delete_cron("default", cron.cron_id)
    assert not await store.delete_cron("default", cron.cron_id)
    assert await store.get_cron("default", cron.cron_id) is None
    assert await store.due_crons(1e12) == []
    assert await store.next_cron() is None


async def crons_are_due_in_their_order(store: Store) -> None:
    """Enabled crons of all tenants are due from their moment on, the most overdue first."""
    assert await store.next_cron() is None
    late = new_cron(next_at=30.0)
    early = new_cron(next_at=10.0, tenant="other")
    exact = new_cron(next_at=50.0)
    off, over, later = new_cron(next_at=5.0, enabled=False), new_cron(next_at=None), new_cron(next_at=50.5)
    for cron in (late, early, exact, off, over, later):
        await store.insert_cron(cron)
    assert await store.next_cron() == 10.0
    assert await store.due_crons(50.0) == [early, late, exact]
    assert await store.due_crons(50.0, limit=2) == [early, late]
    assert await store.due_crons(9.9) == []


async def crons_are_found_by_what_they_hold(store: Store) -> None:
    """`find_crons` and `count_crons` honour every condition."""
    thread = new_id()
    one = new_cron(thread_id=thread, metadata={"team": {"a": 1, "b": [2, 3]}, "x": "y"})
    two = new_cron(enabled=False, metadata={"x": "z"})
    for cron in (one, two):
        await store.insert_cron(cron)
    for query, expected in (
        ({"assistant_ids": frozenset({one.assistant_id, "other"})}, [one]),
        ({"assistant_ids": frozenset()}, []),
        ({"thread_id": thread}, [one]),
        ({"enabled": False}, [two]),
        ({"metadata": {"team": {"b": [3]}}}, [one]),
        ({"metadata": {"x": "z"}, "enabled": True}, []),
        ({"descending": False}, [one, two]),
    ):
        asked = CronQuery(tenant="default", **query)
        assert await store.find_crons(asked) == expected, query
        assert await store.count_crons(msgspec.structs.replace(asked, limit=1, offset=5)) == len(expected), query


async def crons_are_sorted_and_paged(store: Store) -> None:
    """Any order that can be asked for, both ways, a page at a time; those without a value are the least."""
    crons = [
        new_cron(created_at=float(number % 2), end_time=float(number) or None, next_at=9.0 - number)
        for number in range(4)
    ]
    for cron in crons:
        await store.insert_cron(cron)
    ids = [cron.cron_id for cron in crons]
    assert await found(store) == [ids[3], ids[1], ids[2], ids[0]]
    assert await found(store, sort_by="created_at", descending=False) == [ids[0], ids[2], ids[1], ids[3]]
    assert await found(store, sort_by="end_time", descending=False) == ids
    assert await found(store, sort_by="next_run_date", descending=False) == ids[::-1]
    assert await found(store, sort_by="cron_id", limit=2, offset=1) == ids[::-1][1:3]


PROMISES: tuple[Promise, ...] = (
    a_cron_comes_back_as_it_was,
    crons_of_other_tenants_do_not_exist,
    a_cron_changes_only_from_what_it_was,
    a_deleted_cron_is_gone,
    crons_are_due_in_their_order,
    crons_are_found_by_what_they_hold,
    crons_are_sorted_and_paged,
)

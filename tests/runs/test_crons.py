"""Crons on a clock that the test sets: each time makes one run, whatever else happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from proxy.errors import Busy, Draining, NotFound, ProxyError, Unavailable, Unprocessable
from proxy.model import Cron, Thread, new_id
from proxy.runs.crons import AT_ONCE, CronQuery, Crons
from proxy.store.base import Store
from proxy.store.memory.store import MemoryStore
from proxy.store.sql.sqlite import SqliteStore

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR


class Bench:
    """Crons with a clock of their own, and what they fired: (id, the time it was for, counted from noon)."""

    def __init__(self, store: Store | None = None, now: float = NOON) -> None:
        self.store = store or MemoryStore()
        self.now = now
        self.fired: list[tuple[str, float]] = []
        self.faults: dict[str, list[ProxyError]] = {}
        self.arrived = asyncio.Event()
        self.crons = self.another()

    def another(self) -> Crons:
        """As another server on the same store."""
        return Crons(self.store, self.fire, clock=lambda: self.now)

    async def fire(self, cron: Cron) -> None:
        assert cron.next_at is not None
        if faults := self.faults.get(cron.cron_id):
            raise faults.pop(0)
        self.fired.append((cron.cron_id, cron.next_at - NOON))
        self.arrived.set()

    async def add(self, schedule: str = "* * * * *", **fields: Any) -> Cron:
        fields.setdefault("cron_id", new_id())
        return await self.crons.create(Cron(assistant_id="a", schedule=schedule, **fields))

    async def at(self, seconds: float, crons: Crons | None = None) -> None:
        """Go on to so long after noon, and let everything happen that is due by then."""
        self.now = NOON + seconds
        crons = crons or self.crons
        await crons.fire_due()
        await crons.close()

    @property
    def times(self) -> list[float]:
        return [at for _, at in self.fired]


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 30))


async def refused(error: type[ProxyError], act: Coroutine[Any, Any, Any]) -> ProxyError:
    with pytest.raises(error) as refusal:
        await act
    return refusal.value


def test_a_cron_fires_once_at_each_of_its_times() -> None:
    async def scene() -> None:
        bench = Bench()
        made = await bench.add("*/5 * * * *")
        assert (made.created_at, made.next_at) == (NOON, NOON + 5 * MINUTE)
        for seconds in (299.9, 300, 300.1, 599.9, 600.5, 900):
            await bench.at(seconds)
            await bench.at(seconds)
        assert bench.fired == [(made.cron_id, at) for at in (300, 600, 900)]
        assert (await bench.crons.get("default", made.cron_id)).next_at == NOON + 20 * MINUTE

    play(scene())


def test_times_that_were_missed_fire_once_together() -> None:
    async def scene() -> None:
        bench = Bench()
        await bench.add("*/5 * * * *")
        await bench.at(DAY + 1)
        assert bench.times == [300]
        await bench.at(DAY + 300)
        assert bench.times == [300, DAY + 300]

    play(scene())


def test_of_many_servers_on_one_store_one_fires(tmp_path: Path) -> None:
    async def scene() -> None:
        store = SqliteStore(tmp_path / "runs.db")
        await store.open()
        bench = Bench(store)
        servers = [bench.another() for _ in range(5)]
        crons = [await bench.add() for _ in range(10)]
        for minute in (1, 2, 3):
            bench.now = NOON + minute * MINUTE
            await asyncio.gather(*(server.fire_due() for server in servers))
            await asyncio.gather(*(server.close() for server in servers))
        await store.close()
        expected = [(cron.cron_id, minute * MINUTE) for cron in crons for minute in (1, 2, 3)]
        assert sorted(bench.fired) == sorted(expected)

    play(scene())


def test_a_cron_stops_at_its_end() -> None:
    async def scene() -> None:
        bench = Bench()
        made = await bench.add(end_time=NOON + 2 * MINUTE)
        for minute in (1, 2, 3):
            await bench.at(minute * MINUTE)
        assert bench.times == [60, 120]
        assert (await bench.crons.get("default", made.cron_id)).next_at is None

    play(scene())


def test_a_time_that_was_missed_is_not_made_up_for_after_the_end() -> None:
    async def scene() -> None:
        bench = Bench()
        await bench.add(end_time=NOON + 2 * MINUTE)
        await bench.at(HOUR)
        assert bench.times == []
        assert await bench.store.next_cron() is None

    play(scene())


def test_a_cron_follows_the_clocks_of_its_place() -> None:
    async def scene() -> None:
        spring = datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()
        bench = Bench(now=spring)
        made = await bench.add("0 9 * * *", timezone="Europe/Berlin")
        assert made.next_at == spring + 19 * HOUR
        await bench.at(spring - NOON + 19 * HOUR)
        assert (await bench.crons.get("default", made.cron_id)).next_at == spring + 19 * HOUR + DAY

    play(scene())


@pytest.mark.parametrize("fault", [Busy("The thread is busy.", run_id="r"), NotFound("There is no such assistant.")])
def test_a_cron_that_could_not_make_its_run_says_so_and_goes_on(fault: ProxyError) -> None:
    async def scene() -> None:
        bench = Bench()
        bad, good = await bench.add(), await bench.add()
        bench.faults[bad.cron_id] = [fault]
        with capture_logs() as lines:
            await bench.at(60)
            await bench.at(61)
        [line] = lines
        assert (line["cron_id"], line["error"], line["log_level"]) == (bad.cron_id, fault.code, "warning")
        await bench.at(120)
        assert sorted(bench.fired) == sorted([(good.cron_id, 60), (good.cron_id, 120), (bad.cron_id, 120)])

    play(scene())


def test_a_time_that_comes_while_the_server_goes_down_is_made_up_for_by_the_next() -> None:
    async def scene() -> None:
        bench = Bench()
        made = await bench.add("0 * * * *")
        bench.faults[made.cron_id] = [Draining()]
        await bench.at(HOUR)
        assert bench.times == []
        await bench.at(HOUR + 1, bench.another())
        assert bench.times == [HOUR]

    play(scene())


def test_a_disabled_cron_waits_until_it_is_enabled_and_makes_up_for_nothing() -> None:
    async def scene() -> None:
        bench = Bench()
        made = await bench.add("*/5 * * * *", enabled=False)
        assert made.next_at is None
        await bench.at(HOUR)
        on = await bench.crons.change("default", made.cron_id, changing(enabled=True))
        assert on.next_at == NOON + HOUR + 300
        await bench.at(HOUR + 300)
        off = await bench.crons.change("default", made.cron_id, changing(enabled=False))
        assert off.next_at is None
        await bench.at(2 * HOUR)
        assert bench.times == [HOUR + 300]

    play(scene())


def changing(**fields: Any) -> Callable[[Cron], Cron]:
    return lambda cron: msgspec.structs.replace(cron, **fields)


def test_a_change_of_times_is_reckoned_anew_and_any_other_leaves_them() -> None:
    async def scene() -> None:
        bench = Bench()
        made = await bench.add("0 * * * *")
        bench.now += 10
        kept = await bench.crons.change("default", made.cron_id, changing(metadata={"a": 1}))
        assert (kept.next_at, kept.updated_at, kept.created_at) == (made.next_at, NOON + 10, NOON)
        for fields, expected in (
            ({"schedule": "30 * * * *"}, 0.5 * HOUR),
            ({"timezone": "Asia/Kolkata"}, HOUR),
            ({"end_time": NOON + MINUTE}, None),
            ({"end_time": None}, HOUR),
        ):
            changed = await bench.crons.change("default", made.cron_id, changing(**fields))
            assert changed.next_at == (None if expected is None else NOON + expected), fields
        assert changed.metadata == {"a": 1}

    play(scene())


def test_changes_at_once_do_not_undo_each_other_nor_a_move() -> None:
    async def scene() -> None:
        bench = Bench()
        made = await bench.add()
        bench.now = NOON + MINUTE

        def adding(name: str) -> Callable[[Cron], Cron]:
            return lambda cron: msgspec.structs.replace(cron, metadata={**cron.metadata, name: 1})

        names = [f"n{number}" for number in range(20)]
        changes = (bench.crons.change("default", made.cron_id, adding(name)) for name in names)
        await asyncio.gather(*changes, bench.crons.fire_due(), bench.another().fire_due())
        await bench.at(MINUTE)
        known = await bench.crons.get("default", made.cron_id)
        assert known.metadata == dict.fromkeys(names, 1)
        assert known.next_at == NOON + 2 * MINUTE
        assert bench.times == [MINUTE]

    play(scene())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"schedule": "often"}, "schedule"),
        ({"schedule": "0 0 30 2 *"}, "schedule"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"end_time": NOON - 1}, "end_time"),
        ({"end_time": NOON + 59}, "end_time"),
    ],
)
def test_a_cron_that_would_never_fire_is_refused_with_the_field(fields: dict[str, Any], param: str) -> None:
    async def scene() -> None:
        bench = Bench()
        error = await refused(Unprocessable, bench.add(**fields))
        assert error.param == param
        assert f"`{param}`" in error.message
        assert await bench.crons.count(CronQuery(tenant="default")) == 0
        if param != "end_time":
            made = await bench.add()
            assert (await refused(Unprocessable, bench.crons.change("default", made.cron_id, changing(**fields)))).param
            assert await bench.crons.get("default", made.cron_id) == made

    play(scene())


def test_a_cron_needs_its_thread() -> None:
    async def scene() -> None:
        bench = Bench()
        thread = new_id()
        await bench.store.insert_thread(Thread(thread_id=thread, tenant="a"))
        assert thread in (await refused(NotFound, bench.add(thread_id=thread, tenant="b"))).message
        made = await bench.add(thread_id=thread, tenant="a")
        assert await bench.crons.search(CronQuery(tenant="a", thread_id=thread)) == [made]

    play(scene())


def test_crons_of_other_tenants_do_not_exist() -> None:
    async def scene() -> None:
        bench = Bench()
        made = await bench.add(tenant="a")
        for act in (
            bench.crons.get("b", made.cron_id),
            bench.crons.change("b", made.cron_id, changing(enabled=False)),
            bench.crons.delete("b", made.cron_id),
        ):
            assert (await refused(NotFound, act)).message == f"There is no cron `{made.cron_id}`."
        assert await bench.crons.get("a", made.cron_id) == made

    play(scene())


def test_a_deleted_cron_never_fires() -> None:
    async def scene() -> None:
        bench = Bench()
        made = await bench.add()
        await bench.crons.delete("default", made.cron_id)
        await bench.at(HOUR)
        assert bench.times == []
        await refused(NotFound, bench.crons.delete("default", made.cron_id))

    play(scene())


def test_a_timezone_that_is_gone_ends_its_cron_and_no_other() -> None:
    async def scene() -> None:
        bench = Bench()
        good = await bench.add()
        lost = Cron(cron_id=new_id(), assistant_id="a", schedule="* * * * *", timezone="Gone/Away", next_at=NOON + 1)
        await bench.store.insert_cron(lost)
        await bench.at(60)
        assert bench.times == [1, 60]
        assert (await bench.crons.get("default", lost.cron_id)).next_at is None
        assert (await bench.crons.get("default", good.cron_id)).next_at == NOON + 120

    play(scene())


def test_so_many_runs_are_made_at_a_time_and_no_more() -> None:
    async def scene() -> None:
        now = most = 0
        full, go_on = asyncio.Event(), asyncio.Event()

        async def slow(cron: Cron) -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            if now == AT_ONCE:
                full.set()
            await go_on.wait()
            now -= 1

        bench = Bench()
        for _ in range(3 * AT_ONCE):
            await bench.add()
        crons = Crons(bench.store, slow, clock=lambda: NOON + MINUTE)
        firing = asyncio.create_task(crons.fire_due())
        await full.wait()
        go_on.set()
        await firing
        await crons.close()
        assert most == AT_ONCE

    play(scene())


def test_the_scheduler_makes_up_for_the_past_and_wakes_for_what_is_new() -> None:
    async def scene() -> None:
        bench = Bench()
        old = await bench.add("0 * * * *")
        bench.now = NOON + HOUR
        await bench.crons.open()
        await bench.arrived.wait()
        assert bench.fired == [(old.cron_id, HOUR)]
        bench.arrived.clear()
        new = await bench.add("30 * * * *")
        bench.now = NOON + 2 * HOUR
        await bench.crons.change("default", old.cron_id, changing(enabled=False))
        await bench.arrived.wait()
        await bench.crons.close()
        assert bench.fired[1:] == [(new.cron_id, 1.5 * HOUR)]

    play(scene())


def test_the_scheduler_survives_a_store_that_is_away() -> None:
    class Shaky(MemoryStore):
        away = True

        async def due_crons(self, before: float, *, limit: int = 100) -> list[Cron]:
            if self.away:
                self.away = False
                raise Unavailable("The store cannot be read now.")
            return await super().due_crons(before, limit=limit)

    async def scene() -> None:
        bench = Bench(Shaky())
        made = await bench.add()
        bench.now = NOON + MINUTE
        with capture_logs() as lines:
            await bench.crons.open()
            while not lines:
                await asyncio.sleep(0)
        await bench.crons.change("default", made.cron_id, changing(metadata={"a": 1}))
        await bench.arrived.wait()
        await bench.crons.close()
        assert lines[0]["error"] == "unavailable"
        assert bench.times == [MINUTE]

    play(scene())


def test_a_server_that_waits_hears_of_what_another_has_scheduled() -> None:
    async def scene() -> None:
        bench = Bench()
        waiting, other = bench.crons, bench.another()
        await waiting.open()
        for _ in range(20):
            await asyncio.sleep(0)  # it looks, finds nothing, and waits for a minute
        made = await other.create(Cron(cron_id=new_id(), assistant_id="a", schedule="* * * * *"))
        bench.now = NOON + MINUTE
        await other.change("default", made.cron_id, lambda cron: cron)
        await bench.arrived.wait()
        assert bench.fired == [(made.cron_id, MINUTE)]
        await waiting.close()

    play(scene())

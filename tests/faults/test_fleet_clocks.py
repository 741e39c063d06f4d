"""Processes whose own loop stands still, or whose clock is wrong, beside others that are well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.callers import Caller as Chat
from tests.faults.clocks import LIBRARY, clocked, hour
from tests.faults.fleet import LIVE, Fleet, Node, fleet
from tests.faults.fleet_agents import config, opened, traced
from tests.faults.natives import Caller, Event, Stream, one_end
from tests.faults.test_fleet_losses import said, stored
from tests.waiting import eventually

ALL = ["a", "b", "c", "d"]
WALK: dict[str, Any] = {"gates": ["b"], "done": []}
DONE: dict[str, Any] = {"gates": [], "done": []}

LONG = 4.0
"""Seconds of a lease that a busy machine does not lose."""


@pytest.fixture(params=LIVE)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """No process yet; logs go over PostgreSQL alone, or over Redis too."""
    with fleet(tmp_path, config(), live=LIVE[request.param]) as made:
        yield made


def test_p15_a_process_whose_loop_is_blocked_past_its_lease_loses_its_runs_and_shows_nothing_more(
    house: Fleet,
) -> None:
    """Taken over, and awake again: its readers see what the log has, and the process works again."""
    first, second = house.server(), house.server()
    caller, other = Caller(first), Caller(second)
    thread = caller.thread()
    body = {"assistant_id": "walker", "input": WALK, "stream_mode": ["updates"]}
    with caller.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
        assert stream.until('"a"')
        eventually(lambda: traced(house.folder, "b", thread), "the second step")
        chat = Chat(first, "say one\nawait go\nblock loop\nsay two\nwait", model="talker").until("one")
        eventually(lambda: "one" in stored(house, chat.run_id), "the text in the store")
        opened(house.folder, "go")
        eventually(lambda: second.pid in traced(house.folder, "b", thread), "the second step elsewhere")
        opened(house.folder, f"b-{thread}")
        assert other.ended(thread, stream.run) == "success"
        eventually(lambda: other.get(f"/runs/{chat.run_id}").json()["state"] == "error", "the verdict")
        before = other.log(stream.run), other.log(chat.run_id)
        opened(house.folder, "loop")
        events = stream.rest()
    assert updates(events) == ALL
    assert (chat.rest().ending, chat.answer) == ("worker_lost", "one ")
    assert caller.wait(thread, "walker", DONE)["done"] == ALL * 2, "the process works again"
    walk, talk = other.log(stream.run), other.log(chat.run_id)
    assert (walk, talk) == before
    assert (one_end(walk), one_end(talk)) == ("completed", "failed")
    assert said(talk) == "one "
    assert "event loop is blocked" in first.log


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")
@pytest.mark.parametrize("jump", ["+3600", "-3600"])
def test_p14_a_process_whose_clock_is_an_hour_off_takes_no_runs_and_loses_none(tmp_path: Path, jump: str) -> None:
    """Neither as it jumps nor a lease later; who reads at the other process sees all, and what waits has its turn."""
    clock = tmp_path / "clock"
    with fleet(tmp_path, config(runs={"lease": LONG})) as house, ExitStack() as stack:
        right, wrong = house.server(), house.server(env=clocked(clock))
        here, there = Caller(right), Caller(wrong)
        walks = [Walk(house, right, here), Walk(house, wrong, there)]
        readers = [stack.enter_context(walk.read(by)) for walk, by in zip(walks, (there, here), strict=True)]
        before = hour(there)
        clock.write_text(jump)
        eventually(lambda: hour(there) != before, "another hour")
        known = leases(house)
        eventually(lambda: outlasted(leases(house), known, LONG), "a lease")
        assert [owner(house, walk.run) for walk in walks] == [right.pid, wrong.pid]
        behind = [walk.follow_up(by) for walk, by in zip(walks, (there, here), strict=True)]
        for caller in (here, there):
            assert caller.wait(caller.thread(), "walker", DONE)["done"] == ALL
        for walk in walks:
            opened(house.folder, f"b-{walk.thread}")
        seen = [updates(reader.rest()) for reader in readers]
        assert seen == [ALL, ALL]
        for walk, after in zip(walks, behind, strict=True):
            for run in (walk.run, after):
                assert here.ended(walk.thread, run) == "success"
                assert one_end(there.log(run)) == "completed"
            assert here.state(walk.thread)["values"]["done"] == ALL * 2
        assert house.one("SELECT count(*) FROM runs WHERE attempt > 1") == 0
        assert [node.name for node in house.nodes if "the lease was lost" in node.log] == []


class Walk:
    """A graph in its second step at one process."""

    def __init__(self, house: Fleet, node: Node, caller: Caller) -> None:
        self.thread = caller.thread()
        self.run = caller.run(self.thread, "walker", WALK, stream_mode=["updates"])
        eventually(lambda: traced(house.folder, "b", self.thread) == [node.pid], "the second step")

    def read(self, by: Caller) -> AbstractContextManager[Stream]:
        """All that it says, from another process."""
        return by.stream("GET", f"/threads/{self.thread}/runs/{self.run}/stream", last_event_id="-1")

    def follow_up(self, by: Caller) -> str:
        """A run that waits for its end."""
        return by.run(self.thread, "walker", DONE, multitask_strategy="enqueue")


def updates(events: list[Event]) -> list[str]:
    """The steps that a stream tells of."""
    return [next(iter(event.data)) for event in events if event.name == "updates"]


def leases(house: Fleet) -> dict[int, float]:
    """Until when each process has its lease, by the database's clock."""
    return dict(house.all("SELECT pid, lease_until FROM servers"))


def outlasted(now: dict[int, float], before: dict[int, float], seconds: float) -> bool:
    """Each process has renewed its lease for so long."""
    return all(now.get(pid, 0.0) >= until + seconds for pid, until in before.items())


def owner(house: Fleet, run: str) -> int | None:
    """The process that has a run."""
    found: int | None = house.one("SELECT pid FROM servers JOIN runs ON owner = server_id WHERE run_id = %s", run)
    return found

"""Clients that take little or nothing: they cost no memory beyond a bound, harm nobody, and are dropped in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.e2e.callers import Caller, Story, fetch, open_gate
from tests.e2e.house import Server
from tests.waiting import eventually

MEGABYTE = 1_000_000
SMALL = 4096
"""The receive buffer of a client that does not read."""


@contextmanager
def growth(server: Server, most: float) -> Iterator[None]:
    """The server's memory may grow by so many megabytes at most."""
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    yield
    grown = (process.memory_info().rss - before) / MEGABYTE
    assert grown < most, f"{grown:.0f} MB more"


def dropped(server: Server, name: str) -> bool:
    """The request of that id is over."""
    return name in server.log


def test_the_flood_that_one_client_never_reads_stays_on_disk(quick: Server) -> None:
    Caller(quick, "flood 1000").rest()
    with growth(quick, most=30):
        caller = Caller(quick, "flood 40000", model="stays", buffer=SMALL)
        Story(quick, caller.run_id).comes_to("success")
    caller.close()


def fifty_deaf(server: Server) -> None:
    """Fifty clients that never read, up to the moment when the last of them is dropped; others are served meanwhile."""
    name = f"deaf-{time.monotonic()}"
    headers = {"x-request-id": name}
    callers = [Caller(server, "flood 3000", model="stays", buffer=SMALL, headers=headers) for _ in range(50)]
    other = Caller(server, "say Hello").rest()
    assert (other.answer, other.ending) == ("Hello", "stop")
    eventually(lambda: server.log.count(name) == 50, "the end of patience with all")
    for caller in callers:
        Story(server, caller.run_id).comes_to("success")


def test_c05_fifty_clients_that_never_read_are_dropped_and_leave_no_memory_behind(quick: Server) -> None:
    # The allocator needs some rounds until it has what it keeps; logs that stayed would be 165 MB more with each.
    for _ in range(2):
        fifty_deaf(quick)
    with growth(quick, most=130):
        fifty_deaf(quick)


def test_c04_a_client_that_takes_a_byte_at_a_time_is_dropped_and_can_read_the_log(quick: Server) -> None:
    name = f"slow-{time.monotonic()}"
    caller = Caller(quick, "flood 10000\nwait", buffer=SMALL, headers={"x-request-id": name})
    while not dropped(quick, name):
        caller.take(1)
        time.sleep(0.02)
    told = Story(quick, caller.run_id)
    told.ends_cancelled()
    assert len(told.text) == 10_000_000
    last = fetch(quick, f"/runs/{told.run_id}/events?after_seq=10001")[1]
    assert "cancelled" in last


def test_the_run_of_a_client_that_takes_nothing_follows_on_disconnect(quick: Server) -> None:
    name = gate = f"deaf-{time.monotonic()}"
    text = f"flood 8000\ngate {gate}\nsay lo"
    caller = Caller(quick, text, model="stays", buffer=SMALL, headers={"x-request-id": name})
    run_id = caller.run_id
    eventually(lambda: dropped(quick, name), "the end of patience")
    open_gate(quick, gate)
    told = Story(quick, run_id)
    assert told.ends()["state"] == "success"
    assert told.text.endswith("xlo")


def test_a_client_that_is_slow_but_takes_something_is_not_dropped(quick: Server) -> None:
    caller = Caller(quick, "flood 10000", buffer=SMALL)
    taken, began = 0, time.monotonic()
    while time.monotonic() - began < 4:
        piece = caller.take(16_000)
        assert piece
        taken += len(piece)
        time.sleep(0.1)
    caller.rest()
    assert caller.text.endswith("data: [DONE]\n\n")
    assert taken < MEGABYTE

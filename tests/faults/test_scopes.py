"""Agents that hold a task group and a cancel scope open across what they say, as those do that are clients of tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.callers import Caller, Story, fetch
from tests.faults.natives import one_end
from tests.faults.single import Single, served


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Single]:
    """Whatever becomes of a run here, no scope is left in a task that did not enter it."""
    with served(tmp_path) as made:
        yield made
        assert "different task" not in made.server.log
        assert "Traceback" not in made.server.log


def scoped(one: Single, gate: str) -> Caller:
    """A stream that has said its first word, and has had signs of life in the silence after it."""
    return Caller(one.server, gate, model="scoped").until("Hel").until(": ping", 3)


def test_r11_a_scope_across_yields_is_left_where_it_was_entered_when_the_run_ends(one: Single) -> None:
    streams = [scoped(one, f"gate-{number}") for number in range(5)]
    for number in reversed(range(5)):
        (one.server.folder / f"gate-{number}").touch()
    for stream in streams:
        assert (stream.rest().answer, stream.ending) == ("Hello", "stop")
        assert one_end(Story(one.server, stream.run_id).entries) == "completed"


def test_r11_a_scope_across_yields_is_left_where_it_was_entered_when_the_run_is_cancelled(one: Single) -> None:
    """By its id, and by a client that leaves in the middle of a word."""
    cancelled, left = scoped(one, "never"), scoped(one, "never")
    assert fetch(one.server, f"/runs/{cancelled.run_id}/cancel", "POST")[0] == 202
    left.reset()
    assert cancelled.rest().answer == "Hel"
    for stream in (cancelled, left):
        assert Story(one.server, stream.run_id).ends()["state"] == "cancelled"
    closed = (one.server.folder / "closed").read_text().split()
    assert sorted(closed) == sorted([cancelled.run_id, left.run_id])

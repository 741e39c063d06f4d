"""Processes that are lost, or stand still for too long, and what the others make of their runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.callers import Caller as Chat
from tests.faults.fleet import LIVE, Fleet, fleet
from tests.faults.fleet_agents import config, opened, traced
from tests.faults.natives import Caller, one_end, together
from tests.waiting import eventually

WALK: dict[str, Any] = {"gates": ["b"], "done": []}
ALL = ["a", "b", "c", "d"]


@pytest.fixture(params=LIVE)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """No process yet; logs go over PostgreSQL alone, or over Redis too."""
    with fleet(tmp_path, config(), live=LIVE[request.param]) as made:
        yield made


def said(run: list[dict[str, Any]]) -> str:
    """All text of a log."""
    return "".join(entry["event"]["text"] for entry in run if entry["event"]["type"] == "text_delta")


def stored(house: Fleet, run: str) -> str:
    """What the store has of a run's log by now: readers may be a moment ahead of it."""
    return "".join(body.decode() for (body,) in house.all("SELECT body FROM segments WHERE run_id = %s", run))


def numbers(entries: list[dict[str, Any]]) -> list[int]:
    return [entry["seq"] for entry in entries]


def test_p02_a_reader_elsewhere_sees_the_end_of_a_run_whose_worker_was_killed(house: Fleet) -> None:
    """It keeps its connection: what was said, then the failure, and the thread is free."""
    server, worker = house.server(), house.worker()
    caller = Caller(server)
    thread = caller.thread()
    body = {"assistant_id": "remote-talker", "input": {"messages": "say one two\nwait"}, "stream_mode": "messages"}
    with caller.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
        assert stream.until("two")
        eventually(lambda: "two" in stored(house, stream.run), "the text in the store")
        worker.kill()
        assert stream.rest()[-1].name == "error"
    log = caller.log(stream.run)
    assert one_end(log) == "failed"
    assert log[-1]["event"]["code"] == "worker_lost"
    assert said(log) == "one two "
    assert caller.status(thread, stream.run) == "error"
    caller.idle(thread)
    house.worker()
    assert caller.post(f"/threads/{thread}/runs/wait", {**body, "input": {"messages": "say on"}}).status_code == 200


def test_p02_a_chat_stream_ends_in_an_error_and_done_when_its_worker_was_killed(house: Fleet) -> None:
    server, worker = house.server(), house.worker()
    chat = Chat(server, "say one two\nwait", model="remote-talker").until("two")
    worker.kill()
    assert chat.rest().ending == "worker_lost"
    assert chat.answer == "one two "


def test_p02_a_graph_goes_on_elsewhere_in_the_same_log(house: Fleet) -> None:
    """From its last checkpoint: no step that was done is done again, and the reader, still connected, sees it all."""
    server, first = house.server(), house.worker()
    caller = Caller(server)
    thread = caller.thread()
    body = {"assistant_id": "remote-walker", "input": WALK, "stream_mode": ["updates"]}
    with caller.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
        eventually(lambda: traced(house.folder, "b", thread), "the second step")
        assert stream.until('"a"')
        second = house.worker()
        first.kill()
        eventually(lambda: second.pid in traced(house.folder, "b", thread), "the second step elsewhere")
        opened(house.folder, f"b-{thread}")
        events = stream.rest()
    updates = [next(iter(event.data)) for event in events if event.name == "updates"]
    assert updates == ALL
    again = [event.data for event in events if event.name == "metadata"][1:]
    assert [data["attempt"] for data in again] == [2]
    log = caller.log(stream.run)
    assert one_end(log) == "completed"
    starts = [entry for entry in log if entry["event"]["type"] == "run_started"]
    last = starts[1]["event"]["resumes_after"]
    assert numbers(log)[: last + 1] == [*range(1, last + 1), last + 10_001]
    assert [event.id for event in events if event.id] == [
        event.id for event in sorted(events, key=lambda e: int(e.id or 0)) if event.id
    ]
    assert caller.status(thread, stream.run) == "success"
    assert caller.state(thread)["values"]["done"] == ALL
    assert traced(house.folder, "a", thread) == [first.pid]
    assert traced(house.folder, "b", thread) == [first.pid, second.pid]
    assert traced(house.folder, "d", thread) == [second.pid]


def test_p02_the_runs_of_a_lost_server_are_settled_by_another(house: Fleet) -> None:
    """Those that cannot go on fail, those that can go on do, and what waits behind either has its turn."""
    first = house.server()
    caller = Caller(first)
    talks, walks = [caller.thread() for _ in range(3)], [caller.thread() for _ in range(3)]
    talking = [caller.run(thread, "talker", {"messages": "say x\nwait"}) for thread in talks]
    walking = [caller.run(thread, "walker", WALK) for thread in walks]
    behind = [caller.run(thread, "talker", {"messages": "say y"}, multitask_strategy="enqueue") for thread in talks]
    eventually(lambda: len(traced(house.folder, "b")) + len(traced(house.folder, "started")) >= 6, "all six")
    other = Caller(house.server())
    first.kill()
    for thread in walks:
        opened(house.folder, f"b-{thread}")
    for thread, run, after in zip(talks, talking, behind, strict=True):
        assert other.ended(thread, run) == "error"
        assert other.log(run)[-1]["event"]["code"] == "worker_lost"
        assert other.ended(thread, after) == "success"
        other.idle(thread)
    for thread, run in zip(walks, walking, strict=True):
        assert other.ended(thread, run) == "success"
        assert other.state(thread)["values"]["done"] == ALL


def test_p05_a_run_that_is_lost_while_it_is_cancelled_ends_cancelled(tmp_path: Path) -> None:
    with fleet(tmp_path, config()) as house:
        server, worker = house.server(), house.worker()
        caller = Caller(server)
        thread = caller.thread()
        run = caller.run(thread, "remote-talker", {"messages": "say x\ndeaf\nwait"})
        eventually(lambda: traced(house.folder, "started", run), "the start")
        worker.pause()
        assert caller.cancel(thread, run, wait=False) == 202
        worker.kill()
        assert caller.ended(thread, run) == "interrupted"
        assert one_end(caller.log(run)) == "cancelled"


def test_p06_a_run_that_was_acknowledged_is_run_though_its_server_was_killed(tmp_path: Path) -> None:
    """Killed right after the answer: it was stored by then, and others run it or say what became of it."""
    with fleet(tmp_path, config()) as house:
        first, second = house.server(), house.server()
        caller, other = Caller(first), Caller(second)
        thread = caller.thread()
        key = "acknowledged"
        body = {"assistant_id": "remote-talker", "input": {"messages": "say late"}}
        run = caller.made(f"/threads/{thread}/runs", body, idempotency_key=key)["run_id"]
        first.kill()
        assert other.made(f"/threads/{thread}/runs", body, idempotency_key=key)["run_id"] == run
        assert other.status(thread, run) == "pending"
        house.worker()
        assert other.ended(thread, run) == "success"


def test_p11_a_process_that_stood_still_past_its_lease_writes_and_shows_nothing_more(house: Fleet) -> None:
    """Stopped, taken over, and awake again: the log is the other's, and what its own readers see is that log."""
    first = house.server()
    caller = Caller(first)
    thread = caller.thread()
    body = {"assistant_id": "walker", "input": {"gates": ["b", "d"], "done": []}, "stream_mode": ["updates"]}
    with caller.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
        assert stream.until('"a"')
        eventually(lambda: traced(house.folder, "b", thread), "the second step")
        second = house.server()
        first.pause()
        eventually(lambda: second.pid in traced(house.folder, "b", thread), "the second step elsewhere")
        opened(house.folder, f"b-{thread}")
        eventually(lambda: second.pid in traced(house.folder, "d", thread), "the last step elsewhere")
        first.resume()
        assert stream.until('"c"')
        opened(house.folder, f"d-{thread}")
        events = stream.rest()
    other = Caller(second)
    assert other.ended(thread, stream.run) == "success"
    log = other.log(stream.run)
    assert one_end(log) == "completed"
    assert [next(iter(event.data)) for event in events if event.name == "updates"] == ALL
    assert other.state(thread)["values"]["done"] == ALL
    assert caller.wait(thread, "walker", {"gates": [], "done": []})["done"] == ALL * 2, "the process works again"


def test_p11_what_a_stopped_process_had_not_stored_is_never_in_the_log(tmp_path: Path) -> None:
    with fleet(tmp_path, config()) as house:
        first, second = house.server(), house.server()
        chat = Chat(first, "say one\nawait go\nsay two\nwait", model="talker").until("one")
        run = chat.run_id
        first.pause()
        other = Caller(second)
        eventually(lambda: other.get(f"/runs/{run}").json()["state"] == "error", "the verdict")
        opened(house.folder, "go")
        first.resume()
        assert chat.rest().ending == "worker_lost"
        assert "two" not in chat.answer
        log = other.log(run)
        assert one_end(log) == "failed"
        assert "two" not in said(log)


def test_p12_no_run_is_stuck_however_often_processes_are_killed(tmp_path: Path) -> None:
    """Two servers under load, one of them killed and replaced again and again."""
    with fleet(tmp_path, config()) as house:
        stays = house.server()
        caller = Caller(stays)
        acknowledged: list[tuple[str, str]] = []
        for _ in range(3):
            other = house.server()
            at = Caller(other)

            def load(number: int, at: Caller = at) -> tuple[str, str]:
                """Every other one comes as far as `c`."""
                thread = at.thread()
                return thread, at.run(thread, "walker", {"gates": ["c"] if number % 2 else [], "done": []})

            acknowledged += together(load, range(8))
            eventually(lambda pid=other.pid: pid in traced(house.folder, "c"), "a run in its middle")
            other.kill()
        for thread, run in acknowledged:
            opened(house.folder, f"c-{thread}")
            assert caller.ended(thread, run) == "success"
            assert caller.state(thread)["values"]["done"] == ALL
            assert one_end(caller.log(run)) == "completed"
        assert house.one("SELECT count(*) FROM runs WHERE status IN ('pending', 'running')") == 0
        assert house.one("SELECT count(*) FROM runs WHERE attempt > 1") >= 3 * 4


def test_p07_a_drained_process_hands_over_what_can_go_on_elsewhere(tmp_path: Path) -> None:
    """Long before its lease runs out, a graph goes on at another server; its reader is told to come back, and misses
    nothing."""
    with fleet(tmp_path, config(runs={"lease": 3600.0})) as house:
        first, second = house.server(), house.server()
        caller, other = Caller(first), Caller(second)
        thread = caller.thread()
        body = {"assistant_id": "walker", "input": WALK, "stream_mode": ["updates"], "stream_resumable": True}
        with caller.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
            eventually(lambda: traced(house.folder, "b", thread), "the second step")
            assert stream.until('"a"')
            first.process.send_signal(signal.SIGTERM)
            stream.rest()
        assert first.process.wait(30) == 0
        seen = [event.id for event in stream.events if event.id]
        eventually(lambda: second.pid in traced(house.folder, "b", thread), "the second step elsewhere")
        opened(house.folder, f"b-{thread}")
        with other.stream("GET", f"/threads/{thread}/runs/{stream.run}/stream", last_event_id=seen[-1]) as rest:
            more = rest.rest()
        updates = [next(iter(event.data)) for event in (*stream.events, *more) if event.name == "updates"]
        assert updates == ALL
        assert other.ended(thread, stream.run) == "success"

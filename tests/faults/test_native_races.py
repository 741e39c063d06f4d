"""Cancels, ends and deletions that meet at awkward moments: each run has one end, and all are told the same."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tests.faults.natives import ENDED, Caller, one_end, steps, together
from tests.waiting import eventually

AGENTS: dict[str, Any] = {
    "walking": {"n": 0, "log": []},
    "nested": {"n": 0, "log": []},
    "actor": {"messages": "say a b c\npause 0.002\ndrip 20\npause 0.002\nsay d"},
}
MODES = ["values", "updates", "messages-tuple"]
POINTS = 14


def news(state: Any) -> Any:
    """What of a state has to come back after a rollback."""
    return {name: state[name] for name in ("values", "next", "checkpoint", "tasks", "interrupts", "metadata")}


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
@pytest.mark.parametrize("agent", AGENTS)
def test_r01_a_cancel_at_any_point_is_the_only_end(native: Caller, agent: str, action: str) -> None:
    """Cancel after the first, second, third... event: what was accepted never ends otherwise."""

    def cancelled_at(point: int) -> bool:
        thread = native.thread()
        native.wait(thread, agent, AGENTS[agent])
        before = news(native.state(thread))
        body = {"assistant_id": agent, "input": AGENTS[agent], "stream_mode": MODES}
        with native.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
            stream.until("event: ", point)
            status = native.cancel(thread, stream.run, action, wait=bool(point % 2))
            end = one_end(native.log(stream.run))
            stream.rest()
        if status == 404:
            assert end == "completed"
            return False
        assert status == (200 if point % 2 else 202)
        assert end == "cancelled"
        assert native.status(thread, stream.run) == "interrupted"
        record = native.get(f"/threads/{thread}").json()
        if action == "rollback":
            assert native.get(f"/threads/{thread}/runs/{stream.run}").status_code == 404
            assert news(native.state(thread)) == before
            assert record["status"] == "idle"
        elif point > 2:  # before, it may have left no trace yet
            assert record["status"] == "interrupted"
            assert record["error"]["error"] == "UserInterrupt"
        return True

    assert any(together(cancelled_at, range(POINTS)))


def test_r02_ten_cancels_at_once_are_one(native: Caller) -> None:
    thread = native.thread()
    run = native.run(thread, "slow", {"n": 0})
    told = together(lambda number: native.cancel(thread, run, wait=bool(number % 2)), range(10))
    assert set(told) <= {200, 202}
    assert one_end(native.log(run)) == "cancelled"
    assert [native.cancel(thread, run, wait=wait) for wait in (False, True)] == [202, 200]


def test_r02_the_first_of_two_actions_wins(native: Caller) -> None:
    """An interrupt and a rollback at once: the run is gone, or it is kept, and its state agrees."""
    for _ in range(5):
        thread = native.thread()
        run = native.run(thread, "slow", {"n": 0})
        eventually(lambda thread=thread: native.state(thread)["next"] == ["b"], "the first step")
        together(lambda action, thread=thread, run=run: native.cancel(thread, run, action), ["interrupt", "rollback"])
        gone = native.get(f"/threads/{thread}/runs/{run}").status_code == 404
        assert one_end(native.log(run)) == "cancelled"
        assert bool(native.history(thread)) is not gone


@pytest.mark.parametrize("agent", ["walking", "actor"])
def test_r02_a_cancel_that_meets_the_end_is_told_what_came_first(native: Caller, agent: str) -> None:
    def race(number: int) -> None:
        thread = native.thread()
        given = {"n": 0} if agent == "walking" else {"messages": "say a"}
        with native.stream("POST", f"/threads/{thread}/runs/stream", {"assistant_id": agent, "input": given}) as stream:
            stream.until('"d"]' if agent == "walking" else '"a"')
            told = together(lambda _: native.cancel(thread, stream.run, wait=bool(number % 2)), range(3))
        end = one_end(native.log(stream.run))
        assert set(told) <= ({404} if end == "completed" else {200, 202}), (told, end)
        assert native.status(thread, stream.run) == ("success" if end == "completed" else "interrupted")

    together(race, range(8))


@pytest.mark.parametrize("agent", ["walking", "actor"])
def test_r03_a_run_that_is_cancelled_before_its_time_never_starts(native: Caller, agent: str) -> None:
    thread = native.thread()
    given = AGENTS[agent]
    delayed = native.run(thread, agent, given, after_seconds=30)
    blocking = native.run(thread, "slow", {"n": 0})
    queued = native.run(thread, agent, given, multitask_strategy="enqueue")
    for run in (delayed, queued):
        assert native.cancel(thread, run) == 200
    assert native.cancel(thread, blocking) == 200
    assert [native.status(thread, run) for run in (delayed, queued)] == ["interrupted"] * 2
    assert all([entry["event"]["type"] for entry in native.log(run)] == ["cancelled"] for run in (delayed, queued))


def test_u10_after_a_cancel_no_checkpoint_and_no_event_appears(native: Caller) -> None:
    """The node blocks a thread, which nobody can stop, and calls a graph that checkpoints from there."""
    thread = native.thread()
    body = {"assistant_id": "labouring", "input": {"n": 0}, "stream_mode": ["updates", "custom"]}
    with native.stream("POST", f"/threads/{thread}/runs/stream", {**body, "stream_subgraphs": True}) as stream:
        eventually(lambda: steps(native.server, thread).count("slice") > 2, "work in a thread")
        assert native.cancel(thread, stream.run) == 200
        history, seen = native.history(thread), everything(native, thread)
        log = native.log(stream.run)
        eventually(lambda: "rested" in steps(native.server, thread), "the end of the node, whatever we do")
        stream.rest()
    assert native.history(thread) == history
    assert everything(native, thread) == seen
    assert native.log(stream.run) == log
    assert one_end(log) == "cancelled"
    assert history[0]["next"] == ["labour"]
    assert native.wait(thread, "walking", {"n": 0})["log"][-4:] == ["a", "b", "c", "d"]


def everything(native: Caller, thread: str) -> list[Any]:
    """All that stands in the file of checkpoints about a thread, sub-graphs included."""
    with closing(sqlite3.connect(native.server.folder / "runs.checkpoints.db")) as connection:
        where = "FROM {} WHERE thread_id LIKE ? ORDER BY checkpoint_ns, checkpoint_id"
        return [
            connection.execute(f"SELECT * {where.format(table)}", (f"%{thread}",)).fetchall()
            for table in ("checkpoints", "writes")
        ]


def contents(native: Caller, thread: str) -> list[Any]:
    """The same without the order in which it was put there."""
    return [sorted(map(repr, rows)) for rows in everything(native, thread)]


@pytest.mark.parametrize(("agent", "resumes"), [("nested", False), ("deep", True), ("deep", False)])
def test_r08_a_rollback_at_any_moment_restores_all_there_was(native: Caller, agent: str, resumes: bool) -> None:
    """Sub-graphs, open questions and half-made steps included; 50 moments in all."""
    moments = random.Random(8)

    def rolled_back(words: tuple[int, str]) -> None:
        point, durability = words
        thread = native.thread()
        native.wait(thread, agent, {"n": 0, "log": []})
        before, shown, record = contents(native, thread), native.state(thread), native.get(f"/threads/{thread}").json()
        given: dict[str, Any] = {"command": {"resume": "yes"}} if resumes else {"input": {"n": 0, "log": []}}
        body = {"assistant_id": agent, **given, "stream_mode": ["updates", "custom", "checkpoints", "tasks"]}
        body |= {"stream_subgraphs": True, "durability": durability}
        with native.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
            stream.until("event: ", point)
            told = native.cancel(thread, stream.run, "rollback")
            stream.rest()
        if told == 404:
            return
        assert contents(native, thread) == before
        assert native.state(thread) == shown
        after = native.get(f"/threads/{thread}").json()
        for field in ("status", "values", "interrupts"):
            assert after[field] == record[field], field

    points = [(moments.randrange(30), moments.choice(["async", "sync", "exit"])) for _ in range(17)]
    together(rolled_back, points)


def test_r08_what_was_asked_before_a_rollback_can_still_be_answered(native: Caller) -> None:
    thread = native.thread()
    asked = native.wait(thread, "deep", {"n": 0, "log": []})["__interrupt__"]
    run = native.run(thread, "slow", {"n": 0})
    assert native.cancel(thread, run, "rollback") == 200
    body = {"assistant_id": "deep", "command": {"resume": {asked[0]["id"]: "yes"}}}
    with native.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
        stream.until("event: ", 2)
        told = native.cancel(thread, stream.run, "rollback")
    if told == 200:
        answered = native.made(f"/threads/{thread}/runs/wait", body)
        assert "said yes" in answered["log"]


def test_r07_a_thread_deleted_while_its_runs_stream_is_gone_with_all_of_it(native: Caller) -> None:
    for agent in ("slow", "labouring", "actor"):
        thread = native.thread()
        given = {"messages": "say a\nwait"} if agent == "actor" else {"n": 0}
        queued = {"assistant_id": agent, "input": given, "multitask_strategy": "enqueue"}
        with native.stream("POST", f"/threads/{thread}/runs/stream", queued) as stream:
            stream.until("event: ", 2)
            waiting = native.run(thread, agent, given, multitask_strategy="enqueue")
            delayed = native.run(thread, agent, given, after_seconds=60)
            assert native.ask("DELETE", f"/threads/{thread}").status_code == 204
            stream.rest()
        for path in ("", "/state", "/runs", f"/runs/{stream.run}", f"/runs/{waiting}", f"/runs/{delayed}/stream"):
            assert native.get(f"/threads/{thread}{path}").status_code == 404, path
        assert native.get(f"/runs/{stream.run}/events").status_code == 404
        assert everything(native, thread) == [[], []]
        assert orphans(native, thread) == {}
        again = native.thread(thread_id=thread)
        assert native.state(again)["values"] == {}


def orphans(native: Caller, *ids: str) -> dict[str, int]:
    """Rows of the server's database that still name one of these, by table."""
    with closing(sqlite3.connect(native.server.folder / "runs.db")) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for table in tables:
            rows = connection.execute(f'SELECT * FROM "{table}"').fetchall()
            found[table] = sum(any(id in str(cell) for cell in row for id in ids) for row in rows)
    return {table: count for table, count in found.items() if count}


def test_u13_a_cancel_between_call_and_result_leaves_a_thread_that_goes_on(native: Caller) -> None:
    for number, action in enumerate(["interrupt", "rollback", "interrupt"]):
        thread = native.thread()
        native.wait(thread, "tooling", {"messages": [{"role": "user", "content": "hello"}]})
        for _ in range(1 + number // 2):
            run = native.run(thread, "tooling", {"messages": [{"role": "user", "content": "use the tool"}]})
            eventually(lambda thread=thread: "tool" in steps(native.server, thread), "the tool at work")
            assert native.cancel(thread, run, action) == 200
        said = native.wait(thread, "tooling", {"messages": [{"role": "user", "content": "never mind"}]})
        assert said["messages"][-1]["content"].endswith("read"), said


def test_u13_a_call_that_was_cut_off_in_its_making_needs_no_result(native: Caller) -> None:
    """Cancelled with the model's words known, and the checkpoint that they belong to yet to be written."""
    thread = native.thread()
    native.wait(thread, "paired", {"messages": [{"role": "user", "content": "hello"}]})
    given = {"messages": [{"role": "user", "content": "use the tool"}]}
    body = {"assistant_id": "paired", "input": given, "stream_mode": "updates"}
    with native.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
        assert stream.until("hold")
        assert native.cancel(thread, stream.run) == 200
    said = native.wait(thread, "paired", {"messages": [{"role": "user", "content": "never mind"}]})
    assert said["messages"][-1]["content"].endswith("read"), said


def test_r09_who_joins_at_the_very_end_gets_the_end(native: Caller) -> None:
    def joined(number: int) -> None:
        thread = native.thread()
        agent, given = ("walking", {"n": 0}) if number % 2 else ("actor", {"messages": "say a b"})
        with native.stream("POST", f"/threads/{thread}/runs/stream", {"assistant_id": agent, "input": given}) as stream:
            stream.until("event: values", 1 + number % 5)
            path = f"/threads/{thread}/runs/{stream.run}"
            with native.stream("GET", f"{path}/stream", last_event_id="-1") as other:
                whole = other.rest()
            end = native.get(f"{path}/join").json()
            mine = stream.rest()
        assert mine == whole
        assert end == native.get(f"/threads/{thread}").json()["values"]
        assert native.status(thread, stream.run) in ENDED

    for _ in range(3):
        together(joined, range(12))

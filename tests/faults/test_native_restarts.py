"""A server that is killed with runs in all stages, and what the next one makes of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from tests.e2e.house import serving
from tests.faults.natives import Caller, config, one_end, steps, together
from tests.waiting import eventually

WALK = {"assistant_id": "walking", "input": {"n": 0, "log": []}}


@contextmanager
def served(folder: Path) -> Iterator[Caller]:
    with serving(folder, config()) as server:
        yield Caller(server)


def test_r05_after_a_kill_all_runs_end_and_no_thread_is_busy(tmp_path: Path) -> None:
    """Running, queued behind it, delayed, paused, ended: each is what it was, or has an end."""
    with served(tmp_path) as caller:
        busy, late, asked, done, plain = (caller.thread() for _ in range(5))
        key = {"idempotency_key": "before-the-kill"}
        running = caller.made(f"/threads/{busy}/runs", {**WALK, "assistant_id": "slow"}, **key)["run_id"]
        queued = [caller.run(busy, "walking", WALK["input"], multitask_strategy="enqueue") for _ in range(3)]
        delayed = caller.run(late, "walking", WALK["input"], after_seconds=0.5)
        far = caller.run(late, "walking", WALK["input"], after_seconds=3600)
        cancelled = caller.run(late, "walking", WALK["input"], after_seconds=3600)
        assert caller.cancel(late, cancelled) == 200
        question = caller.wait(asked, "asking", {"n": 0, "log": []})["__interrupt__"][0]["id"]
        caller.wait(done, "walking", WALK["input"])
        talking = caller.run(plain, "actor", {"messages": "say a\nwait"})
        dying = [(caller.thread(), action) for action in ("interrupt", "rollback") * 2]
        dead = [(thread, caller.run(thread, "slow", WALK["input"]), action) for thread, action in dying]
        eventually(lambda: steps(caller.server, busy), "the start of the run")
        for thread, run, action in dead:
            assert caller.cancel(thread, run, action, wait=False) == 202
        caller.server.stop(signal.SIGKILL)
    with served(tmp_path) as caller:
        again = caller.made(f"/threads/{busy}/runs", {**WALK, "assistant_id": "slow"}, **key)
        assert again["run_id"] == running
        assert caller.ended(busy, running) == "error"
        assert caller.ended(plain, talking) == "error"
        assert [caller.ended(busy, run) for run in queued] == ["success"] * 3
        assert caller.ended(late, delayed) == "success"
        assert caller.status(late, far) == "pending"
        assert caller.status(late, cancelled) == "interrupted"
        assert steps(caller.server, busy).count("enter") == 2 + 3 * 4
        for run in (running, talking, delayed, cancelled, *queued):
            one_end(caller.log(run))
        with caller.stream("GET", f"/threads/{busy}/runs/{running}/stream", last_event_id="-1") as stream:
            assert stream.rest()[-1].name == "error"
        assert caller.wait(asked, "asking", command={"resume": {question: "yes"}})["log"][1] == "said yes"
        assert caller.cancel(late, far) == 200
        statuses = {thread: caller.get(f"/threads/{thread}").json()["status"] for thread in (busy, late, asked, done)}
        assert set(statuses.values()) == {"idle"}, statuses
        assert caller.get(f"/threads/{plain}").json()["status"] == "error"
        for thread in (busy, late, asked, done, plain):
            agent, given = ("actor", {"messages": "say b"}) if thread == plain else ("walking", WALK["input"])
            assert (
                caller.post(f"/threads/{thread}/runs/wait", {"assistant_id": agent, "input": given}).status_code == 200
            )
        for thread, run, _ in dead:
            assert caller.ended(thread, run) in ("interrupted", "error")
            one_end(caller.log(run))
            assert caller.wait(thread, "walking", WALK["input"])["log"][-4:] == ["a", "b", "c", "d"]
        assert caller.made("/threads/count", {"status": "busy"}) == 0
        caller.well()


def test_r05_what_was_acknowledged_before_a_kill_is_there_once(tmp_path: Path) -> None:
    """Killed under load: every run that was answered exists, and its key gives that run again."""
    acknowledged: dict[str, tuple[str, str]] = {}
    with served(tmp_path) as caller:
        threads = [caller.thread() for _ in range(8)]

        def load(number: int) -> None:
            for turn in range(200):
                key = f"{number}-{turn}"
                with suppress(httpx2.HTTPError):
                    reply = caller.post(f"/threads/{threads[number]}/runs", WALK, idempotency_key=key)
                    if reply.status_code == 200:
                        acknowledged[key] = (threads[number], reply.json()["run_id"])
                        continue
                return

        with ThreadPoolExecutor(8) as pool:
            working = [pool.submit(load, number) for number in range(8)]
            eventually(lambda: len(acknowledged) > 40, "some load")
            caller.server.stop(signal.SIGKILL)
            for one in working:
                one.result()
    with served(tmp_path) as caller:
        known = dict(acknowledged)

        def check(key: str) -> None:
            thread, run = known[key]
            assert caller.made(f"/threads/{thread}/runs", WALK, idempotency_key=key)["run_id"] == run
            assert caller.ended(thread, run) in ("success", "error")

        together(check, list(known)[:40])
        for thread in threads:
            for run in caller.get(f"/threads/{thread}/runs?limit=300").json():
                caller.ended(thread, run["run_id"])
            caller.idle(thread)
            assert len(caller.get(f"/threads/{thread}/runs?limit=300&status=error").json()) <= 1
        assert "crowd" not in steps(caller.server)

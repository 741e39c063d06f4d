"""What stands below several processes goes away in the middle of their work, and comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.faults.fleet import Fleet, fleet
from tests.faults.fleet_agents import config, opened, traced
from tests.faults.natives import Caller, one_end, together
from tests.store.cluster import Cluster, cluster
from tests.store.databases import slow
from tests.store.redis_server import RedisServer, redis_server
from tests.waiting import eventually

ALL = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A PostgreSQL of our own, that may be stopped."""
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def house(postgres: Cluster, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, config(), store=postgres.url) as made:
        yield made


def start(callers: list[Caller], number: int) -> tuple[str, str, str]:
    """Agent, thread and run: some talk, some walk, and all wait in the middle."""
    caller = callers[number % len(callers)]
    thread = caller.thread()
    if number % 2:
        return "walker", thread, caller.run(thread, "walker", {"gates": ["c"], "done": []})
    return "talker", thread, caller.run(thread, "talker", {"messages": f"say x\nawait {thread}\nsay y"})


def test_s04_fifty_runs_go_on_over_a_restart_of_the_database(house: Fleet, postgres: Cluster) -> None:
    """None is lost, none ends falsely, and what is asked for meanwhile is told to come back."""
    first, second = house.server(), house.server()
    callers = [Caller(first), Caller(second)]
    runs = together(lambda number: start(callers, number), range(50))
    eventually(lambda: len(traced(house.folder, "c")) + len(traced(house.folder, "started")) >= 50, "all fifty")
    postgres.stop()
    replies = [caller.post("/threads", {}) for caller in callers]
    assert {reply.status_code for reply in replies} == {503}
    assert all(int(reply.headers["retry-after"]) > 0 for reply in replies)
    for _, thread, _ in runs:
        opened(house.folder, thread)
        opened(house.folder, f"c-{thread}")
    postgres.start()
    eventually(lambda: all(caller.get("/ready").status_code == 200 for caller in callers), "recovery")
    ends: Counter[str] = Counter()
    for agent, thread, run in runs:
        status = callers[0].ended(thread, run)
        end = one_end(callers[1].log(run))
        ends[f"{status} {end}"] += 1
        assert status == "success" or callers[0].log(run)[-1]["event"]["code"] != "internal_error"
        if status == "success" and agent == "walker":
            assert callers[0].state(thread)["values"]["done"] == ALL
        callers[1].idle(thread)
    assert ends["success completed"] >= 25, ends
    assert house.one("SELECT count(*) FROM runs WHERE status IN ('pending', 'running')") == 0
    for caller in callers:
        thread = caller.thread()
        assert caller.wait(thread, "walker", {"gates": [], "done": []})["done"] == ALL


def test_s04_acknowledged_runs_are_there_after_the_database_was_killed(house: Fleet, postgres: Cluster) -> None:
    """Killed under load: whatever was answered exists, and ends."""
    caller = Caller(house.server())
    acknowledged: list[tuple[str, str]] = []
    body = {"assistant_id": "talker", "input": {"messages": "say x"}}

    def load() -> None:
        """Until it is refused."""
        while True:
            reply = caller.post("/threads", {})
            if reply.status_code == 200:
                thread = reply.json()["thread_id"]
                reply = caller.post(f"/threads/{thread}/runs", body)
            if reply.status_code != 200:
                assert reply.status_code == 503, reply.text
                return
            acknowledged.append((thread, reply.json()["run_id"]))

    with ThreadPoolExecutor(8) as pool:
        loading = [pool.submit(load) for _ in range(8)]
        eventually(lambda: len(acknowledged) >= 40, "some load")
        postgres.stop()
        for each in loading:
            each.result()
    postgres.start()
    eventually(lambda: caller.get("/ready").status_code == 200, "recovery")
    for thread, run in acknowledged:
        assert caller.ended(thread, run) in ("success", "error")
        one_end(caller.log(run))


def test_s06_tables_that_others_lock_cost_a_503_and_no_deadlock(house: Fleet) -> None:
    """Requests that read and that write end with a word, and all is well when the lock is gone."""
    caller = Caller(house.server())
    thread = caller.thread()
    with psycopg.connect(house.store) as connection:
        connection.execute("LOCK TABLE runs, threads IN ACCESS EXCLUSIVE MODE")
        requests = [("POST", "/threads", {}), ("GET", f"/threads/{thread}", None)]
        replies = together(lambda number: caller.ask(*requests[number % 2]), range(12))
        assert {reply.status_code for reply in replies} == {503}
        assert all(int(reply.headers["retry-after"]) > 0 for reply in replies)
    eventually(lambda: caller.get("/ready").status_code == 200, "recovery")
    assert caller.wait(thread, "walker", {"gates": [], "done": []})["done"] == ALL


def test_s06_slow_tables_cost_a_503_and_what_was_answered_is_there(house: Fleet) -> None:
    """More is asked for than they can take in time: some of it is done, the rest is told to come back, and a run that
    goes on meanwhile misses nothing."""
    caller = Caller(house.server())
    thread = caller.thread()
    run = caller.run(thread, "talker", {"messages": "say x\nawait slow\ndrip 50"})
    eventually(lambda: traced(house.folder, "started", run), "the run")
    before = house.one("SELECT count(*) FROM threads")
    with slow(house.store, "threads", 3.0):
        opened(house.folder, "slow")
        replies = together(lambda _: caller.post("/threads", {}), range(12))
        statuses = Counter(reply.status_code for reply in replies)
        assert set(statuses) == {200, 503}
        assert all(int(reply.headers["retry-after"]) > 0 for reply in replies if reply.status_code == 503)
    assert house.one("SELECT count(*) FROM threads") == before + statuses[200]
    assert caller.ended(thread, run) == "success"
    said = [entry["event"]["text"] for entry in caller.log(run) if entry["event"]["type"] == "text_delta"]
    assert "".join(said).split() == ["x", *map(str, range(50))]
    assert caller.wait(thread, "walker", {"gates": [], "done": []})["done"] == ALL


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as made:
        yield made


@pytest.mark.parametrize("how", ["flush", "restart"])
def test_s05_redis_may_forget_all_and_no_reader_is_told_a_false_end(
    tail: RedisServer, tmp_path: Path, how: str
) -> None:
    with fleet(tmp_path, config(), live=tail.url) as house:
        here, there = Caller(house.server()), Caller(house.server())
        thread = here.thread()
        run = here.run(thread, "talker", {"messages": "drip 200\nawait go\ndrip 200"}, stream_mode="messages")
        whole = "GET", f"/threads/{thread}/runs/{run}/stream?stream_mode=messages"
        with there.stream(*whole, last_event_id="-1") as stream:
            assert stream.until(' 199 "')
            if how == "flush":
                tail.do("FLUSHALL")
            else:
                tail.kill()
            opened(house.folder, "go")
            if how == "restart":
                assert here.ended(thread, run) == "success", "also without it"
                tail.start()
            events = stream.rest()
        assert there.status(thread, run) == "success"
        log = here.log(run)
        assert one_end(log) == "completed"
        with here.stream(*whole, last_event_id="-1") as again:
            assert events == again.rest()
        assert there.log(run) == log
        after = here.run(thread, "talker", {"messages": "say again"})
        assert there.ended(thread, after) == "success"

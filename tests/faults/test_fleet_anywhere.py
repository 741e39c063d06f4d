"""Any process will do: runs are cancelled, joined, waited for and counted wherever the caller happens to land."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from tests.e2e.callers import Caller as Chat
from tests.e2e.callers import fetch
from tests.faults.fleet import LIVE, Fleet, trio
from tests.faults.fleet_agents import config, opened, traced, walked
from tests.faults.natives import Caller, one_end, together
from tests.waiting import eventually

ALL = ["a", "b", "c", "d"]
TALK = {"assistant_id": "talker", "stream_mode": "messages"}


@pytest.fixture(scope="module", params=LIVE)
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two servers and a worker; logs go over PostgreSQL alone, or over Redis too."""
    with trio(tmp_path_factory.mktemp("anywhere"), config(worker={"concurrent": 8}), LIVE[request.param]) as made:
        yield made


@pytest.fixture
def here(house: Fleet) -> Caller:
    return Caller(house.nodes[0])


@pytest.fixture
def there(house: Fleet) -> Caller:
    return Caller(house.nodes[1])


def silent(house: Fleet, caller: Caller, agent: str = "talker") -> tuple[str, str]:
    """Thread and run of an agent that has said a word and waits."""
    thread = caller.thread()
    body = {**TALK, "assistant_id": agent, "input": {"messages": "say x\nwait"}, "on_disconnect": "continue"}
    with caller.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
        assert stream.until('"x ')
        return thread, stream.run


@pytest.mark.parametrize("agent", ["talker", "remote-talker"])
def test_a_silent_run_is_cancelled_from_another_process(house: Fleet, here: Caller, there: Caller, agent: str) -> None:
    thread, run = silent(house, here, agent)
    assert there.cancel(thread, run) in (200, 202, 204)
    assert there.status(thread, run) == "interrupted"
    eventually(lambda: traced(house.folder, "cancelled", run), "the agent's cancel")


def test_a_cancel_arrives_although_its_signal_is_lost(house: Fleet, here: Caller, there: Caller) -> None:
    """Set in the store, as by a process that was lost before it could say so."""
    thread, run = silent(house, here)
    with psycopg.connect(house.store) as connection:
        connection.execute("UPDATE runs SET cancel = 'interrupt' WHERE run_id = %s", [run])
    assert there.ended(thread, run) == "interrupted"
    eventually(lambda: traced(house.folder, "cancelled", run), "the agent's cancel")


def test_r02_ten_cancels_at_once_from_everywhere_have_one_outcome(house: Fleet, here: Caller, there: Caller) -> None:
    thread, run = silent(house, here)
    told = together(lambda number: (here, there)[number % 2].cancel(thread, run), range(10))
    assert set(told) <= {200, 202}
    assert here.status(thread, run) == there.status(thread, run) == "interrupted"
    assert one_end(there.log(run)) == "cancelled"


def test_a_chat_stream_is_cancelled_from_another_process(house: Fleet) -> None:
    chat = Chat(house.nodes[0], "say x\nwait", model="talker").until("x")
    status, _ = fetch(house.nodes[1], f"/runs/{chat.run_id}/cancel", "POST")
    assert status in (200, 202)
    assert chat.rest().ending == "stop"


def test_a_closed_tab_stops_an_agent_at_a_worker(house: Fleet) -> None:
    chat = Chat(house.nodes[0], "say x\nwait", model="remote-talker").until("x")
    run = chat.run_id
    chat.reset()
    eventually(lambda: traced(house.folder, "cancelled", run), "the agent's cancel")


@pytest.mark.parametrize("agent", ["talker", "remote-talker"])
def test_c13_a_hundred_reconnects_anywhere_make_up_the_log(
    house: Fleet, here: Caller, there: Caller, agent: str
) -> None:
    """Each time to a process and at a place that chance has chosen: nothing is missing, nothing comes twice."""
    chance = random.Random(13)
    thread = here.thread()
    run = here.run(thread, agent, {"messages": "drip 1500"}, stream_mode="messages", stream_resumable=True)
    seen: list[int] = []
    for _ in range(100):
        last = seen[-1] if seen else 0
        where = chance.choice((here, there))
        path = f"/api/runs/{run}/events?after_seq={last}&wait=1&limit={chance.randrange(1, 40)}"
        seen += [int(line.split('"seq":')[1].split(",")[0]) for line in where.get(path).text.splitlines() if line]
    seen += [entry["seq"] for entry in there.log(run) if entry["seq"] > seen[-1]]
    assert seen == [entry["seq"] for entry in here.log(run)]
    assert one_end(here.log(run)) == "completed"
    assert there.log(run) == here.log(run)


def test_c12_readers_everywhere_see_the_same_stream(house: Fleet, here: Caller, there: Caller) -> None:
    thread = here.thread()
    run = here.run(thread, "talker", {"messages": "say a b\nawait all\ndrip 300"}, stream_mode="messages")

    def read(number: int) -> list[Any]:
        caller = (here, there)[number % 2]
        with caller.stream(
            "GET", f"/threads/{thread}/runs/{run}/stream?stream_mode=messages", last_event_id="-1"
        ) as one:
            assert one.until('"a b ')
            if number == 9:
                opened(house.folder, "all")
            return one.rest()

    first, *others = together(read, range(10))
    assert all(other == first for other in others)


def test_a_run_is_waited_for_and_joined_at_another_process(house: Fleet, here: Caller, there: Caller) -> None:
    thread = here.thread()
    run = here.run(thread, "remote-walker", {"gates": ["d"], "done": []})
    eventually(lambda: traced(house.folder, "d", thread), "the last step")
    opened(house.folder, f"d-{thread}")
    assert there.get(f"/threads/{thread}/runs/{run}/join").json()["done"] == ["a", "b", "c", "d"]


def test_r04_fifty_equal_requests_at_two_processes_make_one_run(house: Fleet, here: Caller, there: Caller) -> None:
    thread = here.thread()
    body = {"assistant_id": "talker", "input": {"messages": "say once"}}

    def ask(number: int) -> str:
        caller = (here, there)[number % 2]
        return str(caller.made(f"/threads/{thread}/runs", body, idempotency_key=f"once-{thread}")["run_id"])

    assert len(set(together(ask, range(50)))) == 1
    assert len(here.get(f"/threads/{thread}/runs").json()) == 1


def test_the_bound_of_a_tenant_holds_over_all_processes(house: Fleet, here: Caller, there: Caller) -> None:
    """Ten may be under way: of forty that are asked for at once at two processes, ten are, and the rest is told when to
    come back."""

    def ask(number: int) -> tuple[int, str, str]:
        caller = (here, there)[number % 2]
        thread = caller.thread()
        reply = caller.post(f"/threads/{thread}/runs", {"assistant_id": "few", "input": {"messages": "wait"}})
        if reply.status_code == 429:
            assert int(reply.headers["retry-after"]) > 0
        return reply.status_code, thread, reply.json().get("run_id", "")

    replies = together(ask, range(40))
    assert Counter(status for status, _, _ in replies) == {200: 10, 429: 30}
    for status, thread, run in replies:
        if status == 200:
            assert here.cancel(thread, run) in (200, 202, 204)
    assert ask(1)[0] == 200


@pytest.mark.parametrize("strategy", ["reject", "enqueue", "interrupt", "rollback"])
def test_c15_a_thread_has_one_run_whatever_is_asked_of_two_processes(
    house: Fleet, here: Caller, there: Caller, strategy: str
) -> None:
    """None can end before all were asked for; a node is entered after the one before it, or begins a run."""
    thread = here.thread()

    def ask(number: int) -> int:
        caller = (here, there)[number % 2]
        body = {"assistant_id": "walker", "input": {"gates": ["b"], "done": []}, "multitask_strategy": strategy}
        return caller.post(f"/threads/{thread}/runs", body).status_code

    statuses = Counter(together(ask, range(12)))
    assert statuses == ({200: 1, 409: 11} if strategy == "reject" else {200: 12})
    path = f"/threads/{thread}/runs?limit=100"
    if strategy != "enqueue":  # a run that is told to stop may go on until it has heard so
        open_ones = {"pending", "running"}
        eventually(lambda: sum(run["status"] in open_ones for run in here.get(path).json()) == 1, "one run alone")
    opened(house.folder, f"b-{thread}")
    for run in here.get(path).json():
        there.ended(thread, run["run_id"])
    ends = Counter(run["status"] for run in here.get(path).json())
    done = here.state(thread)["values"]["done"]
    match strategy:
        case "enqueue":
            assert (ends, done) == ({"success": 12}, ALL * 12)
        case "interrupt":
            assert ends == {"success": 1, "interrupted": 11}
            assert (done[-4:], {*done[:-4]} <= {"a"}) == (ALL, True), done
        case _:
            assert (ends, done) == ({"success": 1}, ALL)
    entered = walked(house.folder, thread)
    assert all(step == "a" or ALL.index(step) == ALL.index(last) + 1 for last, step in pairwise(["d", *entered]))
    here.idle(thread)


def test_a_thread_is_not_deleted_from_under_a_run_of_another_process(house: Fleet, here: Caller, there: Caller) -> None:
    thread, run = silent(house, here)
    assert there.ask("DELETE", f"/threads/{thread}").status_code in (200, 204)
    eventually(lambda: traced(house.folder, "cancelled", run), "the agent's cancel")
    assert here.get(f"/threads/{thread}").status_code == 404


def test_a_thread_stream_tells_of_a_run_that_another_process_makes(house: Fleet, here: Caller, there: Caller) -> None:
    thread = here.thread()
    with here.stream("GET", f"/threads/{thread}/stream") as stream:
        there.wait(thread, "walker", {"gates": [], "done": []})
        assert stream.until('"d"')


def test_one_tenant_does_not_keep_another_waiting(house: Fleet) -> None:
    """A worker with little room, and a hundred runs of one tenant before the one of another: it is among the first."""
    a, b = Caller(house.nodes[0]), Caller(house.nodes[1], "b")
    house.nodes[2].pause()
    try:
        threads = [a.thread() for _ in range(100)]
        crowd = [a.run(thread, "remote-talker", {"messages": "drip 20"}) for thread in threads]
        thread = b.thread()
        late = b.run(thread, "remote-talker", {"messages": "say me"})
    finally:
        house.nodes[2].resume()
    assert b.ended(thread, late) == "success"
    assert {a.ended(thread, run) for thread, run in zip(threads, crowd, strict=True)} == {"success"}
    query = "SELECT run_id FROM runs WHERE run_id = ANY(%s) ORDER BY updated_at"
    order = [run for (run,) in house.all(query, [*crowd, late])]
    assert order.index(late) < 40

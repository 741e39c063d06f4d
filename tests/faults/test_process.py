"""The one process that serves is killed, told to end, stood still, starved: group P of the fault catalogue.

What a shutdown owes its streams (P07 to P10) has its own file in `tests/e2e`; what several processes owe each other,
`test_fleet_*.py`.
"""

from __future__ import annotations

import resource
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e import callers
from tests.e2e.callers import Caller, address, dialled
from tests.faults.attacker import KEYS
from tests.faults.clocks import LIBRARY, clocked, hour
from tests.faults.natives import one_end
from tests.faults.single import MEGABYTE, Single, config, limited, served, times
from tests.waiting import eventually

SHORT = "say Hel\npause 0.01\nsay lo"
TURN = {"assistant_id": "actor", "input": {"messages": SHORT}, "multitask_strategy": "enqueue"}
ENDS = {"completed": "success", "failed": "error", "cancelled": "interrupted"}


@pytest.mark.parametrize("turn", range(times(1, 20)))
def test_p01_after_a_kill_in_mid_stream_the_run_has_ended_and_can_be_read_on(tmp_path: Path, turn: int) -> None:
    body = {"assistant_id": "actor", "input": {"messages": f"drip {50 + turn}\nsay lo\nwait"}, "stream_resumable": True}
    with served(tmp_path) as one:
        thread = one.thread()
        with one.stream("POST", f"/threads/{thread}/runs/stream", body | {"stream_mode": ["messages-tuple"]}) as stream:
            assert stream.until('"content":"lo"')
            run, seen = stream.run, stream.events[-1].id
            one.kill()
    with served(tmp_path) as one:
        assert one.ended(thread, run) == "error"
        entries = one.log(run)
        assert one_end(entries) == "failed"
        assert entries[-1]["event"]["code"] == "server_restarted"
        numbers = [entry["seq"] for entry in entries]
        assert numbers[:-1] == [*range(1, len(numbers))]
        with one.stream("GET", f"/threads/{thread}/runs/{run}/stream", last_event_id=seen) as stream:
            assert [event.name for event in stream.rest()] == ["error"]
        assert one.wait(thread, "actor", {"messages": "say again"})["messages"][-1]["content"] == "again"


@dataclass
class Killed:
    """What was going on when a server was killed, and the one after it."""

    threads: list[str]
    acknowledged: dict[str, list[str]] = field(default_factory=dict)
    single: Single = field(init=False)

    def load(self, one: Single, thread: str) -> None:
        """Ask for run after run until nobody answers."""
        with suppress(httpx2.HTTPError):
            while True:
                run = one.say(thread, SHORT, multitask_strategy="enqueue")
                self.acknowledged.setdefault(thread, []).append(run)

    @property
    def count(self) -> int:
        return sum(len(runs) for runs in list(self.acknowledged.values()))


@pytest.fixture(scope="module", params=range(times(1, 20)), ids=lambda turn: f"kill-{turn}")
def killed(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Killed]:
    """Twenty callers asked for runs on a thread each, as fast as they could, when it happened."""
    folder = tmp_path_factory.mktemp("killed")
    with served(folder) as one, ThreadPoolExecutor(20) as pool:
        house = Killed([one.thread() for _ in range(20)])
        working = [pool.submit(house.load, one, thread) for thread in house.threads]
        eventually(lambda: house.count > 60 + 7 * request.param, "some load")
        one.kill()
        for each in working:
            each.result()
    with served(folder) as house.single:
        yield house


def test_p03_no_run_that_was_stored_is_pending_for_ever(killed: Killed) -> None:
    for thread in killed.threads:
        for run in killed.single.runs(thread):
            assert killed.single.ended(thread, run["run_id"]) in ("success", "error")
        killed.single.idle(thread)


def test_p04_a_log_has_one_end_and_the_record_says_the_same(killed: Killed) -> None:
    for thread in killed.threads:
        for run in killed.single.runs(thread):
            status = killed.single.ended(thread, run["run_id"])
            assert ENDS[one_end(killed.single.log(run["run_id"]))] == status


def test_p06_a_run_that_was_acknowledged_exists(killed: Killed) -> None:
    for thread, runs in killed.acknowledged.items():
        assert {*runs} <= {run["run_id"] for run in killed.single.runs(thread)}
    killed.single.well()


@pytest.mark.parametrize("turn", range(times(1, 20)))
def test_p05_a_run_that_is_killed_while_it_is_cancelled_ends_cancelled(tmp_path: Path, turn: int) -> None:
    stubborn = config()["runs"] | {"cancel_grace": 3600.0}
    with served(tmp_path, {"runs": stubborn}) as one:
        dying = [(thread := one.thread(), one.say(thread, "say Hel\nwait\nswallow")) for _ in range(10)]
        eventually(lambda: len([step for _, step, _ in callers.traced(one.server) if step == "started"]) == 10, "all")
        for thread, run in dying:
            assert one.cancel(thread, run, wait=False) == 202
        one.kill()
    with served(tmp_path) as one:
        for thread, run in dying:
            assert one.ended(thread, run) == "interrupted"
            assert one_end(one.log(run)) == "cancelled"
            one.idle(thread)


class Load:
    """Callers that ask again, with the same key, until they are answered: by whichever server is there."""

    def __init__(self) -> None:
        self.url = ""
        self.acknowledged: list[tuple[str, str, str]] = []
        """Thread, key, run."""
        self.over = threading.Event()

    def calling(self, thread: str) -> None:
        with httpx2.Client(headers={"authorization": f"Bearer {KEYS['a']}"}, timeout=30) as http:
            for turn in range(1_000_000):
                key = f"{thread}-{turn}"
                run = self._made(http, thread, key)
                if not run:
                    return
                self.acknowledged.append((thread, key, run))

    def _made(self, http: httpx2.Client, thread: str, key: str) -> str:
        while not self.over.is_set():
            with suppress(httpx2.HTTPError):
                reply = http.post(f"{self.url}/threads/{thread}/runs", json=TURN, headers={"idempotency-key": key})
                if reply.status_code == 200:
                    return str(reply.json()["run_id"])
                assert reply.status_code == 503, reply.text
            self.over.wait(0.05)
        return ""


def test_p12_a_loop_of_restarts_under_load_loses_nothing_and_leaves_no_run_stuck(tmp_path: Path) -> None:
    load = Load()
    with served(tmp_path) as one:
        threads = [one.thread() for _ in range(4)]
        one.server.stop()
    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(load.calling, thread) for thread in threads]
        for turn in range(times(3, 20)):
            with served(tmp_path) as one:
                load.url = one.server.url
                enough = len(load.acknowledged) + 20
                eventually(lambda enough=enough: len(load.acknowledged) > enough, "some load")
                if turn % 2:
                    assert one.server.stop() == 0
                else:
                    one.kill()
        load.over.set()
        for each in working:
            each.result()
    with served(tmp_path) as one:
        for thread in threads:
            for run in one.runs(thread):
                status = one.ended(thread, run["run_id"])
                assert ENDS[one_end(one.log(run["run_id"]))] == status
            one.idle(thread)
        known = {run["run_id"] for thread in threads for run in one.runs(thread)}
        for _, _, run in load.acknowledged:
            assert run in known
        thread, key, run = load.acknowledged[0]
        assert one.made(f"/threads/{thread}/runs", TURN, idempotency_key=key)["run_id"] == run
        one.well()


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")
@pytest.mark.parametrize("jump", ["+3600", "-3600"])
def test_p14_a_clock_that_jumps_an_hour_ends_no_run_and_mixes_up_none(tmp_path: Path, jump: str) -> None:
    clock = tmp_path / "clock"
    with served(tmp_path, env=clocked(clock)) as one:
        thread, gate = one.thread(), "jump"
        first = one.say(thread, f"say Hel\ngate {gate}\nsay lo")
        second = one.say(thread, "say two", multitask_strategy="enqueue")
        stream = Caller(one.server, f"say Hel\ngate {gate}\nsay lo").until("Hel")
        before = hour(one)
        clock.write_text(jump)
        eventually(lambda: hour(one) != before, "another hour")
        third = one.say(thread, "say three", multitask_strategy="enqueue")
        stream.until(": ping", 3)
        callers.open_gate(one.server, gate)
        assert stream.rest().answer == "Hello"
        assert [one.ended(thread, run) for run in (first, second, third)] == ["success"] * 3
        for run in (first, second, third):
            one_end(one.log(run))
        said = [message["content"] for message in one.state(thread)["values"]["messages"] if message["type"] == "ai"]
        assert said == ["Hello", "two", "three"]


def test_p15_a_tool_that_blocks_the_loop_delays_others_and_harms_none(tmp_path: Path) -> None:
    seconds = times(2, 10)
    with served(tmp_path) as one:
        others = [Caller(one.server, "drip 300") for _ in range(5)]
        for other in others:
            other.until("0 ")
        bad = Caller(one.server, str(seconds), model="stuck").rest()
        assert (bad.answer, bad.ending) == ("before after", "stop")
        for other in others:
            assert other.rest().answer == "".join(f"{number} " for number in range(300))
        eventually(lambda: "event loop is blocked" in one.server.log, "a warning")
        assert "single_agents.py" in one.server.log
        one.well()


def test_p16_without_file_descriptors_who_is_there_is_served_and_others_are_when_they_leave(tmp_path: Path) -> None:
    with served(tmp_path) as one:
        streams = [Caller(one.server, "say Hel\nwait").until("Hel") for _ in range(20)]
        busy = Caller(one.server, "say Hel\ngate later\nsay lo").until("Hel")
        with limited(one.server.process.pid, resource.RLIMIT_NOFILE, 256):
            crowd = [dialled(one.server) for _ in range(400)]
            eventually(lambda: one.process.num_fds() >= 250, "the shortage")
            assert any(refused(sock) for sock in crowd)
            streams.pop().reset()
            for sock in crowd:
                sock.close()
            eventually(lambda: answers(one), "the end of the shortage")
            callers.open_gate(one.server, "later")
            assert busy.rest().answer == "Hello"
            thread = one.thread()
            assert one.wait(thread, "walking", {"n": 0})["n"] == 4
        assert "Traceback" not in one.server.log


def refused(sock: socket.socket) -> bool:
    """The server has closed it, or does not answer."""
    sock.settimeout(0.01)
    with suppress(OSError):
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        return not sock.recv(100)
    return True


def answers(one: Single) -> bool:
    with suppress(OSError):
        return callers.fetch(one.server, "/v1/models")[0] == 200
    return False


def test_p17_a_run_that_emits_too_much_fails_by_its_own_limit(tmp_path: Path) -> None:
    with served(tmp_path) as one:
        Caller(one.server, "flood 1000").rest()
        room = one.process.memory_info().vms + 600 * MEGABYTE
        with limited(one.server.process.pid, resource.RLIMIT_AS, room):
            caller = Caller(one.server, f"flood {times(100_000, 1_000_000)}")
            total = 0
            while piece := caller.take(1 << 20):
                total += len(piece)
            told = callers.Story(one.server, caller.run_id).ends()
            assert (told["state"], told["error"]["code"]) == ("error", "run_limit"), told["error"]
            assert total < 300 * MEGABYTE
            one.well()


def test_p08_at_a_shutdown_new_connections_are_refused_and_old_ones_told(tmp_path: Path) -> None:
    with served(tmp_path, {"server": config()["server"] | {"drain": 3600.0}}) as one:
        stream = Caller(one.server, str(tmp_path / "go"), model="held").until("Hel")
        kept = httpx2.Client(base_url=one.server.url)
        assert kept.get("/ready").status_code == 200
        one.server.process.send_signal(signal.SIGTERM)
        eventually(lambda: kept.get("/ready").status_code == 503, "readiness to be false")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address(one.server))
        body: dict[str, Any] = {"assistant_id": "actor", "input": {"messages": "say no"}}
        reply = kept.post("/runs/wait", json=body, headers={"authorization": f"Bearer {KEYS['a']}"})
        assert (reply.status_code, "retry-after" in reply.headers) == (503, True)
        (tmp_path / "go").touch()
        assert stream.rest().answer == "Hello"
        assert one.server.process.wait(30) == 0

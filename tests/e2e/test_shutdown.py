"""The end of the server: streams under way get theirs first; what a killed server left is closed at the next start."""

from __future__ import annotations

import http.client
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.callers import KEY, Caller, Story, address, asked, stories
from tests.e2e.conftest import hasty
from tests.e2e.house import Server, serving
from tests.waiting import eventually

AUTH = {"authorization": f"Bearer {KEY}"}


def config(drain: float) -> dict[str, Any]:
    base = hasty()
    base["server"]["drain"] = drain
    base["dialects"]["chat"]["send_timeout"] = 3600.0
    return base


def readiness(server: Server) -> http.client.HTTPConnection:
    """A connection that is open already, as a load balancer's."""
    probe = http.client.HTTPConnection(*address(server), timeout=30)
    assert status_of(probe) == 200
    return probe


def status_of(probe: http.client.HTTPConnection, method: str = "GET", path: str = "/ready") -> int:
    probe.request(method, path, asked("say Hello", "mark-late") if method == "POST" else None, AUTH)
    response = probe.getresponse()
    response.read()
    return response.status


def refuses(server: Server) -> bool:
    probe = http.client.HTTPConnection(*address(server), timeout=30)
    try:
        probe.connect()
    except ConnectionRefusedError:
        return True
    probe.close()
    return False


def test_p07_p10_sigterm_gives_a_hundred_streams_their_end(tmp_path: Path) -> None:
    with serving(tmp_path, config(drain=3.0)) as server:
        waiting = [Caller(server, "say Hel\nwait") for _ in range(40)]
        swallowing = [Caller(server, "say Hel\nwait\nswallow") for _ in range(20)]
        blocked = [Caller(server, "", model="blocked") for _ in range(10)]
        whole = [Caller(server, "say Hel\nwait", stream=False, runwire={"keepalive": False}) for _ in range(10)]
        ending = [Caller(server, "say Hel\nfile drain\nsay lo") for _ in range(20)]
        deaf = Caller(server, "flood 8000\nwait", buffer=4096)
        for caller in waiting + swallowing + ending:
            caller.until("Hel")
        for caller in blocked:
            caller.until("working")
        eventually(lambda: all(stories(server, caller.mark) for caller in whole), "the start of all")
        probe = readiness(server)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: status_of(probe) == 503, "readiness to be false")
        (tmp_path / "drain").touch()
        assert status_of(probe, "POST", "/v1/chat/completions") == 503
        assert status_of(probe, path="/health") == 200
        assert refuses(server)

        assert {(caller.rest().answer, caller.ending) for caller in ending} == {("Hello", "stop")}
        cut = [(caller.rest().answer, caller.ending) for caller in waiting + swallowing + blocked]
        assert set(cut) == {("Hel", "server_shutting_down"), ("working", "server_shutting_down")}
        for caller in whole:
            error = caller.rest().json["error"]
            assert (caller.response.status, error["code"]) == (503, "server_shutting_down")
            assert "retry-after" in caller.response.headers
        assert server.process.wait(60) == 0
        assert not stories(server, "mark-late")

    with serving(tmp_path, config(drain=1.0)) as server:
        for caller in ending:
            assert Story(server, caller.run_id).ends()["state"] == "success"
        for caller in waiting + swallowing + blocked + whole + [deaf]:
            assert Story(server, caller.run_id).ends()["error"]["code"] == "server_shutting_down"
        assert Story(server, waiting[0].run_id).steps == ["started", "cancelled", "closed"]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "sigint"])
def test_p09_a_second_signal_is_immediate_and_the_next_start_closes_what_it_left(
    tmp_path: Path, sent: signal.Signals
) -> None:
    with serving(tmp_path, config(drain=3600.0)) as server:
        # On threads of their own: such a record is on disk before its run begins.
        callers = [
            Caller(server, text, headers={"x-thread-id": f"t{number}"}).until("Hel")
            for number, text in enumerate(("say Hel\nwait", "say Hel\nwait\nswallow"))
        ]
        probe = readiness(server)
        server.process.send_signal(sent)
        eventually(lambda: status_of(probe) == 503, "readiness to be false")
        assert server.stop(sent) == 0
    with serving(tmp_path, config(drain=3600.0)) as server:
        for caller in callers:
            assert Story(server, caller.run_id).ends()["error"]["code"] == "server_restarted"


def test_a_server_without_work_ends_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, config(drain=3600.0)) as server:
        assert Caller(server, "say Hello").rest().ending == "stop"
        assert server.stop() == 0
        assert '"level": "error"' not in server.log


def test_after_a_kill_unfinished_runs_have_failed_and_their_threads_are_free(tmp_path: Path) -> None:
    thread = {"x-thread-id": "thread-1"}
    with serving(tmp_path, config(drain=1.0)) as server:
        ended = Caller(server, "say Hello", headers=thread).rest()
        callers = [Caller(server, "say Hel\nwait", headers={"x-thread-id": f"thread-{i}"}) for i in range(10)]
        for caller in callers:
            caller.until("Hel")
        assert Caller(server, "say Hello", headers=thread).rest().response.status == 409
        server.process.kill()
        server.process.wait()
    with serving(tmp_path, config(drain=1.0)) as server:
        for caller in callers:
            told = Story(server, caller.run_id)
            record = told.ends()
            assert (record["state"], record["error"]["code"]) == ("error", "server_restarted")
            assert record["error"]["retryable"]
            numbers = [entry["seq"] for entry in told.entries]
            assert numbers == sorted(set(numbers))
            assert numbers[-1] > 10_000, "beyond whatever a reader may have seen"
        before = Story(server, ended.run_id)
        assert (before.ends()["state"], before.text) == ("success", "Hello")
        again = Caller(server, "say Hello", headers=thread).rest()
        assert (again.answer, again.ending) == ("Hello", "stop")

"""A server is told to end while chats about runs of a worker go on."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.callers import Caller as Chat
from tests.e2e.test_shutdown import readiness, status_of
from tests.faults.fleet import LIVE, Node, trio
from tests.faults.fleet_agents import config, opened, traced
from tests.faults.natives import Caller
from tests.waiting import eventually


def told_to_end(node: Node) -> None:
    """It has got its SIGTERM, and does what it does at once."""
    probe = readiness(node)
    node.process.send_signal(signal.SIGTERM)
    eventually(lambda: status_of(probe) == 503, "the drain")


def remote(node: Node, text: str, *, stream: bool = True) -> Chat:
    return Chat(node, text, model="remote-talker", stream=stream)


def lasting(drain: float) -> dict[str, Any]:
    usual = config()
    return usual | {"server": usual["server"] | {"drain": drain}}


@pytest.mark.parametrize("live", LIVE)
def test_p07_a_chat_about_a_run_at_a_worker_ends_whole_though_its_server_is_told_to_end(
    tmp_path: Path, live: str
) -> None:
    with trio(tmp_path, lasting(3600.0), LIVE[live]) as house:
        server = house.nodes[0]
        streamed = remote(server, "say x\nawait go\nsay y").until("x")
        whole = remote(server, "say x\nawait go\nsay y", stream=False)
        eventually(lambda: len(traced(tmp_path, "started")) == 2, "both runs")
        told_to_end(server)
        opened(tmp_path, "go")
        assert (streamed.rest().answer, streamed.ending) == ("x y ", "stop")
        assert whole.rest().json["choices"][0]["message"]["content"] == "x y "
        assert server.process.wait(30) == 0


@pytest.mark.parametrize("live", LIVE)
def test_p07_a_run_at_a_worker_whose_chat_is_cut_by_a_shutdown_is_cancelled(tmp_path: Path, live: str) -> None:
    """As for a client that has left, while one that can come back finds its run going on."""
    with trio(tmp_path, lasting(0.5), LIVE[live]) as house:
        server, other, _ = house.nodes
        caller = Caller(server)
        thread = caller.thread()
        body = {"assistant_id": "remote-talker", "input": {"messages": "say x\nawait go"}, "on_disconnect": "cancel"}
        with caller.stream("POST", f"/threads/{thread}/runs/stream", {**body, "stream_mode": "messages"}) as native:
            assert native.until('"x ')
            streamed = remote(server, "say x\nwait").until("x")
            whole = remote(server, "say x\nwait", stream=False)
            eventually(lambda: len(traced(tmp_path, "started")) == 3, "all runs")
            server.process.send_signal(signal.SIGTERM)
            assert (streamed.rest().answer, streamed.ending) == ("x ", "server_shutting_down")
            assert whole.rest().json["error"]["code"] == "server_shutting_down"
            assert "error" not in {event.name for event in native.rest()}
        assert server.process.wait(30) == 0
        eventually(lambda: len(traced(tmp_path, "cancelled")) == 2, "the cancel of both agents")
        ended = "SELECT count(*) FROM runs WHERE agent = 'remote-talker' AND status = 'cancelled'"
        eventually(lambda: house.one(ended) == 2, "the end of both runs")
        opened(tmp_path, "go")
        assert Caller(other).ended(thread, native.run) == "success"

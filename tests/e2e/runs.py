"""What became of the runs of a server's agents: seen from the agents' own trace, and from the runs API."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx

from tests.e2e.house import Server

AUTH = {"authorization": "Bearer sk-test"}
PATIENCE = 20.0


class Watch:
    """Watches the runs that start from now on."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = frozenset(self._all())

    @property
    def started(self) -> list[str]:
        """The ids of new runs, in the order of their start."""
        return [run for run in self._all() if run not in self._before]

    def next(self) -> str:
        """The id of the first new run, once there is one."""
        deadline = time.monotonic() + PATIENCE
        while not self.started:
            assert time.monotonic() < deadline, "no run has started"
            time.sleep(0.005)
        return self.started[0]

    def _all(self) -> list[str]:
        trace = self._server.folder / "trace"
        lines = trace.read_text().splitlines() if trace.exists() else []
        return [line.split()[0] for line in lines if line.split()[1:2] == ["started"]]


def ending(server: Server, run_id: str) -> dict[str, Any]:
    """The last event of a run, once it has ended."""
    deadline = time.monotonic() + PATIENCE
    last = ""
    with httpx.stream("GET", f"{server.url}/runs/{run_id}/events?wait=1", headers=AUTH, timeout=PATIENCE) as lines:
        for line in lines.iter_lines():
            assert time.monotonic() < deadline, f"the run {run_id} has not ended"
            last = line or last
    return json.loads(last)["event"]


def record(server: Server, run_id: str) -> dict[str, Any]:
    reply = httpx.get(f"{server.url}/runs/{run_id}", headers=AUTH)
    assert reply.status_code == 200, reply.text
    return reply.json()


def assert_cancelled(server: Server, run_id: str) -> None:
    """A run ends by cancel, and its record says so."""
    assert ending(server, run_id)["type"] == "cancelled"
    assert record(server, run_id)["state"] == "cancelled"

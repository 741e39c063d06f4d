"""Cancels, ends, answers and deletions that meet at awkward moments: each run has one end, and all are told the same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.natives import Caller, one_end, together

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
        elif point > 1:  # before, it may have left no trace yet
            assert record["status"] == "interrupted"
            assert record["error"]["error"] == "UserInterrupt"
        return True

    assert any(together(cancelled_at, range(POINTS)))

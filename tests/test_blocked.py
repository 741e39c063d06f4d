from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
import uvloop
from structlog.testing import capture_logs

from proxy.blocked import Watchdog


def watched(act: Callable[[], Any]) -> list[Any]:
    """What is logged while a loop runs `act` under a watchdog."""

    async def go() -> None:
        with Watchdog(0.3):
            await asyncio.sleep(0.05)
            outcome = act()
            if outcome is not None:
                await outcome
            await asyncio.sleep(0.05)

    with capture_logs() as lines:
        uvloop.run(go())
    return list(lines)


def synchronous_tool() -> None:
    time.sleep(0.9)


def test_a_blocked_loop_is_logged_once_with_the_place_and_again_when_it_runs() -> None:
    blocked, again = watched(synchronous_tool)
    assert blocked["log_level"] == again["log_level"] == "warning"
    assert blocked["place"].startswith(__file__)
    assert blocked["place"].endswith("synchronous_tool")
    assert any("watched" in frame or "go" in frame for frame in blocked["frames"])
    assert again["blocked_ms"] >= 500


def test_a_loop_that_waits_is_not_blocked() -> None:
    assert watched(lambda: asyncio.to_thread(time.sleep, 0.5)) == []


def test_the_line_can_be_shown_in_a_terminal() -> None:
    blocked, _ = watched(synchronous_tool)
    render = structlog.dev.ConsoleRenderer(colors=False)
    assert "synchronous_tool" in render(None, "warning", dict(blocked))

"""One process with its SQLite file, as most people run it, made to be hurt; and how often that is done.

With `FAULTS=full` in the environment (`make faults`, `make soak`) each case is tried as often as the catalogue says.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.e2e import callers
from tests.e2e.callers import KEY
from tests.e2e.conftest import hasty
from tests.e2e.house import serving
from tests.faults import natives
from tests.faults.attacker import KEYS

AGENTS = Path(__file__).with_name("single_agents.py")
GRAPHS = natives.GRAPHS
MEGABYTE = 1_000_000
FULL = os.environ.get("FAULTS") == "full"


def times(quick: int, full: int) -> int:
    """How often, or how many: the first in every run of the tests, the second where all of it is asked for."""
    return full if FULL else quick


def config(**changes: Any) -> dict[str, Any]:
    """All agents in a hurry (see `hasty`), two graphs, and those of `single_agents.py`, for one tenant."""
    base = hasty()
    for name in ("walking", "slow"):
        base["agents"][name] = {"adapter": "langgraph", "options": {"graph": f"{GRAPHS}:{name}"}}
    for name in ("census", "count", "stuck", "held", "scoped"):
        base["agents"][name] = {"adapter": "plain", "options": {"function": f"{AGENTS}:{name}"}}
    base["server"] = {"api_keys": [KEY, {"name": "native", "key": KEYS["a"], "tenant": "default"}], "drain": 1.0}
    base["dialects"]["chat"]["send_timeout"] = 60.0
    return base | changes


class Single(natives.Caller):
    """A caller of the runs API, and the process behind it."""

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.server.process.pid)

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(self.process.memory_info().rss)

    @property
    def seconds(self) -> float:
        """CPU time so far."""
        spent = self.process.cpu_times()
        return float(spent.user + spent.system)

    def kill(self) -> None:
        assert self.server.stop(signal.SIGKILL) == -signal.SIGKILL

    def census(self) -> dict[str, int]:
        """What lives in the process while it is asked, which it always is by one request."""
        found = json.loads(callers.Caller(self.server, "", model="census").rest().answer)
        assert isinstance(found, dict)
        return found

    def say(self, thread: str, text: str, **fields: Any) -> str:
        """The id of a new background run of the actor's."""
        return self.run(thread, "actor", {"messages": text}, **fields)

    def runs(self, thread: str) -> list[dict[str, Any]]:
        found = self.get(f"/threads/{thread}/runs?limit=1000").json()
        assert isinstance(found, list)
        return found


@contextmanager
def served(folder: Path, changed: dict[str, Any] | None = None, env: dict[str, str] | None = None) -> Iterator[Single]:
    """A server on the state that lies in this folder."""
    with serving(folder, config(**(changed or {})), env) as server:
        yield Single(server)


@contextmanager
def limited(process: int, what: int, most: int) -> Iterator[None]:
    """Bound what a running process may have (`resource.RLIMIT_...`), until the block ends."""
    soft, hard = resource.prlimit(process, what)
    resource.prlimit(process, what, (most, hard))
    try:
        yield
    finally:
        if psutil.pid_exists(process):
            resource.prlimit(process, what, (soft, hard))


def sound(folder: Path) -> None:
    """No database file in this folder is damaged."""
    for file in folder.glob("*.db"):
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], file.name

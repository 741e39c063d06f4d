"""A server with graphs and plain agents behind the native runs API, and the callers that it has to bear.

caller = Caller(server)
thread = caller.thread()
run = caller.run(thread, "walking", {"n": 0})
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx2

from tests.e2e.callers import PATIENCE
from tests.e2e.house import HERE, Server
from tests.faults.attacker import KEYS

T = TypeVar("T")
R = TypeVar("R")

GRAPHS = Path(__file__).with_name("graphs.py")
UNKNOWN = "01890000-0000-7000-8000-000000000000"
ENDED = frozenset({"success", "error", "timeout", "interrupted"})
FINAL = frozenset({"completed", "failed", "cancelled", "paused"})
NAMES = (
    "walking",
    "slow",
    "nested",
    "asking",
    "deep",
    "labouring",
    "tooling",
    "paired",
    "believing",
    "wondering",
    "telling",
)
UNLIMITED = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
MOUNTS = ("", "/api")


def config(**changes: Any) -> dict[str, Any]:
    """All graphs of `tests/faults/graphs.py` and the plain actor, for three tenants."""
    agents: dict[str, Any] = {
        name: {"adapter": "langgraph", "options": {"graph": f"{GRAPHS}:{name}"}} for name in NAMES
    }
    plain = {"adapter": "plain", "options": {"function": f"{HERE / 'agents.py'}:actor"}}
    agents["actor"] = plain
    agents["few"] = plain | {"limits": {"concurrent": 20}}
    agents["curious"] = {"adapter": "plain", "options": {"function": f"{HERE / 'agents.py'}:curious"}}
    keys = [
        {"name": "a", "key": KEYS["a"], "tenant": "org"},
        {"name": "b", "key": KEYS["b"], "tenant": "b"},
        {"name": "deep", "key": KEYS["deep"], "tenant": "org:1"},
    ]
    base: dict[str, Any] = {
        "store": "sqlite:///runs.db",
        "server": {"api_keys": keys, "limits": {"threads": 2000}},
        "runs": {"cancel_grace": 1.0},
        "dialects": {"langgraph": {"keepalive": 1.0}, "deerflow": {"keepalive": 1.0}},
        "agents": agents,
    }
    return base | changes


class Event(NamedTuple):
    """One event of a stream."""

    name: str
    data: Any
    id: str


def events_of(text: str) -> list[Event]:
    """A whole stream, read as strictly as a parser may."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            assert fields.keys() <= {"event", "data", "id"}, block
            found.append(Event(fields["event"], json.loads(fields["data"]), fields.get("id", "")))
    return found


class Caller:
    """Talks to one server with one tenant's key, one request at a time."""

    def __init__(self, server: Server, tenant: str = "a") -> None:
        self.server = server
        self.tenant = tenant
        self.http = httpx2.Client(
            base_url=server.url, headers={"authorization": f"Bearer {KEYS[tenant]}"}, timeout=PATIENCE, limits=UNLIMITED
        )

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Keyword arguments are headers: `last_event_id="7"`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, bytes):
            return self.http.request(method, path, content=body, headers=given)
        return self.http.request(method, path, **({} if body is None else {"json": body}), headers=given)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        return self.ask("POST", path, {} if body is None else body, **headers)

    def made(self, path: str, body: Any = None, **headers: str) -> Any:
        """The JSON of an answer to a POST that succeeds."""
        reply = self.post(path, body, **headers)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def thread(self, **fields: Any) -> str:
        name = self.made("/threads", fields)["thread_id"]
        assert isinstance(name, str)
        return name

    def run(self, thread: str, agent: str, input: Any = None, **fields: Any) -> str:
        """The id of a new run in the background."""
        body = {"assistant_id": agent, "input": input, **fields}
        name = self.made(f"/threads/{thread}/runs", body)["run_id"]
        assert isinstance(name, str)
        return name

    def wait(self, thread: str, agent: str, input: Any = None, **fields: Any) -> Any:
        """What a new run leaves."""
        return self.made(f"/threads/{thread}/runs/wait", {"assistant_id": agent, "input": input, **fields})

    def record(self, thread: str, run: str) -> dict[str, Any]:
        reply = self.get(f"/api/threads/{thread}/runs/{run}")
        assert reply.status_code == 200, reply.text
        found = reply.json()
        assert isinstance(found, dict)
        return found

    def status(self, thread: str, run: str) -> str:
        return str(self.record(thread, run)["status"])

    def ended(self, thread: str, run: str) -> str:
        """The status of a run, once it has ended."""
        self.get(f"/api/runs/{run}/events?wait=1&types=completed")
        found = self.status(thread, run)
        assert found in ENDED
        return found

    def log(self, run: str) -> list[dict[str, Any]]:
        """The entries of a run that has ended, or is about to."""
        reply = self.get(f"/api/runs/{run}/events?wait=1")
        assert reply.status_code == 200, reply.text
        return [json.loads(line) for line in reply.text.splitlines() if line]

    def state(self, thread: str) -> Any:
        return self.get(f"/threads/{thread}/state").json()

    def history(self, thread: str) -> list[Any]:
        found = self.made(f"/threads/{thread}/history", {"limit": 1000})
        assert isinstance(found, list)
        return found

    @contextmanager
    def stream(self, method: str, path: str, body: Any = None, **headers: str) -> Iterator[Stream]:
        """A stream that is read as it comes."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        with self.http.stream(method, path, json=body, headers=given) as reply:
            if reply.status_code != 200:
                raise AssertionError(f"{reply.status_code} {reply.read()!r}")
            yield Stream(reply)

    def cancel(self, thread: str, run: str, action: str = "interrupt", *, wait: bool = True) -> int:
        return self.post(f"/threads/{thread}/runs/{run}/cancel?action={action}&wait={int(wait)}").status_code

    def idle(self, thread: str) -> None:
        """The thread is not busy, now that all its runs have ended."""
        assert self.get(f"/threads/{thread}").json()["status"] != "busy"

    def well(self) -> None:
        """The server does its work, and has had no accident so far."""
        thread = self.thread()
        assert self.wait(thread, "walking", {"n": 0})["n"] == 4
        accidents = [line for line in self.server.log.splitlines() if "Traceback" in line]
        strange = [line for line in accidents if '"agent failed"' not in line]
        assert not strange, strange[0]


def one_end(entries: list[dict[str, Any]]) -> str:
    """The final event of a whole log: there is one, and nothing behind it."""
    types = [entry["event"]["type"] for entry in entries]
    assert [kind for kind in types if kind in FINAL] == types[-1:], types
    assert [entry["seq"] for entry in entries] == sorted({entry["seq"] for entry in entries})
    return str(types[-1])


def steps(server: Server, thread: str = "") -> list[str]:
    """What the graphs wrote down of a thread, or of all."""
    file = server.folder / "steps"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [what for what, key, *_ in lines if key.endswith(thread)]


class Stream:
    """A stream that is read as far as is asked for."""

    def __init__(self, reply: httpx2.Response) -> None:
        self.reply = reply
        self.text = ""
        self._pieces = reply.iter_text()

    @property
    def run(self) -> str:
        return self.reply.headers["x-run-id"]

    @property
    def events(self) -> list[Event]:
        """As far as they are whole."""
        whole, _, _ = self.text.replace("\r\n", "\n").rpartition("\n\n")
        return events_of(whole)

    def until(self, word: str, times: int = 1) -> bool:
        """Read until it was said so often; False if the stream ended before."""
        while self.text.count(word) < times:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self.text += piece
        return True

    def rest(self) -> list[Event]:
        """Read to the end."""
        for piece in self._pieces:
            self.text += piece
        return events_of(self.text)


def together(act: Callable[[T], R], many: Iterable[T]) -> list[R]:
    """Do it to all at once, each in a thread of its own."""
    items = list(many)
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(act, items))

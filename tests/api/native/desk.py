"""A client of one mount's threads, for tests."""

from __future__ import annotations

from typing import Any

from proxy.api.native.mounts import mounts
from proxy.settings import Agent, Dialects
from tests.api.scripted import SCRIPT, House

GRAPHS = "tests.adapters.native_graphs"
AGENTS = {
    "script": SCRIPT,
    "count": Agent(adapter="langgraph", options={"graph": f"{GRAPHS}:halts"}),
    "review": Agent(adapter="langgraph", options={"graph": f"{GRAPHS}:asks"}),
}
PREFIXES = [mount.prefix for mount in mounts(Dialects())]
EMPTY = {
    "values": {},
    "next": [],
    "tasks": [],
    "metadata": None,
    "created_at": None,
    "checkpoint": None,
    "parent_checkpoint": None,
    "interrupts": [],
    "checkpoint_id": None,
    "parent_checkpoint_id": None,
}
HI = {"messages": [{"role": "user", "content": "hi"}]}
ONE = {"n": 1, "log": ["one"]}


class Desk:
    """Talks to one mount."""

    def __init__(self, house: House, prefix: str = "") -> None:
        self.http = house.http
        self.prefix = prefix

    async def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        reply = await self.http.request(method, f"{self.prefix}/threads{path}", **options)
        assert reply.status_code == status, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    async def post(self, path: str = "", status: int = 200, **body: Any) -> Any:
        return await self.ask("POST", path, status, json=body)

    async def refused(self, status: int, method: str, path: str, **options: Any) -> str:
        """What the error says, which has the one form of this API."""
        reply = await self.ask(method, path, status, **options)
        assert list(reply) == ["detail"]
        said: str = reply["detail"]
        return said

    async def made(self, agent: str = "count", **fields: Any) -> str:
        """The path of a new thread."""
        thread = await self.post(metadata={"graph_id": agent}, **fields)
        return f"/{thread['thread_id']}"

    async def page(self, **body: Any) -> tuple[list[Any], str, str | None]:
        reply = await self.http.post(f"{self.prefix}/threads/search", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json(), reply.headers["x-pagination-total"], reply.headers.get("x-pagination-next")

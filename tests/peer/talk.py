"""A scripted talk with a server, and what it answered, in a form that two servers can be compared by."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.peer.house import Place

HEADERS = ("content-type", "content-location", "location", "x-pagination-total", "x-pagination-next", "cache-control")
PATIENCE = 60.0
NORMAL = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00"), "<time>"),
    (re.compile(r"@[0-9a-f]{12}\b"), "@gate"),
    (re.compile(r"\b\d{13}-\d+(\.\d+)?"), "<event>"),
)
TEXTS = ("detail", "message")
"""Keys whose value is prose: each server has its own."""
NUMBERS = ("timestamp", "__request_start_time_ms__")


def normal(value: Any, key: str = "") -> Any:
    """The value without what differs from run to run, and with prose and clocks as their kind only."""
    if isinstance(value, dict):
        return {normal(name): normal(each, name) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [normal(each, key) for each in value]
    if isinstance(value, str):
        for pattern, name in NORMAL:
            value = pattern.sub(name, value)
        return "<text>" if key in TEXTS else value
    return "<number>" if key in NUMBERS and isinstance(value, int | float) else value


@dataclass
class Event:
    """One event of a stream."""

    name: str
    data: Any
    id: str = ""


@dataclass
class Talk:
    """One scenario on one server. Each request is noted under its label; `note` adds what else was seen."""

    place: Place
    http: httpx2.AsyncClient
    seen: dict[str, Any] = field(default_factory=dict)

    def note(self, label: str, value: Any) -> None:
        assert label not in self.seen, f"twice: {label}"
        self.seen[label] = normal(value)

    async def ask(self, label: str, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """One request with its answer read to the end: the body, parsed where it is JSON. No label, no note."""
        given = {"json": body} if body is not None else {}
        answer = await self.http.request(method, path, **given, **more)
        parsed = _parsed(answer)
        if label:
            self.note(label, {"status": answer.status_code, "headers": _headers(answer), "body": parsed})
        return parsed

    async def stream(
        self, label: str, path: str, body: Any = None, *, method: str = "POST", **more: Any
    ) -> list[Event]:
        """All events of a stream."""
        async with self.open(label, path, body, method=method, **more) as events:
            return [event async for event in events]

    @asynccontextmanager
    async def open(
        self, label: str, path: str, body: Any = None, *, method: str = "POST", **more: Any
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """A stream to read from; what was read until the block ends is noted."""
        given = {"json": body} if body is not None else {}
        events: list[Event] = []
        async with self.http.stream(method, path, **given, **more) as answer:
            yield _events(answer, events)
        told = [{"event": event.name, "data": event.data, "id": bool(event.id)} for event in events]
        if label:
            self.note(label, {"status": answer.status_code, "headers": _headers(answer), "events": told})

    async def thread(self, **fields: Any) -> str:
        return str((await self.ask("", "POST", "/threads", fields))["thread_id"])

    async def run(self, thread: str, graph: str, **fields: Any) -> str:
        """A run in the background: its id."""
        run = await self.ask("", "POST", f"/threads/{thread}/runs", {"assistant_id": graph, **fields})
        return str(run["run_id"])

    async def ended(self, thread: str, run: str) -> None:
        """Waits until the run is over, whatever its end."""
        await self.ask("", "GET", f"/threads/{thread}/runs/{run}/join")

    async def kept(self, label: str, thread: str, run: str = "") -> None:
        """Notes what is kept of the thread, and of its run."""
        await self.ask(f"{label}: thread", "GET", f"/threads/{thread}")
        await self.ask(f"{label}: state", "GET", f"/threads/{thread}/state")
        if run:
            await self.ask(f"{label}: run", "GET", f"/threads/{thread}/runs/{run}")

    def gate(self) -> Gate:
        return Gate(self.place.gates, uuid.uuid4().hex[:12])


@dataclass(frozen=True)
class Gate:
    """Where a graph waits: see `graphs.py`. Its name is not noted: see `NORMAL`."""

    folder: Path
    name: str

    @property
    def word(self) -> str:
        return f"@{self.name}"

    def open(self) -> None:
        (self.folder / self.name).touch()

    async def once(self, what: str) -> None:
        """Waits until a graph has `reached` the gate, or was `cancelled` there."""
        file = self.folder / f"{self.name}.{what}"
        async with asyncio.timeout(PATIENCE):
            while not file.exists():
                await asyncio.sleep(0.01)


def says(text: str, id: str = "u1") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text, "id": id}]}


def _headers(answer: httpx2.Response) -> dict[str, str]:
    return {name: answer.headers[name] for name in HEADERS if name in answer.headers}


def _parsed(answer: httpx2.Response) -> Any:
    try:
        return json.loads(answer.content)
    except ValueError:
        return answer.text


async def _events(answer: httpx2.Response, into: list[Event]) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and "event" in fields:
            into.append(Event(fields["event"], json.loads(fields.get("data") or "null"), fields.get("id", "")))
            fields = {}
            yield into[-1]

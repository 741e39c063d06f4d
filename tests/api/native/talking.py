"""What the tests of the event protocol do all the time: command a thread, and hear its events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from langgraph_sdk.sse import BytesLineDecoder, SSEDecoder
from websockets.asyncio.client import ClientConnection, connect

from proxy.model import new_id
from tests.api.scripted import House

HI = {"messages": [{"type": "human", "content": "Hi", "id": "h1"}]}
TERMINAL = ("completed", "failed", "interrupted")
Event = dict[str, Any]


class Line:
    """A thread of one mount, over HTTP."""

    def __init__(self, house: House, mount: str = "", thread: str = "") -> None:
        self.house = house
        self.thread = thread or new_id()
        self.path = f"{mount}/threads/{self.thread}"
        self._id = 0

    async def command(self, method: str, status: int = 200, headers: Any = None, **params: Any) -> Event:
        self._id += 1
        body = {"id": self._id, "method": method, "params": params}
        answer = await self.house.http.post(f"{self.path}/commands", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        told: Event = answer.json()
        assert told["id"] == self._id
        return told

    async def start(self, agent: str = "script", input: Any = HI, **params: Any) -> Event:
        return await self.command("run.start", assistant_id=agent, input=input, **params)

    async def refused(self, method: str, **params: Any) -> tuple[str, str]:
        """The code and the text of the error."""
        told = await self.command(method, **params)
        assert told["type"] == "error"
        return told["error"], told["message"]

    @asynccontextmanager
    async def events(self, *channels: str, headers: Any = None, **body: Any) -> AsyncIterator[Ear]:
        body = {"channels": channels or ["lifecycle", "input"], **body}
        stream = self.house.http.stream("POST", f"{self.path}/stream/events", json=body, headers=headers)
        async with stream as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            yield Ear(answer.aiter_bytes())

    async def told(self, *channels: str, runs: int = 1, **body: Any) -> list[Event]:
        """All that is told of so many runs."""
        async with self.events("lifecycle", *channels, **body) as ear:
            return [event for _ in range(runs) for event in await ear.run()]


class Ear:
    """Reads server-sent events, as the official client does."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._lines, self._decoder = BytesLineDecoder(), SSEDecoder()
        self._ready: list[Event] = []

    async def next(self) -> Event | None:
        """The next event; None at the end."""
        while not self._ready:
            if (piece := await anext(self._pieces, None)) is None:
                return None
            parts = [self._decoder.decode(bytes(line)) for line in self._lines.decode(piece)]
            self._ready += [part.data for part in parts if part is not None]
        return self._ready.pop(0)

    async def run(self) -> list[Event]:
        """The events up to the end of a run."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
            if ends(event):
                return events
        raise AssertionError("the stream ended")


def ends(event: Event) -> bool:
    about = event.get("params", {})
    return event.get("method") == "lifecycle" and not about["namespace"] and about["data"]["event"] in TERMINAL


def lives(events: list[Event]) -> list[str]:
    return [event["params"]["data"]["event"] for event in events if event["method"] == "lifecycle"]


def text(events: list[Event]) -> str:
    pieces = (event["params"]["data"].get("delta", {}) for event in events if event["method"] == "messages")
    return "".join(piece.get("text", "") for piece in pieces)


class Talk:
    """A web socket on a thread."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[Event] = []

    async def send(self, sent: Any) -> Event:
        """Send a frame and give its answer; events that come before it are kept."""
        await self.socket.send(sent if isinstance(sent, str | bytes) else json.dumps(sent))
        while True:
            told: Event = json.loads(await self.socket.recv())
            if told["type"] != "event":
                return told
            self.events.append(told)

    async def command(self, id: int, method: str, **params: Any) -> Event:
        told = await self.send({"id": id, "method": method, "params": params})
        assert told["id"] == id
        return told

    async def run(self) -> list[Event]:
        """The events up to the end of a run."""
        while not any(ends(event) for event in self.events):
            self.events.append(json.loads(await self.socket.recv()))
        at = next(number for number, event in enumerate(self.events) if ends(event)) + 1
        found, self.events = self.events[:at], self.events[at:]
        return found


@asynccontextmanager
async def talking(house: House, line: Line, key: str | None = "sk-a", **options: Any) -> AsyncIterator[Talk]:
    url = str(house.http.base_url).replace("http", "ws", 1).rstrip("/")
    headers = {} if key is None else {"x-api-key": key}
    async with connect(f"{url}{line.path}/stream/events", additional_headers=headers, **options) as socket:
        yield Talk(socket)

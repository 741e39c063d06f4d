"""What the tests of the native runs API do all the time: make runs on the script, and read streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx2
from langgraph_sdk.sse import BytesLineDecoder, SSEDecoder

from proxy.events import Event
from proxy.model import new_id
from proxy.testing import ScriptedRun
from tests.api.scripted import House

HI = {"messages": [{"role": "user", "content": "Hi"}]}
MOUNTS = ["", "/api"]


class Heard(NamedTuple):
    """One event of a stream."""

    event: str
    data: Any
    id: str | None


class Made(NamedTuple):
    """A run that was asked for, and where it is. `run` steps it."""

    thread: str
    id: str
    run: ScriptedRun

    @property
    def path(self) -> str:
        return f"/threads/{self.thread}/runs/{self.id}"


class Ear:
    """Reads a stream of events, as the official client does."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.answer = answer
        self._bytes = answer.aiter_bytes()
        self._lines, self._decoder = BytesLineDecoder(), SSEDecoder()
        self._ready: list[Heard] = []

    async def next(self) -> Heard | None:
        """The next event; None at the end."""
        while not self._ready:
            piece = await anext(self._bytes, None)
            if piece is None:
                return None
            for line in self._lines.decode(piece):
                if (part := self._decoder.decode(bytes(line))) is not None:
                    self._ready.append(Heard(part.event, part.data, part.id))
        return self._ready.pop(0)

    async def rest(self) -> list[Heard]:
        heard = []
        while (event := await self.next()) is not None:
            heard.append(event)
        return heard


@asynccontextmanager
async def hearing(house: House, path: str, at: str | None = None, method: str = "GET") -> AsyncIterator[Ear]:
    """Join a stream; `at` is the id of the last event that the reader has."""
    headers = {} if at is None else {"last-event-id": at}
    async with house.http.stream(method, path, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        yield Ear(answer)


async def heard(house: House, path: str, at: str | None = None, method: str = "GET") -> list[Heard]:
    """All that a stream says to its end."""
    async with hearing(house, path, at, method) as ear:
        return await ear.rest()


async def asked(house: House, thread: str | None = None, mount: str = "", **fields: Any) -> tuple[str, str]:
    """Ask for a run in the background: its thread and its id."""
    thread = thread or new_id()
    body = {"assistant_id": "script", "input": HI, "if_not_exists": "create", **fields}
    answer = await house.http.post(f"{mount}/threads/{thread}/runs", json=body)
    assert answer.status_code == 200, answer.text
    return thread, str(answer.json()["run_id"])


async def made(house: House, thread: str | None = None, mount: str = "", **fields: Any) -> Made:
    """A run that has started."""
    thread, run_id = await asked(house, thread, mount, **fields)
    run = await house.started()
    assert run.given.run_id == run_id
    return Made(thread, run_id, run)


async def ended(house: House, *words: str | Event, mount: str = "", **fields: Any) -> Made:
    """A run that said this and ended; its end is stored."""
    one = await made(house, mount=mount, **fields)
    await one.run.say(*words)
    await one.run.end()
    await house.http.get(f"{one.path}/join")
    return one


def texts(events: list[Heard]) -> list[str]:
    """The pieces of text in a stream."""
    return [event.data[0]["content"] for event in events if event.event == "messages"]

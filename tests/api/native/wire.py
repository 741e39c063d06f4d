"""How the tests of the native routes ask, and read what they get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
from msgspec import Raw

from proxy.events import Interrupt, Paused
from proxy.model import new_id
from tests.api.scripted import House

STARTS: dict[str, Any] = {"assistant_id": "script", "if_not_exists": "create"}
MOUNTS = ("", "/api")
CREATING = ("", "/stream", "/wait")
"""How the routes end that make a run on a thread."""
HI = {"messages": [{"role": "user", "content": "Hi"}]}


def ask(house: House, path: str, **fields: Any) -> asyncio.Task[httpx2.Response]:
    return house.ask(path, **{**STARTS, "input": HI, **fields})


def on(thread_id: str, what: str = "", mount: str = "") -> str:
    """The path of a thread's runs."""
    return f"{mount}/threads/{thread_id}/runs{what}"


def new_thread() -> str:
    return new_id()


def events(body: str) -> list[tuple[str, Any]]:
    """Names and contents of a whole stream's events."""
    found = []
    for block in body.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            found.append((fields["event"], msgspec.json.decode(fields["data"])))
    return found


def names(body: str) -> list[str]:
    return [name for name, _ in events(body)]


async def lines(answer: httpx2.Response) -> AsyncIterator[str]:
    """The lines of a stream as they come, empty ones left out."""
    async for line in answer.aiter_lines():
        if line:
            yield line


def said(values: Any) -> list[str]:
    """The texts of a state's messages."""
    return [message["content"] for message in values["messages"]]


async def paused(house: House, *ids: str) -> str:
    """A thread that waits with questions of these ids."""
    thread = new_thread()
    asked = ask(house, on(thread, "/wait"))
    run = await house.started()
    await run.say("Sure?")
    await run.end(Paused(interrupts=tuple(Interrupt(id=id, value=Raw(b'"ok?"')) for id in ids or ("q",))))
    told = (await asked).json()["__interrupt__"]
    assert [question["id"] for question in told] == list(ids or ("q",))
    return thread

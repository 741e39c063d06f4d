"""How the tests run a graph of `graphs.py` through the adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from adapters.langgraph import LangGraphAdapter
from proxy.adapter import RunInput, Site
from proxy.events import Event, TextDelta
from proxy.messages import Message

GRAPHS = "tests.adapters.graphs"


def user(text: str) -> Message:
    return Message(role="user", content=text)


def run_of(*messages: Message | str, **more: Any) -> RunInput:
    said = tuple(user(message) if isinstance(message, str) else message for message in messages or ("hi",))
    return RunInput(**{"run_id": "r1", "thread_id": "t1", "agent": "a", "messages": said, "temporary": True} | more)


@asynccontextmanager
async def agent(
    graph: str, *, folder: Path | None = None, state: str = "memory://", **options: Any
) -> AsyncIterator[LangGraphAdapter]:
    """The adapter, open, for a graph by its name in `graphs.py`."""
    name = graph if ":" in graph else f"{GRAPHS}:{graph}"
    typed = msgspec.convert({"graph": name, **options}, LangGraphAdapter.Options)
    where = folder or Path(__file__).parents[2]
    adapter = LangGraphAdapter(typed, Site(agent="a", folder=where, state=state))
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


async def events_of(adapter: LangGraphAdapter, run: RunInput | None = None) -> list[Event]:
    return [event async for event in adapter.stream(run or run_of())]


async def played(graph: str, run: RunInput | None = None, **options: Any) -> list[Event]:
    async with agent(graph, **options) as adapter:
        return await events_of(adapter, run)


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, TextDelta)]


def text(events: list[Event]) -> str:
    return "".join(texts(events))

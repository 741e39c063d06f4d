"""How the tests run a graph through the adapter as the native runs API does."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from msgspec import Raw

from proxy.adapter import Native, RunInput, ThreadName
from proxy.events import Event, Frame
from tests.adapters.langgraph_runs import agent

NATIVE = "tests.adapters.native_graphs"
THREAD = ThreadName(thread_id="01a1fc14-7166-779a-87ad-beb642000e01")
ASSISTANT = "fe096781-5601-53d2-b2f6-0d3403f7e9ca"


def native_run(graph: str, modes: list[str], input: Any = None, **more: Any) -> RunInput:
    """A run of the thread `THREAD`; `more` is the rest of the request, or fields of `Native`."""
    config = more.pop("config", {})
    halts = {key: _nodes(more.pop(key)) for key in ("interrupt_before", "interrupt_after") if key in more}
    context = more.pop("context", {})
    about = {"created_by": "system", "graph_id": graph, "assistant_id": ASSISTANT, **more.pop("metadata", {})}
    names = {"graph_id": graph, "assistant_id": ASSISTANT, "user_id": "", **more.pop("configurable", {})}
    return RunInput(
        run_id=str(uuid.uuid4()),
        thread_id=THREAD.thread_id,
        agent=graph,
        fresh=False,
        input=Raw(msgspec.json.encode(input)),
        modes=frozenset(modes),
        context=context,
        max_steps=config.get("recursion_limit"),
        native=Native(
            subgraphs=more.pop("stream_subgraphs", False),
            tags=tuple(more.pop("tags", ())),
            metadata={**about, "run_attempt": 1},
            configurable=names,
            **halts,
            **more,
        ),
    )


def _nodes(asked: str | list[str]) -> tuple[str, ...]:
    return (asked,) if isinstance(asked, str) else tuple(asked)


def frames(events: list[Event]) -> list[tuple[str, str]]:
    """Names and data as the wire shows them."""
    return [
        ("|".join((event.mode, *event.ns)), bytes(event.data).decode()) for event in events if isinstance(event, Frame)
    ]


async def streamed(graph: str, run: RunInput) -> list[tuple[str, str]]:
    """All frames of a run between those of the server itself: its first, and the one that tells of a failure."""
    events: list[Event] = []
    ending: list[tuple[str, str]] = []
    async with agent(graph) as adapter:
        try:
            async for event in adapter.stream(run):
                events.append(event)
        except Exception as error:
            said = {"error": type(error.__cause__ or error).__name__, "message": str(error)}
            ending.append(("error", msgspec.json.encode(said).decode()))
    begin = msgspec.json.encode({"run_id": run.run_id, "attempt": 1}).decode()
    return [("metadata", begin), *frames(events), *ending]

"""Agents that end-to-end tests talk to: each does what the last user message says, word by word.

`say WORD...` yields each word; `wait` is silent until cancelled; `pause SECONDS`; `fail`; `usage IN OUT`; `think TEXT`;
`tool` runs a tool of its own; `client NAME JSON` asks for a tool of the caller's; `length`;
`flood N` yields N kilobytes; with `swallow` in the text the agent swallows its cancel.
What becomes of each run is written to the file `trace`, one line a step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from adapters.plain import Request
from proxy.events import Completed, Event, ReasoningDelta, TextDelta, ToolCallDelta, ToolResult, Usage

TRACE = Path("trace")


def trace(run_id: str, what: str) -> None:
    with TRACE.open("a") as file:
        file.write(f"{run_id} {what} {time.monotonic()}\n")


async def actor(request: Request) -> AsyncIterator[str | Event]:
    trace(request.run_id, "started")
    try:
        for line in request.text.splitlines():
            verb, _, rest = line.strip().partition(" ")
            async for item in act(verb, rest):
                yield item
        trace(request.run_id, "ended")
    except asyncio.CancelledError:
        trace(request.run_id, "cancelled")
        if "swallow" not in request.text:
            raise
        await asyncio.Event().wait()
    finally:
        trace(request.run_id, "closed")


async def act(verb: str, rest: str) -> AsyncIterator[str | Event]:
    match verb:
        case "say":
            for word in rest.split():
                yield word
        case "wait":
            await asyncio.Event().wait()
        case "pause":
            await asyncio.sleep(float(rest))
        case "fail":
            raise ValueError("the agent's secret")
        case "usage":
            yield Usage(model="m", input_tokens=int(rest.split()[0]), output_tokens=int(rest.split()[1]))
        case "think":
            yield ReasoningDelta(text=rest)
        case "tool":
            yield ToolCallDelta(call_id="own_1", name="clock", arguments="{}")
            yield ToolResult(call_id="own_1", output="12:00")
        case "client":
            name, _, arguments = rest.partition(" ")
            for i, piece in enumerate((arguments[:4], arguments[4:])):
                yield ToolCallDelta(call_id="call_1", name=name, arguments=piece, client=True, index=i and 0)
            yield Completed(finish_reason="tool_calls")
        case "length":
            yield Completed(finish_reason="length")
        case "text":
            yield TextDelta(text=rest)
        case "flood":
            for _ in range(int(rest)):
                yield "x" * 1000
        case _:
            yield f"({verb})"


def threaded(request: Request) -> Iterator[str]:
    """A synchronous agent: runs in a thread and stops at its next word."""
    trace(request.run_id, "started")
    try:
        for word in request.text.split():
            yield word
            time.sleep(0.01)
    finally:
        trace(request.run_id, "closed")


async def whole(request: Request) -> str:
    """A coroutine that returns its answer in one piece."""
    return f"You said: {request.text}"


async def curious(request: Request) -> AsyncIterator[str]:
    """Tells what it was given."""
    known: dict[str, Any] = {
        "messages": len(request.messages),
        "metadata": request.metadata,
        "user": request.user,
        "context": request.context,
        "thread": bool(request.thread_id),
    }
    yield repr(known)

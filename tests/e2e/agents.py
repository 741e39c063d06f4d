"""Agents that end-to-end tests talk to: each does what the last user message says, word by word.

`say WORD...` yields each word; `wait` is silent until cancelled; `pause SECONDS`; `fail`; `usage IN OUT`; `think TEXT`;
`tool` runs a tool of its own; `client NAME JSON` asks for a tool of the caller's; `length`;
`flood N` yields N kilobytes; `drip N` a piece a millisecond; `gate NAME` waits for a run that says `open NAME`;
`file NAME` waits for a file of that name in the server's folder;
`raise NAME` raises that exception; `spoil` is silent, and fails on being cancelled; `quiet` says nothing;
with `swallow` in the text the agent swallows every cancel.
What becomes of each run is written to the file `trace`, one line a step: run, step, time, `mark` of the metadata.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from adapters.plain import Request
from proxy.events import Completed, Event, ReasoningDelta, TextDelta, ToolCallDelta, ToolResult, Usage

TRACE = Path("trace")
CRASHES = {crash.__name__: crash for crash in (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)}
GATES: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


def trace(request: Request, what: str) -> None:
    with TRACE.open("a") as file:
        file.write(f"{request.run_id} {what} {time.monotonic()} {request.metadata.get('mark', '')}\n")


async def actor(request: Request) -> AsyncIterator[str | Event]:
    trace(request, "started")
    try:
        for line in request.text.splitlines():
            verb, _, rest = line.strip().partition(" ")
            async for item in act(verb, rest):
                yield item
        trace(request, "ended")
    except asyncio.CancelledError:
        trace(request, "cancelled")
        if "swallow" not in request.text:
            raise
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
    finally:
        trace(request, "closed")


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
        case "drip":
            for number in range(int(rest)):
                yield f"{number} "
                await asyncio.sleep(0.001)
        case "gate":
            await GATES[rest].wait()
        case "open":
            GATES[rest].set()
        case "file":
            while not Path(rest).exists():
                await asyncio.sleep(0.01)
        case "raise":
            raise CRASHES[rest]
        case "spoil":
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("the agent's secret")
        case "quiet":
            pass
        case _:
            yield f"({verb})"


def threaded(request: Request) -> Iterator[str]:
    """A synchronous agent: runs in a thread and stops at its next word."""
    trace(request, "started")
    try:
        for word in request.text.split():
            yield word
            time.sleep(0.01)
    finally:
        trace(request, "closed")


def blocked(request: Request) -> Iterator[str]:
    """A synchronous agent whose tool never comes back, while the server runs."""
    trace(request, "started")
    yield "working"
    time.sleep(3600)


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

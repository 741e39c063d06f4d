"""Agents whose steps a test gives leave for, in whatever process they run: by files in the folder that all share.

`talker` does what the last user message says, a line at a time: `say WORD...` says each word; `await NAME` is silent
until `opened(folder, NAME)`; `wait` is silent for good; `deaf` heeds no cancel from then on; `drip N` says N numbers, a
piece a turn of the loop; `block NAME` keeps the event loop until `opened(folder, NAME)`.
`walker` is a graph of four nodes, `a` to `d`, on a list of what was done. With `gates: ["b"]` in its input the node `b`
waits for `opened(folder, "b-<thread>")`.
What happens is written to the file `trace`, one line each: what, name (run or thread), pid.
"""

from __future__ import annotations

import asyncio
import operator
import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph

from adapters.plain import Request
from tests.e2e.callers import KEY
from tests.faults.attacker import KEYS

TRACE = Path("trace")
NODES = "abcd"


def trace(what: str, name: str) -> None:
    with TRACE.open("a") as file:
        file.write(f"{what} {name} {os.getpid()}\n")


def traced(folder: Path, what: str, name: str = "") -> list[int]:
    """The processes that did this, in order."""
    file = folder / "trace"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [int(pid) for did, of, pid in lines if did == what and of.endswith(name)]


def walked(folder: Path, thread: str) -> list[str]:
    """The nodes that were entered on a thread, in order, in whatever process."""
    lines = [line.split() for line in (folder / "trace").read_text().splitlines()]
    return [did for did, of, _ in lines if did in NODES and of.endswith(thread)]


def opened(folder: Path, name: str) -> None:
    (folder / f"gate-{name}").touch()


async def gate(name: str) -> None:
    while not Path(f"gate-{name}").exists():
        await asyncio.sleep(0.01)


async def talker(request: Request) -> AsyncIterator[str]:
    trace("started", request.run_id)
    deaf = "deaf" in request.text.splitlines()
    try:
        for line in request.text.splitlines():
            verb, _, rest = line.partition(" ")
            async for word in act(verb, rest):
                yield word
        trace("ended", request.run_id)
    except asyncio.CancelledError:
        trace("cancelled", request.run_id)
        while deaf:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        raise


async def act(verb: str, rest: str) -> AsyncIterator[str]:
    match verb:
        case "say":
            for word in rest.split():
                yield word + " "
        case "await":
            await gate(rest)
        case "wait":
            await asyncio.Event().wait()
        case "drip":
            for number in range(int(rest)):
                yield f"{number} "
                await asyncio.sleep(0.001)
        case "block":
            while not Path(f"gate-{rest}").exists():
                time.sleep(0.01)


class Walk(TypedDict):
    gates: list[str]
    done: Annotated[list[str], operator.add]


def node(name: str) -> Any:
    async def call(state: Walk, config: RunnableConfig) -> dict[str, Any]:
        thread = config["configurable"]["thread_id"]
        trace(name, thread)
        get_stream_writer()({"at": name})
        if name in state.get("gates", []):
            await gate(f"{name}-{thread.rpartition(':')[2]}")
        return {"done": [name]}

    return call


walker = StateGraph(Walk).add_sequence([(name, node(name)) for name in NODES]).add_edge(START, "a").compile()


def config(**changes: Any) -> dict[str, Any]:
    """Both agents, each run by servers (`talker`, `walker`) and by workers alone (`remote-talker`, `remote-walker`);
    what the walkers lose goes on elsewhere."""
    here = Path(__file__)
    talking = {"adapter": "plain", "options": {"function": f"{here}:talker"}}
    walking = {"adapter": "langgraph", "options": {"graph": f"{here}:walker"}, "retry": "resume"}
    away = {"execute": "worker"}
    keys = [{"name": name, "key": KEYS[name], "tenant": name} for name in ("a", "b")]
    keys.append({"name": "chat", "key": KEY, "tenant": "a"})
    base: dict[str, Any] = {
        "runs": {"cancel_grace": 1.0},
        "server": {"drain": 3.0, "api_keys": keys},
        "dialects": {"langgraph": {"keepalive": 1.0}, "deerflow": {"keepalive": 1.0}},
        "agents": {
            "talker": talking,
            "walker": walking,
            "remote-talker": talking | away,
            "remote-walker": walking | away,
            "few": talking | {"limits": {"concurrent": 10}},
        },
    }
    return base | changes

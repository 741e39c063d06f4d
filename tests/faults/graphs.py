"""Graphs that show what is done to them: how many runs are on a thread at once, what goes on after a cancel, and what
becomes of values that pretend to be something else.

Every step is written to the file `steps` in the server's folder, one line each: what, thread, run.
"""

from __future__ import annotations

import asyncio
import operator
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

STEPS = Path("steps")
BUSY: Counter[str] = Counter()
"""Runs at work, by thread."""
LOCK = threading.Lock()


def mark(what: str, config: RunnableConfig) -> None:
    known = config["configurable"]
    with LOCK, STEPS.open("a") as file:
        file.write(f"{what} {known['thread_id']} {known.get('run_id', '')}\n")


class Count(TypedDict):
    n: Annotated[int, operator.add]
    log: Annotated[list[str], operator.add]


def step(name: str, pause: float = 0.002) -> Any:
    """A node that takes its time, and tells when it finds another run on its thread."""

    async def call(state: Count, config: RunnableConfig) -> dict[str, Any]:
        thread = config["configurable"]["thread_id"]
        BUSY[thread] += 1
        mark("enter" if BUSY[thread] == 1 else "crowd", config)
        try:
            get_stream_writer()({"at": name})
            await asyncio.sleep(pause)
        finally:
            BUSY[thread] -= 1
        return {"n": 1, "log": [name]}

    return call


def chain(schema: Any, **nodes: Any) -> Any:
    graph = StateGraph(schema)
    graph.add_sequence(list(nodes.items()))
    graph.add_edge(START, next(iter(nodes)))
    return graph


walking = chain(Count, a=step("a"), b=step("b"), c=step("c"), d=step("d")).compile()
slow = chain(Count, a=step("a"), b=step("b", 3600)).compile()
inner = chain(Count, x=step("x"), y=step("y"), z=step("z")).compile()
nested = chain(Count, a=step("a"), inner=inner, b=step("b")).compile()


async def _consent(state: Count) -> dict[str, Any]:
    return {"log": [f"said {interrupt('well?')}"]}


asking = chain(Count, a=step("a"), consent=_consent, b=step("b")).compile()
deep = chain(Count, a=step("a"), inner=chain(Count, x=step("x"), consent=_consent, y=step("y")).compile()).compile()


_within = chain(Count, i=lambda state: {"log": ["i"]}, j=lambda state: {"log": ["j"]}).compile()


def _labour(state: Count, config: RunnableConfig) -> dict[str, Any]:
    """Sync all the way down: blocks, and calls a graph that checkpoints from this thread."""
    try:
        for number in range(30):
            mark("slice", config)
            time.sleep(0.01)
            _within.invoke({"n": 1, "log": [f"slice {number}"]})
    finally:
        mark("rested", config)
    return {"n": 100, "log": ["laboured"]}


labouring = chain(Count, a=step("a"), labour=_labour, b=step("b")).compile()


class Talk(MessagesState):
    pass


async def _model(state: Talk, config: RunnableConfig) -> dict[str, Any]:
    """Strict as a provider: every call needs its result, and every result its call."""
    open_calls: list[str] = []
    for message in state["messages"]:
        if message.type == "tool":
            if message.tool_call_id not in open_calls:
                raise ValueError("400: a tool message without its call")
            open_calls.remove(message.tool_call_id)
            continue
        if open_calls:
            raise ValueError("400: an assistant message with 'tool_calls' must be followed by tool messages")
        if isinstance(message, AIMessage):
            open_calls = [call["id"] for call in message.tool_calls]
    if open_calls:
        raise ValueError("400: tool calls without results")
    last = state["messages"][-1]
    if last.type == "human" and "tool" in last.text:
        calls = [{"name": "hold", "args": {"why": last.text}, "id": f"call-{len(state['messages'])}"}]
        return {"messages": [AIMessage("", tool_calls=calls)]}
    return {"messages": [AIMessage(f"{len(state['messages'])} read")]}


async def _tools(state: Talk, config: RunnableConfig) -> dict[str, Any]:
    mark("tool", config)
    await asyncio.sleep(3600)
    return {}


def _after(state: Talk) -> str:
    last = state["messages"][-1]
    return "tools" if isinstance(last, AIMessage) and last.tool_calls else END


def _tooling() -> Any:
    graph = StateGraph(Talk)
    graph.add_node("model", _model)
    graph.add_node("tools", _tools)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", _after, ["tools", END])
    graph.add_edge("tools", "model")
    return graph


tooling = _tooling().compile()


async def _tarry(state: Talk) -> dict[str, Any]:
    if "tool" in state["messages"][-1].text:
        await asyncio.sleep(3600)
    return {}


def _paired() -> Any:
    """The model's step is not over before that of another, which takes its time."""
    graph = StateGraph(Talk)
    graph.add_node("model", _model)
    graph.add_node("tarry", _tarry)
    graph.add_edge(START, "model")
    graph.add_edge(START, "tarry")
    return graph


paired = _paired().compile()


class Anything(TypedDict):
    given: Any
    kinds: Any


def kinds(value: Any) -> Any:
    """The same with each leaf's class for the leaf: shows what somebody was made to believe."""
    if type(value) is dict:
        return {str(key): kinds(inner) for key, inner in value.items()}
    if type(value) is list:
        return [kinds(inner) for inner in value]
    return type(value).__qualname__


async def _look(state: Anything, config: RunnableConfig) -> dict[str, Any]:
    get_stream_writer()(state.get("given"))
    return {"kinds": kinds(state.get("given"))}


async def _answer(state: Anything) -> dict[str, Any]:
    said = interrupt(state.get("given"))
    return {"given": said, "kinds": kinds(said)}


believing = chain(Anything, look=_look).compile()
wondering = chain(Anything, wonder=_answer).compile()


class Told(TypedDict):
    told: Any


async def _tell(state: Told, config: RunnableConfig) -> dict[str, Any]:
    """What the request may have smuggled into the graph's config."""
    given = {key: value for key, value in config["configurable"].items() if not key.startswith("__pregel_")}
    odd = [
        key
        for key in config["configurable"]
        if key.startswith("__pregel_") and isinstance(config["configurable"][key], str)
    ]
    return {"told": {"configurable": {key: str(value) for key, value in given.items()}, "odd": odd}}


telling = chain(Told, tell=_tell).compile()

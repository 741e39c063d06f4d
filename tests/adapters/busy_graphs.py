"""Graphs that show how they are stopped, for the tests of the LangGraph adapter."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt

from tests.adapters.graphs import REQUEST, add, asks, line, piece, says, usage_chunk


class Holding:
    """A graph whose node waits until it is cancelled, and tells how it ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.waiting = asyncio.Event()
        self.graph = line(call=self._call).compile()

    async def _call(self, state: MessagesState) -> dict[str, Any]:
        try:
            await says("begun").ainvoke(state["messages"])
            self.waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            self.ended.append("finally")
        return {}


class Everything:
    """Does what the last user message names; `held` counts the nodes at work."""

    def __init__(self) -> None:
        self.held = 0
        self.graph = self._built()

    def _built(self) -> Any:
        graph = StateGraph(MessagesState)
        graph.add_node("act", self._act)
        graph.add_node("tools", ToolNode([add]))
        graph.add_node("talk", asks(says("th", "ree")))
        graph.add_edge(START, "act")
        graph.add_conditional_edges("act", self._after, ["tools", END])
        graph.add_edge("tools", "talk")
        return graph.compile()

    def _after(self, state: MessagesState) -> str:
        return "tools" if getattr(state["messages"][-1], "tool_calls", None) else END

    async def _act(self, state: MessagesState) -> dict[str, Any]:
        self.held += 1
        try:
            return {"messages": [await self._said(state)]}
        finally:
            self.held -= 1

    async def _said(self, state: MessagesState) -> BaseMessage:
        match state["messages"][-1].content:
            case "hang":
                await says("begun").ainvoke(state["messages"])
                await asyncio.Event().wait()
            case "tool":
                return await says(piece("", id="c1", name="add"), piece('{"a": 1, "b": 2}')).ainvoke(state["messages"])
            case "pause":
                return AIMessage(str(interrupt({"question": "well?"})))
            case "fail":
                raise openai.APIConnectionError(message="http://secret.example", request=REQUEST)
        return await says("one ", "two ", "three", usage_chunk).ainvoke(state["messages"])


everything = Everything()
everything_graph = everything.graph

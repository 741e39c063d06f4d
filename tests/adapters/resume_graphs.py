"""Graphs that note which of their nodes ran, to see what a second attempt at a run does again."""

from __future__ import annotations

import operator
from contextvars import ContextVar
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt


class Life:
    """Of a process that runs the graphs: what its nodes do after its end does not count."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.alive = True

    def note(self, name: str) -> None:
        if self.alive:
            self.ran.append(name)


life: ContextVar[Life] = ContextVar("life")


class Log(TypedDict):
    log: Annotated[list[str], operator.add]
    note: str


def step(name: str) -> Any:
    async def call(state: Log) -> dict[str, Any]:
        life.get().note(name)
        return {"log": [name]}

    return call


def asks(name: str, *questions: str) -> Any:
    async def call(state: Log) -> dict[str, Any]:
        life.get().note(name)
        return {"log": [f"{name}={interrupt(question)}" for question in questions]}

    return call


def chain(**nodes: Any) -> Any:
    graph = StateGraph(Log)
    graph.add_sequence(list(nodes.items()))
    graph.add_edge(START, next(iter(nodes)))
    return graph


def _inside(**nodes: Any) -> Any:
    """A sub-graph with a state of its own, so that its log reaches the outer one once."""
    inner = chain(**nodes).compile()

    async def call(state: Log) -> dict[str, Any]:
        result = await inner.ainvoke({"log": []})
        return {"log": result["log"]}

    return call


steps = chain(
    a=step("a"), inner=_inside(x=step("x"), ask=asks("ask", "ok?"), y=step("y")), b=step("b"), c=step("c")
).compile()
twice = chain(a=step("a"), ask=asks("ask", "one?", "two?"), b=step("b")).compile()
within = chain(a=step("a"), inner=_inside(x=asks("x", "one?"), y=step("y"), z=asks("z", "two?")), b=step("b")).compile()


def _pair() -> Any:
    graph = StateGraph(Log)
    for name, node in (("left", asks("left", "l?")), ("right", asks("right", "r?")), ("b", step("b"))):
        graph.add_node(name, node)
    graph.add_edge(START, "left")
    graph.add_edge(START, "right")
    graph.add_edge(["left", "right"], "b")
    return graph.compile()


pair = _pair()


async def _talk(state: MessagesState) -> dict[str, Any]:
    life.get().note("talk")
    return {"messages": [AIMessage(f"{len(state['messages'])} seen")]}


async def _more(state: MessagesState) -> dict[str, Any]:
    life.get().note("more")
    return {"messages": [AIMessage(f"{len(state['messages'])} then")]}


async def _ask(state: MessagesState) -> dict[str, Any]:
    life.get().note("ask")
    return {"messages": [AIMessage(f"answer: {interrupt('ok?')}")]}


def _messages(**nodes: Any) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_sequence(list(nodes.items()))
    graph.add_edge(START, next(iter(nodes)))
    return graph.compile()


talks = _messages(talk=_talk, more=_more)
questions = _messages(talk=_talk, ask=_ask, more=_more)

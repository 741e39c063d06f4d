"""Graphs that both servers serve: the official one and ours. They need LangGraph alone, no network and no key.

`chat` does what the last human message says, word by word: `@NAME` waits at a gate, `!NAME` sends a custom event,
`*NAME` raises an error, `#` says a number that was not said before; every other word is a token of the answer.
A gate is a file in the folder that the environment variable `GATES` names: it is open once `NAME` is there. Whoever
waits writes `NAME.reached`, and `NAME.cancelled` when it is cancelled there.
"""

from __future__ import annotations

import asyncio
import itertools
import operator
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.stream.transformers import CustomTransformer
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

NUMBERS = itertools.count(1)
SPENT: Any = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}


async def wait_at(name: str) -> None:
    gate = Path(os.environ["GATES"]) / name
    gate.with_suffix(".reached").touch()
    try:
        while not gate.exists():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        gate.with_suffix(".cancelled").touch()
        raise


class Actor(BaseChatModel):
    """A model that speaks the words of the last human message."""

    @property
    def _llm_type(self) -> str:
        return "actor"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        raise NotImplementedError

    def _should_stream(self, **_: Any) -> bool:
        return True

    async def _astream(self, messages: Any, stop: Any = None, **_: Any) -> AsyncIterator[ChatGenerationChunk]:
        for word in _asked(messages).split():
            if (said := await act(word)) is not None:
                yield ChatGenerationChunk(message=AIMessageChunk(content=said + " "))
        yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=SPENT))


def _asked(messages: list[BaseMessage]) -> str:
    return next(str(message.content) for message in reversed(messages) if isinstance(message, HumanMessage))


async def act(word: str) -> str | None:
    match word[0], word[1:]:
        case "@", name:
            await wait_at(name)
        case "!", name:
            get_stream_writer()({"said": name})
        case "*", name:
            raise ValueError(name)
        case "#", _:
            return str(next(NUMBERS))
        case _:
            return word
    return None


def sequence(schema: Any, **nodes: Any) -> Any:
    graph = StateGraph(schema)
    graph.add_sequence(list(nodes.items()))
    graph.add_edge(START, next(iter(nodes)))
    return graph


async def _speak(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await Actor().ainvoke(state["messages"])]}


chat = sequence(MessagesState, speak=_speak).compile(transformers=[CustomTransformer])


async def _draft(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(f"draft of {_asked(state['messages'])}")]}


async def _review(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(f"verdict: {interrupt({'question': 'ok?'})}")]}


review = sequence(MessagesState, draft=_draft, review=_review).compile()


class Answers(MessagesState):
    answers: Annotated[list[str], operator.add]


def asks(question: str) -> Any:
    async def call(state: Answers) -> dict[str, Any]:
        return {"answers": [f"{question} {interrupt(question)}"]}

    return call


def _many() -> Any:
    graph = StateGraph(Answers).add_node("left", asks("left?")).add_node("right", asks("right?"))
    return graph.add_edge(START, "left").add_edge(START, "right")


many = _many().compile()


class Count(TypedDict):
    n: Annotated[int, operator.add]
    log: Annotated[list[str], operator.add]


def step(name: str) -> Any:
    async def call(state: Count) -> dict[str, Any]:
        return {"n": 1, "log": [f"{name}{state['n']}"]}

    return call


async def _break(state: Count) -> dict[str, Any]:
    raise ValueError("boom: x")


count = sequence(Count, a=step("a"), b=step("b")).compile()
breaks = sequence(Count, a=step("a"), broken=_break).compile()


async def _leap(state: Count) -> Any:
    return Command(update={"n": 5}, goto="last")


def _fans() -> Any:
    graph = StateGraph(Count)
    graph.add_node("spread", step("s"))
    graph.add_node("work", step("w"))
    graph.add_node("leap", _leap, destinations=("last",))
    graph.add_node("last", step("z"))
    graph.add_edge(START, "spread")
    graph.add_conditional_edges("spread", lambda state: [Send("work", {"n": i}) for i in range(2)], ["work"])
    graph.add_edge("work", "leap")
    return graph


fans = _fans().compile()


async def _plan(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("", tool_calls=[{"id": "c1", "name": "add", "args": {"a": 1, "b": 2}}])]}


async def _tools(state: MessagesState) -> dict[str, Any]:
    return {"messages": [ToolMessage("3", tool_call_id="c1", name="add")]}


agent = sequence(MessagesState, plan=_plan, tools=_tools, speak=_speak).compile()


async def _deep(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(f"deep {interrupt('deep?')}", id="deep-1")]}


async def _after(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("after", id="after-1")]}


_lowest = sequence(MessagesState, speak=_speak, ask=_deep).compile()
_inner = sequence(MessagesState, lowest=_lowest).compile()
nested = sequence(MessagesState, inner=_inner, after=_after).compile()


class Wish(TypedDict, total=False):
    tone: str


class Seen(TypedDict, total=False):
    tone: str
    given: dict[str, Any]
    kept: list[Any]


async def _look(state: Seen, config: RunnableConfig, runtime: Runtime[Wish]) -> dict[str, Any]:
    told = {key: value for key, value in config["configurable"].items() if key in ("mine", "graph_id")}
    return {"tone": (runtime.context or {}).get("tone", "none"), "given": told}


async def _keep(state: Seen, runtime: Runtime[Wish]) -> dict[str, Any]:
    assert runtime.store
    await runtime.store.aput(("graph", "notes"), "one", {"tone": state["tone"]})
    return {"kept": [item.value for item in await runtime.store.asearch(("graph", "notes"))]}


looks = StateGraph(Seen, context_schema=Wish).add_sequence([("look", _look), ("keep", _keep)])
looks = looks.add_edge(START, "look").compile()

NAMES = ("chat", "review", "many", "count", "breaks", "fans", "agent", "nested", "looks")

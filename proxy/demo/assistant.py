"""The two LangGraph agents of the demo: one graph, once over a script and once over a language model.

In config.yaml: `proxy.demo.assistant:graph` and `proxy.demo.assistant:make_llm_graph`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, SystemMessage
from langchain_core.runnables import Runnable
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.runtime import Runtime

from proxy.demo.model import ScriptedChatModel
from proxy.demo.replies import reply
from proxy.demo.tools import TOOLS, explained

Graph = CompiledStateGraph[Any, Any, Any, Any]
Talker = Runnable[LanguageModelInput, AIMessage]

PACE = 0.02
PROMPT = SystemMessage(
    "You are the assistant that comes with Runwire, a server that puts agents behind the OpenAI API. "
    "Answer briefly. Use your tools: the clock for dates and times, the calculator for arithmetic, "
    "search_docs for anything about Runwire, save_note when the user wants something remembered "
    "(it asks the user itself, so do not ask before you call it)."
)


class State(MessagesState):
    notes: Annotated[list[str], operator.add]


@dataclass(frozen=True)
class Endpoint:
    """The context of the assistant's graph: which language model answers. Empty values leave it to the SDK."""

    model: str = "gpt-5.4-mini"
    base_url: str = ""
    api_key: str = ""


def make_graph(pace: float = PACE) -> Graph:
    """The agent without a language model; `pace` is the time between two words in seconds."""
    model = ScriptedChatModel(reply=reply, pace=pace, name="demo-script")

    async def talk(state: State) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return _wired(StateGraph(State), talk)


def make_llm_graph() -> Graph:
    """The same agent with a language model: any that speaks OpenAI's API, as the graph's context says.

    Raises `ImportError` without the extra `models`.
    """
    connect = _connector()

    async def talk(state: State, runtime: Runtime[Endpoint]) -> dict[str, Any]:
        model = connect(runtime.context or Endpoint())
        return {"messages": [await model.ainvoke([PROMPT, *state["messages"]])]}

    return _wired(StateGraph(State, context_schema=Endpoint), talk)


def _wired(builder: StateGraph[Any, Any, Any, Any], talk: Callable[..., Any]) -> Graph:
    builder.add_node("talk", talk)
    builder.add_node("tools", ToolNode(TOOLS, handle_tool_errors=explained))
    builder.add_edge(START, "talk")
    builder.add_conditional_edges("talk", tools_condition)
    builder.add_edge("tools", "talk")
    return builder.compile()


def _connector() -> Callable[[Endpoint], Talker]:
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise ImportError("the assistant needs a language model's SDK: pip install 'runwire[models]'") from error

    @cache
    def connect(endpoint: Endpoint) -> Talker:
        options: dict[str, Any] = {"model": endpoint.model, "stream_usage": True}
        options |= {"base_url": endpoint.base_url} if endpoint.base_url else {}
        options |= {"api_key": endpoint.api_key} if endpoint.api_key else {}
        return ChatOpenAI(**options).bind_tools(TOOLS)

    return connect


graph = make_graph()

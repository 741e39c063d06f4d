"""Small graphs for the tests of the LangGraph adapter. `Scripted` models need no network."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import httpx
import openai
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

SPENT: Any = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}


class Scripted(BaseChatModel):
    """Says `chunks`, or with `whole` one message at once."""

    chunks: tuple[Any, ...] = ()
    whole: Any = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.whole.model_copy())])

    def _should_stream(self, **_: Any) -> bool:
        return self.whole is None

    async def _astream(self, messages: Any, stop: Any = None, **_: Any) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self.chunks:
            message = AIMessageChunk(content=chunk) if isinstance(chunk, str) else chunk.model_copy()
            yield ChatGenerationChunk(message=message)
            await asyncio.sleep(0)


def says(*chunks: Any) -> Scripted:
    return Scripted(chunks=chunks)


def line(**nodes: Any) -> Any:
    """A graph of messages whose nodes run one after the other."""
    graph = StateGraph(MessagesState)
    graph.add_sequence(list(nodes.items()))
    graph.add_edge(START, next(iter(nodes)))
    return graph


def asks(model: Any) -> Any:
    async def call(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return call


def gives(*messages: Any) -> Any:
    async def call(state: MessagesState) -> dict[str, Any]:
        return {"messages": list(messages)}

    return call


usage_chunk = AIMessageChunk(
    content="",
    usage_metadata={
        **SPENT,
        "input_token_details": {"cache_read": 3},
        "output_token_details": {"reasoning": 1},
    },
    response_metadata={"model_name": "m-1", "finish_reason": "length"},
)
chat = line(call=asks(says("Hel", "lo", usage_chunk))).compile()
unstreamed = line(call=asks(Scripted(whole=AIMessage("whole", usage_metadata=SPENT)))).compile()
written = line(call=gives(AIMessage("written"))).compile()
loose = line(call=gives({"role": "assistant", "content": "loose"})).compile()
foreign = line(call=gives(AIMessage("by hand", usage_metadata=SPENT))).compile()
two = line(first=asks(says("one")), second=asks(says("two").with_config(tags=["final"]))).compile()
quiet = line(route=asks(says("hush").with_config(tags=["nostream"])), call=asks(says("loud"))).compile()
only_quiet = line(call=asks(says("hu", "sh").with_config(tags=["nostream"]))).compile()
nested = line(inner=line(call=asks(says("deep", "er"))).compile(), after=gives(AIMessage("done"))).compile()


async def _wrap(state: MessagesState) -> dict[str, Any]:
    spoken = await says("same ", "text").ainvoke(state["messages"])
    return {"messages": [AIMessage(spoken.content)]}


async def _echo(state: MessagesState) -> dict[str, Any]:
    return {"messages": [*state["messages"], AIMessage(f"{len(state['messages'])} seen")]}


@entrypoint()
async def functional(given: dict[str, Any]) -> str:
    return f"{len(given['messages'])} given"


wrapped = line(call=_wrap).compile()
echo = line(call=_echo).compile()

thinking = line(
    call=asks(
        says(
            AIMessageChunk(content=[{"type": "thinking", "thinking": "hm"}]),
            AIMessageChunk(content=[{"type": "reasoning", "reasoning": "mm"}]),
            AIMessageChunk(content="", additional_kwargs={"reasoning_content": "so"}),
            AIMessageChunk(content=[{"type": "text", "text": "42"}]),
        )
    )
).compile()


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def piece(args: str, **more: Any) -> AIMessageChunk:
    return AIMessageChunk(content="", tool_call_chunks=[{"args": args, "index": 0, "id": None, "name": None, **more}])


def _tools() -> Any:
    model_one = says(piece("", id="c1", name="add"), piece('{"a": 1,'), piece(' "b": 2}'))
    graph = StateGraph(MessagesState)
    graph.add_node("plan", asks(model_one))
    graph.add_node("tools", ToolNode([add]))
    graph.add_node("talk", asks(says("three")))
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "tools")
    graph.add_edge("tools", "talk")
    return graph


tools = _tools().compile()


async def _offer(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
    if state["messages"][-1].type == "tool":
        return {"messages": [await says(f"it is {state['messages'][-1].content}").ainvoke(state["messages"])]}
    name = config["configurable"]["client_tools"][0]["function"]["name"]
    return {"messages": [await says(piece("", id="c9", name=name), piece("{}")).ainvoke(state["messages"])]}


offering = line(call=_offer).compile()


def consent(state: MessagesState) -> dict[str, Any]:
    answer = interrupt({"question": "Send it?"})
    return {"messages": [AIMessage(f"answer: {answer}")]}


asking = line(first=asks(says("Let me see.")), consent=consent).compile()
halting = line(first=gives(AIMessage("ready")), second=gives(AIMessage("done"))).compile(interrupt_before=["second"])
uncompiled = line(consent=consent)
asking_deep = line(inner=uncompiled.compile()).compile()


class Pair(TypedDict):
    left: str
    right: Annotated[list[str], operator.add]


def _side(name: str) -> Any:
    async def ask(state: Pair) -> dict[str, Any]:
        return {"right": [f"{name}={interrupt(name)}"]}

    return ask


async def _join(state: Pair) -> dict[str, Any]:
    return {"left": ", ".join(sorted(state["right"]))}


def _pair() -> Any:
    graph = StateGraph(Pair)
    graph.add_node("a", _side("a"))
    graph.add_node("b", _side("b"))
    graph.add_node("join", _join)
    graph.add_edge(START, "a")
    graph.add_edge(START, "b")
    graph.add_edge(["a", "b"], "join")
    return graph


pair = _pair().compile()


@dataclass
class Note:
    text: str


class Smuggled:
    """Not in any schema; a checkpoint must not bring it back to life."""

    def __init__(self, text: str = "") -> None:
        self.text = text

    def __repr__(self) -> str:
        return "smuggled"

    def model_dump(self) -> dict[str, Any]:
        return {"text": self.text}


class Notes(MessagesState):
    notes: list[Note]
    anything: Any


async def _take_note(state: Notes) -> dict[str, Any]:
    held = state.get("notes") or []
    kinds = ",".join(type(each).__name__ for each in (*held, state.get("anything")))
    said = AIMessage(f"{len(held)}:{kinds}")
    return {"messages": [said], "notes": [*held, Note("x")], "anything": Smuggled("boo")}


noting = StateGraph(Notes).add_node("call", _take_note).add_edge(START, "call")


class Question(TypedDict):
    question: str
    answer: str


async def _reply(state: Question) -> dict[str, Any]:
    return {"answer": f"You asked: {state['question']}"}


question = StateGraph(Question).add_node("reply", _reply).add_edge(START, "reply").compile()


@dataclass
class Where:
    city: str = "nowhere"
    client_tools: list[Any] = field(default_factory=list)


async def _tell(state: MessagesState, config: RunnableConfig, runtime: Runtime[Where]) -> dict[str, Any]:
    kept = {key: value for key, value in config["configurable"].items() if not key.startswith(("__", "checkpoint"))}
    return {"messages": [AIMessage(f"{runtime.context.city} {sorted(kept.items())}")]}


telling = StateGraph(MessagesState, context_schema=Where).add_node("tell", _tell).add_edge(START, "tell").compile()


async def _custom(state: MessagesState) -> dict[str, Any]:
    get_stream_writer()({"progress": 1, "of": Note("x"), "message": AIMessage("m", id="i"), "half": "\ud800"})
    return {}


half = line(
    call=asks(says("a\ud83d", "\ude00é", AIMessageChunk(content=[{"type": "text", "text": "\ud800"}])))
).compile()
custom = line(call=_custom).compile()


def _endless() -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("again", asks(says("more ")))
    graph.add_edge(START, "again")
    graph.add_edge("again", "again")
    return graph


endless = _endless().compile()


def failing(error: Exception) -> Any:
    async def call(state: MessagesState) -> dict[str, Any]:
        raise error

    return line(call=call).compile()


REQUEST = httpx.Request("POST", "http://secret.example/v1")


def _status(kind: type[openai.APIStatusError], status: int) -> Any:
    headers = {"retry-after": "7"}
    return failing(kind("key sk-secret", response=httpx.Response(status, headers=headers, request=REQUEST), body=None))


rate_limited = _status(openai.RateLimitError, 429)
refused = _status(openai.AuthenticationError, 401)
bad_request = _status(openai.BadRequestError, 400)
broken_upstream = _status(openai.InternalServerError, 500)
timed_out = failing(openai.APITimeoutError(REQUEST))
unreachable = failing(openai.APIConnectionError(request=REQUEST))
buggy = failing(ValueError("a bug"))
tool_timeout = failing(httpx.ReadTimeout("a tool's own"))


opened: list[str] = []


async def make_async() -> Any:
    return chat


def make() -> Any:
    opened.append("make")
    return uncompiled_chat


uncompiled_chat = line(call=asks(says("Hello")))


@asynccontextmanager
async def make_within() -> AsyncIterator[Any]:
    opened.append("enter")
    yield uncompiled_chat
    opened.append("exit")


@contextmanager
def make_within_sync() -> Iterator[Any]:
    opened.append("enter")
    yield uncompiled_chat
    opened.append("exit")


def make_for(config: RunnableConfig) -> Any:
    return line(call=gives(AIMessage(str(config["configurable"]["lang"])))).compile()


@asynccontextmanager
async def make_for_within(config: RunnableConfig) -> AsyncIterator[Any]:
    opened.append("enter")
    yield make_for(config)
    opened.append("exit")


def make_nothing() -> None: ...


def broken_factory() -> Any:
    raise RuntimeError("no database")


async def _jump(state: MessagesState) -> Command[Any]:
    return Command(update={"messages": [AIMessage("jumped")]}, goto=END)


jumping = line(call=_jump).compile()

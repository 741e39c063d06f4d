"""Graphs whose native frames are compared with what the official server sends for them."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import operator
import uuid
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

from tests.adapters.graphs import add, gives, line, piece, says, usage_chunk
from tests.adapters.graphs import asks as asks_model


def _agent() -> Any:
    graph = StateGraph(MessagesState)
    model = says("Hm ", piece("", id="c1", name="add"), piece('{"a": 1,'), piece(' "b": 2}'))
    graph.add_node("plan", asks_model(model))
    graph.add_node("tools", ToolNode([add]))
    graph.add_node("talk", asks_model(says("thr", "ee", usage_chunk)))
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "tools")
    graph.add_edge("tools", "talk")
    return graph


agent = _agent().compile()


class Review(TypedDict):
    draft: str
    verdict: str


async def _draft(state: Review) -> dict[str, Any]:
    return {"draft": state["draft"] + "!"}


async def _review(state: Review) -> dict[str, Any]:
    return {"verdict": interrupt({"question": "ok?", "draft": state["draft"]})}


def sequence(schema: Any, **nodes: Any) -> Any:
    graph = StateGraph(schema)
    graph.add_sequence(list(nodes.items()))
    graph.add_edge(START, next(iter(nodes)))
    return graph


asks = sequence(Review, draft_it=_draft, review=_review).compile()


class Count(TypedDict):
    n: Annotated[int, operator.add]
    log: Annotated[list[str], operator.add]


def step(name: str) -> Any:
    async def call(state: Count) -> dict[str, Any]:
        return {"n": 1, "log": [f"{name}{state['n']}"]}

    return call


halts = sequence(Count, a=step("a"), b=step("b")).compile(interrupt_before=["b"])


async def _whole(state: MessagesState) -> dict[str, Any]:
    answer = interrupt("deep?")
    return {"messages": [AIMessage(f"deep {answer}", id="deep-1")]}


_deep = line(think=asks_model(says("dee", "per")), ask=_whole).compile()
_inner = StateGraph(MessagesState).add_node("deep", _deep).add_edge(START, "deep").compile()
_first, _done = gives(AIMessage("first", id="first-1")), gives(AIMessage("done", id="done-1"))
nested = line(before=_first, inner=_inner, after=_done).compile()


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Model(BaseModel):
    name: str
    at: datetime.datetime


class Odd(TypedDict):
    got: Any


class Strange:
    def __repr__(self) -> str:
        return "strange thing"


ODD: dict[str, Any] = {
    "time": datetime.datetime(2024, 1, 2, 3, 4, 5, 678900, tzinfo=datetime.UTC),
    "naive": datetime.datetime(2024, 1, 2, 3, 4, 5),
    "date": datetime.date(2024, 1, 2),
    "clock": datetime.time(3, 4, 5),
    "delta": datetime.timedelta(seconds=90),
    "uuid": uuid.UUID(int=5),
    "enum": Colour.RED,
    "point": Point(1, 2.0),
    "model": Model(name="é", at=datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)),
    "set": {1},
    "frozen": frozenset({"a"}),
    "tuple": (1, "a"),
    "bytes": b"\x00hi",
    "decimal": decimal.Decimal("1.10"),
    "path": Path("/tmp/x"),
    "nan": float("nan"),
    "inf": float("inf"),
    "float": 1e22,
    "small": 1e-7,
    "whole": 3.0,
    "intkey": {1: "a", None: "b", False: "c"},
    "class": Point,
    "exception": ValueError("bad"),
    "message": HumanMessage("hi", id="h1"),
    "strange": Strange(),
    "half": "a\ud800b",
    "control": "\u2028\x00\x7f</script>",
    "complex": 1j,
    "nested": [[{"deep": (None, True)}]],
}


def _write_odd() -> Any:
    async def call(state: Odd) -> dict[str, Any]:
        write = get_stream_writer()
        for key, value in ODD.items():
            write({key: value})
        write("text")
        write(7)
        return {"got": {key: ODD[key] for key in ("time", "uuid", "point", "model", "set", "bytes")}}

    return call


odd = StateGraph(Odd).add_node("write", _write_odd()).add_edge(START, "write").compile()


async def _break(state: Count) -> dict[str, Any]:
    raise ValueError("boom: x")


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


@task
async def double(n: int) -> int:
    return n * 2


@entrypoint()
async def functional(given: dict[str, Any]) -> Any:
    return {"twice": await double(given["n"])}

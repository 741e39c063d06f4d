from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage

from proxy.events import (
    Cancelled,
    Completed,
    Custom,
    Event,
    Failed,
    Interrupt,
    Paused,
    PendingCall,
    ReasoningDelta,
    TextDelta,
    ToolResult,
    Usage,
)
from proxy.messages import Message
from proxy.wire.frames import MAKEABLE, FrameMaker
from proxy.wire.langchain import langchain
from tests.wire.entries import RUN, START, own, raw

QUESTION = langchain(Message(role="user", content="hi"), "q")
ASKED = {
    "content": "hi",
    "additional_kwargs": {},
    "response_metadata": {},
    "type": "human",
    "name": None,
    "id": "q",
}
ABOUT = {
    "run_id": RUN,
    "thread_id": "t-1",
    "graph_id": "demo",
    "assistant_id": "a-1",
    "run_attempt": 1,
    "langgraph_node": "demo",
    "langgraph_step": 1,
    "langgraph_triggers": [],
    "langgraph_path": [],
    "langgraph_checkpoint_ns": f"demo:{RUN}",
    "checkpoint_ns": f"demo:{RUN}",
}
CALLING = [own("c1", "find", '{"q": '), own("c1", "find", '"x"}'), ToolResult(call_id="c1", output="42")]


def maker(*modes: str, **rest: Any) -> FrameMaker:
    return FrameMaker(frozenset(modes), before=(QUESTION,), assistant_id="a-1", **rest)


def made(events: list[Event], *modes: str, **rest: Any) -> list[tuple[str, Any]]:
    """(event's name, data) of the frames that a run of this gives rise to."""
    frames = maker(*modes, **rest)
    return [
        ("|".join((frame.mode, *frame.ns)), msgspec.json.decode(frame.data))
        for event in (START, *events)
        for frame in frames.frames(event)
    ]


def ai(content: str = "", id: str = f"run-{RUN}", **rest: Any) -> dict[str, Any]:
    plain = {"content": content, "additional_kwargs": {}, "response_metadata": {}, "type": "ai", "name": None, "id": id}
    return {**plain, "tool_calls": [], "invalid_tool_calls": [], "usage_metadata": None, **rest}


def chunk(content: str = "", **rest: Any) -> dict[str, Any]:
    return ai(content, **{"type": "AIMessageChunk", "tool_call_chunks": [], "chunk_position": None, **rest})


def piece(args: str, name: str | None = None, id: str | None = None) -> dict[str, Any]:
    return {"name": name, "args": args, "id": id, "index": 0, "type": "tool_call_chunk"}


FOUND = {
    "content": "42",
    "additional_kwargs": {},
    "response_metadata": {},
    "type": "tool",
    "name": "find",
    "id": "c1-result",
    "tool_call_id": "c1",
    "artifact": None,
    "status": "success",
}
CALL = {"name": "find", "args": {"q": "x"}, "id": "c1", "type": "tool_call"}


def test_values_are_the_input_and_then_the_state_after_each_message() -> None:
    events = [TextDelta(text="a"), *CALLING, TextDelta(text="b"), Completed()]
    first = ai("a", tool_calls=[CALL])
    assert made(events, "values") == [
        ("values", {"messages": [ASKED]}),
        ("values", {"messages": [ASKED, first]}),
        ("values", {"messages": [ASKED, first, FOUND]}),
        ("values", {"messages": [ASKED, first, FOUND, ai("b", id=f"run-{RUN}-3")]}),
    ]


def test_updates_are_one_a_message_under_the_agents_name() -> None:
    events = [TextDelta(text="a", part="m"), *CALLING, TextDelta(text="b", part="n"), Completed()]
    assert made(events, "updates") == [
        ("updates", {"demo": {"messages": [ai("a", id="m")]}}),
        ("updates", {"demo": {"messages": [ai("", tool_calls=[CALL])]}}),
        ("updates", {"demo": {"messages": [FOUND]}}),
        ("updates", {"demo": {"messages": [ai("b", id="n")]}}),
    ]


def test_message_tuples_are_pieces_that_say_where_they_come_from() -> None:
    events = [
        ReasoningDelta(text="hm"),
        TextDelta(text="a"),
        *CALLING,
        Usage(input_tokens=3, output_tokens=2, cached_tokens=1),
        Completed(),
    ]
    usage = {
        "input_tokens": 3,
        "output_tokens": 2,
        "total_tokens": 5,
        "input_token_details": {"cache_read": 1},
        "output_token_details": {},
    }
    assert made(events, "messages-tuple") == [
        ("messages", [chunk(additional_kwargs={"reasoning_content": "hm"}), ABOUT]),
        ("messages", [chunk("a"), ABOUT]),
        ("messages", [chunk(tool_call_chunks=[piece('{"q": ', "find", "c1")]), ABOUT]),
        ("messages", [chunk(tool_call_chunks=[piece('"x"}')]), ABOUT]),
        ("messages", [FOUND, {**ABOUT, "langgraph_step": 2}]),
        ("messages", [chunk(usage_metadata=usage), ABOUT]),
    ]


def test_message_pieces_join_to_the_message_in_langchain_itself() -> None:
    events = [TextDelta(text="a"), TextDelta(text="b"), *CALLING[:2], Usage(output_tokens=2), Completed()]
    pieces = [AIMessageChunk(**data[0]) for _, data in made(events, "messages-tuple")]
    joined = pieces[0]
    for more in pieces[1:]:
        joined += more
    whole = AIMessage(**made(events, "updates")[-1][1]["demo"]["messages"][0])
    assert (joined.content, joined.tool_calls, joined.usage_metadata, joined.id) == (
        whole.content,
        whole.tool_calls,
        whole.usage_metadata,
        whole.id,
    )
    assert ToolMessage(**FOUND).tool_call_id == "c1"


def test_messages_are_announced_once_and_then_grow() -> None:
    events = [TextDelta(text="a"), TextDelta(text="b"), *CALLING, Completed()]
    assert made(events, "messages") == [
        ("messages/metadata", {f"run-{RUN}": {"metadata": ABOUT}}),
        ("messages/partial", [ai("a")]),
        ("messages/partial", [ai("ab")]),
        (
            "messages/partial",
            [
                ai(
                    "ab",
                    invalid_tool_calls=[
                        {"name": "find", "args": '{"q": ', "id": "c1", "error": None, "type": "invalid_tool_call"}
                    ],
                )
            ],
        ),
        ("messages/partial", [ai("ab", tool_calls=[CALL])]),
        ("messages/metadata", {"c1-result": {"metadata": {**ABOUT, "langgraph_step": 2}}}),
        ("messages/complete", [FOUND]),
    ]


def test_with_both_message_modes_only_the_tuples_come() -> None:
    assert {name for name, _ in made([TextDelta(text="a"), *CALLING], "messages", "messages-tuple")} == {"messages"}


def test_custom_data_goes_out_as_it_was_written() -> None:
    assert made([Custom(name="custom", data=raw({"step": 1}))], "custom") == [("custom", {"step": 1})]


def test_what_a_reader_joins_comes_after_what_it_replaces() -> None:
    events = [TextDelta(text="a", part="m"), TextDelta(text="b", part="n")]
    names = [name for name, _ in made(events, *MAKEABLE)]
    assert names == ["values", "messages", "updates", "values", "messages"]


def test_two_messages_at_once_are_each_told_whole_in_the_end() -> None:
    events = [TextDelta(text=text, part=part) for text, part in (("a", "m"), ("x", "n"), ("b", "m"), ("y", "n"))]
    frames = made([*events, Completed()], "values", "updates")
    last = {
        message["id"]: message["content"]
        for name, data in frames
        if name == "updates"
        for message in data["demo"]["messages"]
    }
    assert last == {"m": "ab", "n": "xy"}
    assert frames[-1] == ("values", {"messages": [ASKED, ai("ab", id="m"), ai("xy", id="n")]})


def test_a_pause_shows_what_is_asked() -> None:
    asked = [{"value": {"q": 1}, "id": "i", "response_schema": None}]
    pause = Paused(interrupts=(Interrupt(id="i", value=raw({"q": 1})),))
    assert made([TextDelta(text="a"), pause], "values", "updates") == [
        ("values", {"messages": [ASKED]}),
        ("updates", {"demo": {"messages": [ai("a")]}}),
        ("values", {"messages": [ASKED, ai("a")]}),
        ("updates", {"__interrupt__": asked}),
        ("values", {"messages": [ASKED, ai("a")], "__interrupt__": asked}),
    ]


def test_a_pause_for_tools_of_the_callers_asks_nothing_else() -> None:
    pause = Paused(calls=(PendingCall(call_id="c1", name="find"),))
    assert made([pause], "values", "updates") == [
        ("values", {"messages": [ASKED]}),
        ("updates", {"__interrupt__": []}),
    ]


@pytest.mark.parametrize("final", [Cancelled(), Failed(code="x", message="y")])
def test_half_a_message_is_no_part_of_the_state(final: Event) -> None:
    assert made([TextDelta(text="a"), final], "values", "updates") == [("values", {"messages": [ASKED]})]


def test_what_subagents_say_stands_under_their_names_if_asked_for() -> None:
    events = [TextDelta(text="a", path=("team", "reader")), Custom(name="custom", path=("team",)), Completed()]
    about = {**ABOUT, "langgraph_node": "reader"}
    about |= {"langgraph_checkpoint_ns": "team|reader", "checkpoint_ns": "team|reader"}
    assert made(events, "messages-tuple", "updates", "custom", subgraphs=True) == [
        ("messages|team|reader", [chunk("a"), about]),
        ("custom|team", None),
        ("updates|team|reader", {"reader": {"messages": [ai("a")]}}),
    ]
    assert [name for name, _ in made(events, "messages-tuple", "custom")] == ["messages", "custom"]


def test_tokens_of_a_call_that_said_nothing_are_nobodys() -> None:
    assert made([Usage(output_tokens=1)], "messages-tuple") == []
    counted = [TextDelta(text="a"), Usage(output_tokens=1), Usage(output_tokens=9), Completed()]
    (message,) = made(counted, "updates")[-1][1]["demo"]["messages"]
    assert message["usage_metadata"]["output_tokens"] == 1


def test_a_message_of_many_pieces_takes_the_memory_of_its_letters() -> None:
    """Who comes back to the end of a long run has all of it told to the maker of its frames."""
    frames = maker("values")
    frames.frames(START)
    count = 100_000
    tracemalloc.start()
    try:
        for number in range(count):
            frames.frames(TextDelta(text=f"{number} "))
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < 20 * count


@pytest.mark.parametrize("text", ["a\r\nb\rc\n", "\u2028\x00ü"])
def test_every_letter_of_a_message_is_told(text: str) -> None:
    said: list[Event] = [TextDelta(text=text[:2]), TextDelta(text=text[2:]), Completed()]
    assert made(said, "updates") == [("updates", {"demo": {"messages": [ai(text)]}})]


def test_modes_that_cannot_be_made_stay_silent() -> None:
    assert made([TextDelta(text="a"), *CALLING, Completed()], "tasks", "checkpoints", "debug", "events") == []

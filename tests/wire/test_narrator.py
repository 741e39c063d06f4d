"""Runs in the words of the event protocol: logs in, events out, beside what the official server said of the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy.events import (
    Cancelled,
    Completed,
    Custom,
    Entry,
    Event,
    Failed,
    Interrupt,
    Paused,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolResult,
)
from proxy.model import Choices
from proxy.wire.protocol import Chronicle
from tests.wire.entries import AT, client, log, own, raw
from tests.wire.narration import GRAPH, PLAIN, SPENT, SUB, USAGE, chunk, frame, happenings, said, told


def test_a_graphs_answer_is_told_as_the_official_server_tells_it() -> None:
    human = {"type": "human", "content": "Hello big", "id": "h1"}
    whole = {"type": "ai", "content": "Hello big ", "id": "m-1"}
    got = told(
        frame("values", {"messages": [human]}),
        chunk(content="Hello "),
        chunk(content="big "),
        chunk(usage_metadata=SPENT),
        chunk(last=True),
        frame("updates", {"speak": {"messages": [whole]}}),
        frame("values", {"messages": [human, whole]}),
        Completed(),
        run=GRAPH,
    )
    # The official server leaves out updates where a graph does not ask for them to be told.
    assert [one for one in got if one[0] != "updates"] == [
        ("lifecycle", {"event": "running", "graph_name": "demo"}),
        ("values", {"messages": [human]}),
        ("messages", {"event": "message-start", "role": "ai", "id": "m-1"}),
        ("messages", {"event": "content-block-start", "index": 0, "content": {"type": "text", "text": ""}}),
        ("messages", {"event": "content-block-delta", "index": 0, "delta": {"type": "text-delta", "text": "Hello "}}),
        ("messages", {"event": "content-block-delta", "index": 0, "delta": {"type": "text-delta", "text": "big "}}),
        ("messages", {"event": "content-block-finish", "index": 0, "content": {"type": "text", "text": "Hello big "}}),
        ("messages", {"event": "message-finish", "usage": SPENT}),
        ("values", {"messages": [human, whole]}),
        ("lifecycle", {"event": "completed", "graph_name": "demo"}),
    ]


def test_thoughts_text_and_calls_are_blocks_that_end_with_their_message() -> None:
    got = said(
        chunk(additional_kwargs={"reasoning_content": "Let me "}),
        chunk(additional_kwargs={"reasoning_content": "see"}),
        chunk(content="I look "),
        chunk(tool_call_chunks=[{"name": "weather", "args": "", "id": "c1", "index": 0}]),
        chunk(tool_call_chunks=[{"name": None, "args": '{"city":', "id": None, "index": 0}]),
        chunk(tool_call_chunks=[{"name": None, "args": '"Rome"}', "id": None, "index": 0}]),
        chunk(tool_call_chunks=[{"name": "weather", "args": '{"ci', "id": "c2", "index": 1}]),
        chunk(usage_metadata=SPENT, response_metadata={"finish_reason": "tool_calls"}),
        chunk(last=True),
        run=GRAPH,
    )
    assert got == [
        {"event": "message-start", "role": "ai", "id": "m-1"},
        {"event": "content-block-start", "index": 0, "content": {"type": "reasoning", "reasoning": ""}},
        {"event": "content-block-delta", "index": 0, "delta": {"type": "reasoning-delta", "reasoning": "Let me "}},
        {"event": "content-block-delta", "index": 0, "delta": {"type": "reasoning-delta", "reasoning": "see"}},
        {"event": "content-block-start", "index": 1, "content": {"type": "text", "text": ""}},
        {"event": "content-block-delta", "index": 1, "delta": {"type": "text-delta", "text": "I look "}},
        {
            "event": "content-block-start",
            "index": 2,
            "content": {"type": "tool_call_chunk", "id": "c1", "name": "weather", "args": "", "index": 0},
        },
        *(piece(2, args) for args in ('{"city":', '"Rome"}')),
        {
            "event": "content-block-start",
            "index": 3,
            "content": {"type": "tool_call_chunk", "id": "c2", "name": "weather", "args": "", "index": 1},
        },
        piece(3, '{"ci'),
        {"event": "content-block-finish", "index": 0, "content": {"type": "reasoning", "reasoning": "Let me see"}},
        {"event": "content-block-finish", "index": 1, "content": {"type": "text", "text": "I look "}},
        {
            "event": "content-block-finish",
            "index": 2,
            "content": {"type": "tool_call", "id": "c1", "name": "weather", "args": {"city": "Rome"}},
        },
        {
            "event": "content-block-finish",
            "index": 3,
            "content": {"type": "invalid_tool_call", "id": "c2", "name": "weather", "args": '{"ci', "error": None},
        },
        {"event": "message-finish", "usage": SPENT, "metadata": {"finish_reason": "tool_calls"}},
    ]


def piece(index: int, args: str) -> dict[str, Any]:
    return {
        "event": "content-block-delta",
        "index": index,
        "delta": {"type": "tool-call-delta", "args": args},
        "content": {"type": "tool_call_chunk", "args": args},
    }


def test_content_that_is_blocks_itself_goes_on_as_blocks() -> None:
    image = {"type": "image", "url": "http://x/y.png"}
    blocks = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "See"}, image]
    got = said(chunk(content=blocks, last=True), run=GRAPH)
    ends = [one["content"] for one in got if one["event"] == "content-block-finish"]
    assert ends == [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "See"}, image]


def test_a_call_that_stands_in_the_content_as_well_is_told_once() -> None:
    call = {"name": "add", "args": "{}", "id": "c1", "index": 0}
    got = said(chunk(content=[{"type": "tool_use", "id": "c1"}], tool_call_chunks=[call], last=True), run=GRAPH)
    assert [one["content"]["type"] for one in got if one["event"] == "content-block-finish"] == ["tool_call"]


def test_a_whole_message_is_told_at_once_and_only_once() -> None:
    message = {"type": "ai", "id": "m-9", "content": "done", "tool_calls": [{"name": "f", "args": {}, "id": "c"}]}
    whole = frame("messages", [message, {}])
    got = said(whole, whole, run=GRAPH)
    assert [one["event"] for one in got] == [
        "message-start",
        "content-block-start",
        "content-block-delta",
        "content-block-start",
        "content-block-delta",
        "content-block-finish",
        "content-block-finish",
        "message-finish",
    ]


def test_messages_that_stream_at_once_from_one_place_carry_their_ids() -> None:
    got = said(
        chunk("a", content="1"),
        chunk("b", content="2"),
        chunk("a", content="3"),
        chunk("a", last=True),
        chunk("b", content="4"),
        run=GRAPH,
    )
    assert [(one["event"], one.get("id"), one.get("run_id")) for one in got] == [
        ("message-start", "a", None),
        ("content-block-start", None, None),
        ("content-block-delta", None, None),
        ("message-start", "b", None),
        ("content-block-start", "b", "b"),
        ("content-block-delta", "b", "b"),
        ("content-block-delta", "a", "a"),
        ("content-block-finish", "a", "a"),
        ("message-finish", "a", "a"),
        ("content-block-delta", None, None),
    ]


def test_a_message_without_a_last_piece_ends_with_the_step() -> None:
    got = told(chunk(content="x"), frame("values", {"messages": []}), run=GRAPH)
    assert [(method, data.get("event")) for method, data in got][-2:] == [
        ("messages", "message-finish"),
        ("values", None),
    ]


def test_tools_are_told_of_when_their_call_is_whole_and_when_they_answer() -> None:
    calls = [{"name": name, "args": "{}", "id": name, "index": at} for at, name in enumerate("ab")]
    results = [
        {"type": "tool", "id": f"r-{name}", "content": name, "tool_call_id": name, "status": status}
        for name, status in (("a", "success"), ("b", "error"))
    ]
    answers = [frame("messages", [result, {}]) for result in results]
    got = said(chunk(tool_call_chunks=calls, last=True), *answers, answers[0], run=GRAPH, method="tools")
    assert got == [
        {"event": "tool-started", "tool_call_id": "a", "tool_name": "a", "input": {}},
        {"event": "tool-started", "tool_call_id": "b", "tool_name": "b", "input": {}},
        {"event": "tool-finished", "tool_call_id": "a", "output": results[0]},
        {"event": "tool-error", "tool_call_id": "b", "message": "b"},
    ]


def test_a_tool_that_the_caller_is_to_run_is_not_told_of_as_running() -> None:
    events = [own("c1", "mine", "{}"), client("c2", "yours", "{}"), Completed(finish_reason="tool_calls")]
    assert [one["tool_call_id"] for one in said(*events, method="tools")] == ["c1"]


def test_an_agent_without_frames_is_told_from_its_words() -> None:
    got = told(
        ReasoningDelta(text="hm", part="a"),
        TextDelta(text="Hel", part="a"),
        TextDelta(text="lo", part="a"),
        ToolCallDelta(call_id="c1", name="add", arguments='{"x":1}', part="a"),
        USAGE,
        ToolResult(call_id="c1", output="2"),
        Custom(name="progress", data=raw({"done": 1})),
        TextDelta(text="two", part="b"),
        Completed(),
    )
    kinds = [(method, data.get("event") if method != "values" else len(data["messages"])) for method, data in got]
    assert kinds == [
        ("lifecycle", "running"),
        ("values", 0),
        ("messages", "message-start"),
        ("messages", "content-block-start"),
        ("messages", "content-block-delta"),
        ("messages", "content-block-start"),
        ("messages", "content-block-delta"),
        ("messages", "content-block-delta"),
        ("messages", "content-block-start"),
        ("messages", "content-block-delta"),
        *[("messages", "content-block-finish")] * 3,
        ("messages", "message-finish"),
        ("tools", "tool-started"),
        ("updates", None),
        ("values", 1),
        ("updates", None),
        ("values", 2),
        ("tools", "tool-finished"),
        ("custom", None),
        ("messages", "message-start"),
        ("messages", "content-block-start"),
        ("messages", "content-block-delta"),
        ("messages", "content-block-finish"),
        ("messages", "message-finish"),
        ("updates", None),
        ("values", 3),
        ("lifecycle", "completed"),
    ]


def test_a_graphs_run_without_frames_tells_its_messages_and_no_state() -> None:
    chatted = msgspec.structs.replace(PLAIN, choices=Choices())
    found = happenings(Chronicle(), chatted, log(TextDelta(text="Hi", part="m"), Completed()), frames=True)
    assert {one["method"] for one in found} == {"lifecycle", "messages"}
    assert found[-2]["params"]["data"]["event"] == "message-finish"


def test_what_is_asked_is_told_of_apart_from_the_state_and_once() -> None:
    question = {"id": "q1", "value": {"question": "ok?"}}
    events = [
        frame("updates", {"__interrupt__": [question]}, SUB),
        frame("updates", {"__interrupt__": [question]}),
        frame("values", {"draft": "x", "__interrupt__": [question]}),
        Paused(interrupts=(Interrupt(id="q1", value=raw({"question": "ok?"})),)),
    ]
    got = told(*events, run=GRAPH)
    asked = {"interrupt_id": "q1", "payload": {"question": "ok?"}, "value": {"question": "ok?"}}
    assert [data for method, data in got if method == "input.requested"] == [asked]
    assert ("values", {"draft": "x"}) in got
    assert got[-1] == ("lifecycle", {"event": "interrupted", "graph_name": "demo"})


def test_an_agent_without_frames_asks_when_it_pauses() -> None:
    paused = Paused(interrupts=(Interrupt(id="q1", value=raw("ok?")), Interrupt(id="q2", value=raw("sure?"))))
    assert [one["payload"] for one in said(paused, method="input.requested")] == ["ok?", "sure?"]


def test_graphs_within_the_graph_begin_and_end() -> None:
    deep = (*SUB, "lowest:9f")
    found = happenings(
        Chronicle(),
        GRAPH,
        log(
            frame("values", {}, deep),
            frame("tasks", {"id": "9f", "name": "lowest", "result": {}, "error": None, "interrupts": []}, SUB),
            frame("tasks", {"id": "7a", "name": "inner", "result": None, "error": "boom", "interrupts": []}),
            frame("values", {}, ("other:1",)),
            Completed(),
        ),
        frames=True,
    )
    lives = [(one["params"]["namespace"], one["params"]["data"]) for one in found if one["method"] == "lifecycle"]
    assert lives == [
        ([], {"event": "running", "graph_name": "demo"}),
        ([*SUB], {"event": "started", "graph_name": "inner", "namespace": [*SUB], "trigger_call_id": "7a"}),
        ([*deep], {"event": "started", "graph_name": "lowest", "namespace": [*deep], "trigger_call_id": "9f"}),
        ([*deep], {"event": "completed", "graph_name": "lowest"}),
        ([*SUB], {"event": "failed", "graph_name": "inner", "error": "boom"}),
        (["other:1"], {"event": "started", "graph_name": "other", "namespace": ["other:1"], "trigger_call_id": "1"}),
        (["other:1"], {"event": "completed", "graph_name": "other"}),
        ([], {"event": "completed", "graph_name": "demo"}),
    ]


@pytest.mark.parametrize(
    ("final", "life"),
    [
        (Failed(code="x", message="boom"), {"event": "failed", "graph_name": "demo", "error": "boom"}),
        (Cancelled(), {"event": "interrupted", "graph_name": "demo"}),
    ],
)
def test_a_message_that_is_broken_off_is_said_to_be(final: Event, life: dict[str, Any]) -> None:
    got = told(TextDelta(text="Hel", part="a"), final)
    assert [(method, data.get("event")) for method, data in got][-2:] == [
        ("messages", "error"),
        ("lifecycle", life["event"]),
    ]
    assert got[-1][1] == life


def test_a_run_that_was_cancelled_before_it_began_is_not_told_of() -> None:
    assert happenings(Chronicle(), PLAIN, [Entry(1, AT, Cancelled())], frames=False) == []


def test_of_a_run_that_is_not_kept_the_end_is_told() -> None:
    for final, life in ((Cancelled(), "interrupted"), (Completed(), "completed")):
        [one] = happenings(Chronicle(), PLAIN, [Entry(7, AT, final)], frames=False)
        assert one["params"]["data"] == {"event": life, "graph_name": "demo"}


def test_a_run_that_failed_before_it_began_is_told_to_have_failed() -> None:
    [one] = happenings(Chronicle(), PLAIN, [Entry(1, AT, Failed(code="x", message="gone"))], frames=False)
    assert one["params"]["data"] == {"event": "failed", "graph_name": "demo", "error": "gone"}


def test_a_message_that_cannot_be_read_is_passed_over() -> None:
    strange = [frame("messages", data) for data in ("text", [1, 2], [{"type": 5}, {}], [{"id": []}, {}])]
    assert said(*strange, Completed(), run=GRAPH) == []

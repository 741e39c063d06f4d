"""What a graph's stream becomes."""

import asyncio
from typing import Any

import msgspec
import pytest

from proxy.errors import RateLimited, UpstreamError, UpstreamRefused, UpstreamTimeout
from proxy.events import (
    Completed,
    Custom,
    Event,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from proxy.messages import Message, Tool, ToolFunction
from tests.adapters import graphs
from tests.adapters.busy_graphs import Holding
from tests.adapters.langgraph_runs import agent, events_of, played, run_of, text, texts


def play(graph: str, run: Any = None, **options: Any) -> list[Event]:
    return asyncio.run(played(graph, run, **options))


def calls(events: list[Event]) -> list[ToolCallDelta]:
    return [event for event in events if isinstance(event, ToolCallDelta)]


def test_each_token_is_a_piece_of_one_message() -> None:
    events = play("chat")
    assert texts(events) == ["Hel", "lo"]
    assert len({event.part for event in events if isinstance(event, TextDelta)}) == 1
    assert all(event.path == () for event in events if isinstance(event, TextDelta))


def test_the_stream_ends_in_one_final_event_with_the_models_reason() -> None:
    events = play("chat")
    assert [event for event in events if isinstance(event, Completed)] == [Completed(finish_reason="length")]
    assert events[-1] == Completed(finish_reason="length")


def test_usage_is_told_once_for_a_streaming_model() -> None:
    spent = [event for event in play("chat") if isinstance(event, Usage)]
    assert spent == [Usage(model="m-1", input_tokens=5, output_tokens=2, cached_tokens=3, reasoning_tokens=1)]


@pytest.mark.parametrize("graph", ["unstreamed", "foreign"])
def test_usage_is_told_once_for_a_message_that_did_not_stream(graph: str) -> None:
    assert [event for event in play(graph) if isinstance(event, Usage)] == [Usage(input_tokens=5, output_tokens=2)]


@pytest.mark.parametrize("graph", ["quiet", "nested"])
def test_a_model_call_that_is_not_shown_counts_too(graph: str) -> None:
    assert sum(isinstance(event, Usage) for event in play(graph)) == {"quiet": 2, "nested": 1}[graph]


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ("unstreamed", "whole"),
        ("written", "written"),
        ("loose", "loose"),
        ("jumping", "jumped"),
        ("functional", "1 given"),
    ],
)
def test_a_message_that_did_not_stream_is_given_once(graph: str, said: str) -> None:
    assert texts(play(graph)) == [said]


def test_text_that_streamed_is_not_said_again_by_a_node_that_wraps_it() -> None:
    assert text(play("wrapped")) == "same text"


def test_a_graph_that_echoes_its_input_does_not_answer_with_it() -> None:
    history = (Message(role="user", content="a"), Message(role="assistant", content="b"))
    assert texts(play("echo", run_of(*history, "c"))) == ["3 seen"]


def test_models_tagged_nostream_are_not_heard() -> None:
    assert text(play("quiet")) == "loud"


def test_a_nostream_model_alone_still_gives_the_answer() -> None:
    assert texts(play("only_quiet")) == ["hush"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ["one", "two"]),
        ({"include_nodes": ["second"]}, ["two"]),
        ({"exclude_nodes": ["second"]}, ["one"]),
        ({"include_tags": ["final"]}, ["two"]),
        ({"exclude_tags": ["final"]}, ["one"]),
        ({"exclude_nodes": ["first", "second"]}, []),
    ],
)
def test_nodes_and_tags_choose_what_is_the_answer(options: dict[str, Any], said: list[str]) -> None:
    assert texts(play("two", **options)) == said


def test_a_subgraphs_message_arrives_whole_with_the_root_graphs_state() -> None:
    assert texts(play("nested")) == ["deeper", "done"]


def test_a_subgraph_streams_under_its_name_if_asked() -> None:
    said = [event for event in play("nested", subgraphs=True) if isinstance(event, TextDelta)]
    assert [(event.text, event.path) for event in said] == [("deep", ("inner",)), ("er", ("inner",)), ("done", ())]


def test_reasoning_is_apart_from_the_answer_in_each_providers_form() -> None:
    events = play("thinking")
    assert [event.text for event in events if isinstance(event, ReasoningDelta)] == ["hm", "mm", "so"]
    assert texts(events) == ["42"]


def test_the_agents_own_tool_use_is_not_the_clients() -> None:
    events = play("tools")
    assert {(call.call_id, call.name, call.client, call.index) for call in calls(events)} == {("c1", "add", False, 0)}
    assert msgspec.json.decode("".join(call.arguments for call in calls(events))) == {"a": 1, "b": 2}
    assert [event for event in events if isinstance(event, ToolResult)] == [ToolResult(call_id="c1", output="3")]
    assert text(events) == "three"
    assert events[-1] == Completed(finish_reason="stop")


OFFERED = (Tool(type="function", function=ToolFunction(name="weather", parameters=msgspec.Raw(b'{"type":"object"}'))),)


def test_a_call_of_an_offered_tool_is_the_clients_and_ends_the_turn() -> None:
    events = play("offering", run_of(tools=OFFERED))
    assert {(call.call_id, call.name, call.client) for call in calls(events)} == {("c9", "weather", True)}
    assert events[-1] == Completed(finish_reason="tool_calls")


def test_the_result_of_a_client_tool_goes_on_with_the_conversation() -> None:
    history = (
        Message(role="user", content="rain?"),
        msgspec.convert(
            {
                "role": "assistant",
                "tool_calls": [{"id": "c9", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
            },
            Message,
        ),
        Message(role="tool", content="wet", tool_call_id="c9"),
    )
    events = play("offering", run_of(*history, tools=OFFERED))
    assert text(events) == "it is wet"
    assert events[-1] == Completed(finish_reason="stop")


def test_halves_of_characters_never_reach_the_log() -> None:
    assert text(play("half")) == "a\ufffd\ufffdé\ufffd"


def test_what_a_node_writes_to_the_stream_is_custom() -> None:
    told = [event for event in play("custom") if isinstance(event, Custom)]
    assert [event.name for event in told] == ["custom"]
    payload = msgspec.json.decode(told[0].data)
    assert (payload["progress"], payload["half"]) == (1, "\ufffd")
    assert payload["of"] == {"text": "x"}
    assert payload["message"]["content"] == "m"


def test_max_steps_end_a_run_that_goes_round_in_circles() -> None:
    events = play("endless", run_of(max_steps=3))
    assert texts(events) == ["more "] * 3
    assert events[-1] == Completed(finish_reason="length", stop_reason="max_steps")


def test_a_graph_of_plain_keys_gets_text_and_gives_text() -> None:
    events = play("question", run_of("why?"), input_key="question", output_key="answer")
    assert texts(events) == ["You asked: why?"]


def test_the_graphs_own_input_is_passed_as_it_is() -> None:
    run = run_of(messages=(), input=msgspec.Raw(b'{"question": "raw?"}'))
    assert texts(play("question", run, input_key="question", output_key="answer")) == ["You asked: raw?"]


@pytest.mark.parametrize(
    ("graph", "kind", "retryable"),
    [
        ("rate_limited", RateLimited, True),
        ("refused", UpstreamRefused, False),
        ("timed_out", UpstreamTimeout, True),
        ("unreachable", UpstreamError, True),
        ("broken_upstream", UpstreamError, True),
        ("bad_request", UpstreamError, False),
    ],
)
def test_a_failure_of_the_model_is_told_in_our_words(graph: str, kind: type[UpstreamError], retryable: bool) -> None:
    with pytest.raises(UpstreamError) as caught:
        play(graph)
    assert type(caught.value) is kind
    assert caught.value.retryable is retryable
    assert "secret" not in caught.value.message


def test_a_rate_limit_passes_on_how_long_to_wait() -> None:
    with pytest.raises(RateLimited) as caught:
        play("rate_limited")
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(("graph", "kind"), [("buggy", "ValueError"), ("tool_timeout", "ReadTimeout")])
def test_any_other_failure_is_the_agents_own(graph: str, kind: str) -> None:
    with pytest.raises(Exception) as caught:
        play(graph)
    assert type(caught.value).__name__ == kind


@pytest.fixture
def holding(monkeypatch: pytest.MonkeyPatch) -> Holding:
    made = Holding()
    monkeypatch.setattr(graphs, "held", made.graph, raising=False)
    return made


def test_cancelling_stops_the_graph_and_runs_its_finally(holding: Holding) -> None:
    async def main() -> None:
        async with agent("held") as adapter:
            task = asyncio.create_task(events_of(adapter))
            await holding.waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert holding.ended == ["cancelled", "finally"]
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_closing_the_stream_stops_the_graph_and_runs_its_finally(holding: Holding) -> None:
    async def main() -> None:
        async with agent("held") as adapter:
            stream = adapter.stream(run_of())
            assert isinstance(await anext(stream), TextDelta)
            await holding.waiting.wait()
            await stream.aclose()
            assert holding.ended == ["cancelled", "finally"]
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())

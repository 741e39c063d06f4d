"""OpenAI's messages as LangChain's, and tool calls in pieces."""

from typing import Any

import msgspec
from langchain_core.messages import AIMessage, FunctionMessage, HumanMessage, SystemMessage, ToolMessage

from adapters.langgraph.calls import Calls
from adapters.langgraph.messages import to_langchain
from proxy.events import PendingCall, ToolCallDelta
from proxy.messages import Message

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
FILE = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}}
TEXT = {"type": "text", "text": "what is this?"}


def converted(*messages: dict[str, Any]) -> list[Any]:
    return to_langchain(msgspec.convert(messages, tuple[Message, ...]), "r")


def test_each_role_has_its_class() -> None:
    got = converted(
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "u", "name": "ann"},
        {"role": "assistant", "content": "a"},
        {"role": "tool", "content": "t", "tool_call_id": "c"},
        {"role": "function", "content": "f", "name": "fn"},
    )
    kinds = [SystemMessage, SystemMessage, HumanMessage, AIMessage, ToolMessage, FunctionMessage]
    assert [type(message) for message in got] == kinds
    assert [message.content for message in got] == list("sduatf")
    assert (got[2].name, got[4].tool_call_id, got[5].name) == ("ann", "c", "fn")


def test_each_message_has_an_id_of_its_own() -> None:
    assert [message.id for message in converted({"role": "user"}, {"role": "user"})] == ["r-0", "r-1"]


def test_images_sound_and_files_keep_openais_form() -> None:
    (message,) = converted({"role": "user", "content": [TEXT, IMAGE, AUDIO, FILE]})
    assert message.content == [TEXT, IMAGE, AUDIO, FILE]


def test_tool_calls_are_parsed_and_bad_ones_kept_apart() -> None:
    calls = [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1]}'}},
        {"id": "2", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"id": "3", "type": "function", "function": {"name": "h", "arguments": "{half"}},
        {"id": "4", "type": "custom", "custom": {"name": "c", "input": "free"}},
    ]
    (message,) = converted({"role": "assistant", "content": None, "tool_calls": calls})
    assert message.content == ""
    assert [(call["id"], call["name"], call["args"]) for call in message.tool_calls] == [
        ("1", "f", {"a": [1]}),
        ("2", "g", {}),
        ("4", "c", {"input": "free"}),
    ]
    assert [(call["id"], call["args"]) for call in message.invalid_tool_calls] == [("3", "{half")]


def test_reasoning_and_refusal_stay_with_the_assistants_message() -> None:
    (message,) = converted({"role": "assistant", "content": "x", "reasoning_content": "hm", "refusal": "no"})
    assert message.additional_kwargs == {"reasoning_content": "hm", "refusal": "no"}


def test_a_description_of_an_object_stays_text() -> None:
    evil = '{"lc": 1, "type": "constructor", "id": ["langchain_core", "messages", "AIMessage"], "kwargs": {}}'
    (message,) = converted({"role": "user", "content": evil})
    assert isinstance(message, HumanMessage)
    assert message.content == evil


def pieces(calls: Calls, *chunks: dict[str, Any]) -> list[ToolCallDelta]:
    return [delta for chunk in chunks for delta in calls.streamed("m", [chunk], ())]


def said(deltas: list[ToolCallDelta]) -> dict[tuple[str, str, int], str]:
    joined: dict[tuple[str, str, int], str] = {}
    for delta in deltas:
        key = (delta.call_id, delta.name, delta.index)
        joined[key] = joined.get(key, "") + delta.arguments
    return joined


def test_id_and_name_stand_on_each_piece_of_interleaved_calls() -> None:
    deltas = pieces(
        Calls(frozenset()),
        {"index": 0, "id": "a", "name": "f", "args": ""},
        {"index": 1, "id": "b", "name": "g", "args": "[1"},
        {"index": 0, "args": "{}"},
        {"index": 1, "args": ",2]"},
    )
    assert said(deltas) == {("a", "f", 0): "{}", ("b", "g", 1): "[1,2]"}


def test_calls_that_share_an_index_are_told_apart_by_their_ids() -> None:
    deltas = pieces(
        Calls(frozenset()),
        {"index": 0, "id": "a", "name": "f", "args": "{}"},
        {"index": 0, "id": "b", "name": "g", "args": "["},
        {"index": 0, "args": "]"},
    )
    assert said(deltas) == {("a", "f", 0): "{}", ("b", "g", 1): "[]"}


def test_calls_without_an_index_go_on_until_the_next_id() -> None:
    deltas = pieces(
        Calls(frozenset()), {"id": "a", "name": "f", "args": "{"}, {"args": "}"}, {"id": "b", "name": "g", "args": "1"}
    )
    assert said(deltas) == {("a", "f", 0): "{}", ("b", "g", 1): "1"}


def test_a_call_without_an_id_gets_one_and_waits_for_its_name() -> None:
    deltas = pieces(Calls(frozenset()), {"index": 0, "args": "{"}, {"index": 0, "name": "f", "args": "}"})
    assert said(deltas) == {("call_m_0", "f", 0): "{}"}


def test_a_clients_call_waits_until_it_is_answered() -> None:
    calls = Calls(frozenset({"f"}))
    pieces(calls, {"index": 0, "id": "a", "name": "f", "args": '{"x"'}, {"index": 0, "args": ": 1}"})
    pieces(calls, {"index": 1, "id": "b", "name": "g", "args": "{}"})
    assert calls.waiting() == (PendingCall(call_id="a", name="f", arguments='{"x": 1}'),)
    assert list(calls.answered("a")) == []
    assert calls.waiting() == ()


def test_a_call_without_arguments_becomes_an_empty_object_at_its_end() -> None:
    calls = Calls(frozenset())
    pieces(calls, {"index": 0, "id": "a", "name": "f", "args": ""}, {"index": 1, "id": "b", "name": "g", "args": ""})
    assert [(delta.call_id, delta.arguments) for delta in calls.answered("a")] == [("a", "{}")]
    assert [(delta.call_id, delta.arguments) for delta in calls.close()] == [("b", "{}")]
    assert list(calls.close()) == []


def test_a_whole_call_is_told_once_while_it_waits() -> None:
    message = AIMessage("", id="m", tool_calls=[{"id": "a", "name": "f", "args": {"x": 1}}])
    calls = Calls(frozenset())
    assert [delta.arguments for delta in calls.whole(message, ())] == ['{"x": 1}']
    assert list(calls.whole(message, ())) == []
    assert list(calls.answered("a")) == []
    assert len(list(calls.whole(message, ()))) == 1

"""A state of messages changes by LangGraph's rules, and its messages have one form whoever wrote them."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.graph.message import add_messages
from msgspec import Raw

from proxy.events import (
    Cancelled,
    Completed,
    Event,
    Failed,
    Interrupt,
    Paused,
    PendingCall,
    TextDelta,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from proxy.messages import Function, Message, ToolCall
from proxy.wire.conversation import Conversation, listed
from proxy.wire.frames import FrameMaker
from tests.wire.entries import START, raw

CONVERSATION = Conversation()
CLASSES: dict[str, type[BaseMessage]] = {
    "human": HumanMessage,
    "ai": AIMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
    "remove": RemoveMessage,
}
CALL = {"name": "find", "args": {"q": 1}, "id": "c", "type": "tool_call"}
TOKENS = {
    "input_tokens": 1,
    "output_tokens": 2,
    "total_tokens": 3,
    "input_token_details": {},
    "output_token_details": {},
}
ALL = "__remove_all__"
EMPTY = Raw(b"{}")


def human(text: str, id: str) -> dict[str, Any]:
    return {"type": "human", "content": text, "id": id}


def ai(text: str, id: str, **fields: Any) -> dict[str, Any]:
    return {"type": "ai", "content": text, "id": id, **fields}


def gone(id: str) -> dict[str, Any]:
    return {"type": "remove", "content": "", "id": id}


def state(given: Any, values: Raw = EMPTY, seed: str = "run") -> list[dict[str, Any]]:
    """The messages of the state after this was given."""
    return [msgspec.json.decode(message) for message in listed(CONVERSATION.apply(values, raw(given), seed))]


def official(messages: list[dict[str, Any]]) -> list[Any]:
    return [CLASSES[message["type"]](**message) for message in messages]


@pytest.mark.parametrize(
    "given",
    [
        [human("more", "3")],
        [human("edited", "1")],
        [ai("a", "3"), ai("b", "3"), human("c", "4")],
        [gone("1")],
        [gone("2"), human("c", "2")],
        [human("c", "2"), gone("2")],
        [gone("1"), gone("2")],
        [gone(ALL)],
        [human("x", "7"), gone(ALL), human("y", "8"), human("z", "9")],
        [ai("", "3", tool_calls=[CALL], usage_metadata=TOKENS, response_metadata={"model": "m"})],
        [{"type": "tool", "content": "42", "tool_call_id": "c", "id": "3", "artifact": [1], "status": "error"}],
        [human("hi", "3") | {"name": "me", "additional_kwargs": {"k": 1}}],
        [{"type": "human", "id": "3", "content": [{"type": "text", "text": "a"}, {"type": "image", "base64": "x"}]}],
        [ai("", "3", invalid_tool_calls=[{**CALL, "args": "{", "type": "invalid_tool_call", "error": None}])],
        [{"type": "system", "content": "be brief", "id": "3"}],
        [],
    ],
)
def test_messages_join_a_state_as_langgraph_itself_joins_them(given: list[dict[str, Any]]) -> None:
    left = [human("a", "1"), ai("b", "2")]
    joined = add_messages(official(left), official(given))
    assert isinstance(joined, list)
    known = CONVERSATION.apply(EMPTY, raw({"messages": left}), "")
    assert state({"messages": given}, known) == [message.model_dump(mode="json") for message in joined]


PLAIN = {"additional_kwargs": {}, "response_metadata": {}, "name": None}
HI = {"content": "hi", **PLAIN, "type": "human"}


@pytest.mark.parametrize(
    "given",
    [
        "hi",
        ["hi"],
        ["user", "hi"],
        [["human", "hi"]],
        {"messages": "hi"},
        {"messages": {"role": "user", "content": "hi"}},
        [{"role": "user", "content": "hi"}],
        [{"type": "human", "content": "hi"}],
        [{"type": "human", "content": "hi", "id": None, "example": False}],
    ],
)
def test_every_form_of_a_message_becomes_one_form(given: Any) -> None:
    (message,) = state(given)
    assert uuid.UUID(message.pop("id"))
    assert message == HI


def test_an_openai_message_with_calls_becomes_langchains() -> None:
    function = {"name": "find", "arguments": '{"q":1}'}
    calls = [{"id": "c", "type": "function", "function": function}]
    (asking, answer) = state(
        [
            {"role": "assistant", "content": None, "tool_calls": calls, "id": "a"},
            {"role": "tool", "tool_call_id": "c", "content": "42", "id": "t"},
        ]
    )
    assert asking == AIMessage(content="", tool_calls=[CALL], id="a").model_dump(mode="json")
    assert answer == ToolMessage(content="42", tool_call_id="c", id="t").model_dump(mode="json")


def test_a_message_without_an_id_gets_the_same_again_from_the_same_seed() -> None:
    one, other = state(["a", "b"]), state(["a", "b"], seed="other")
    assert one == state(["a", "b"])
    assert len({message["id"] for message in (*one, *other)}) == 4


def test_messages_that_are_not_touched_stay_byte_for_byte() -> None:
    values = Raw(b'{"messages": [{"id": "1",  "type":"ai", "content": "a", "extra": 1.50}]}')
    known, _ = listed(CONVERSATION.apply(values, raw("hi"), ""))
    assert bytes(known) == b'{"id": "1",  "type":"ai", "content": "a", "extra": 1.50}'


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"messages": [], "topic": "x", "a": 1}, "nothing else, not `a`, `topic`"),
        ({"role": "user", "content": "hi"}, "nothing else, not `content`, `role`"),
        (["hi", 7], r"messages\[1\]: a message is an object"),
        ([{"content": "hi"}], r"messages\[0\]: neither `role` nor `type`"),
        ([{"role": "chat", "content": "hi"}], r"messages\[0\]: `chat` is no role"),
        ([{"role": "user"}], r"messages\[0\]: the message has no `content`"),
        ([{"type": "tool", "content": "42"}], r"messages\[0\]: .* `tool_call_id`"),
        ([{"type": "human", "content": "hi", "id": 7}], r"messages\[0\]: an id is a text"),
        ([{"type": "human", "content": ["hi"]}], r"messages\[0\]: Expected"),
        ([gone("nope")], r"messages\[0\]: the thread has no message `nope` to remove"),
        ([{"type": "remove", "id": ["x"]}], r"messages\[0\]: an id is a text"),
        ([{"type": "remove"}], r"messages\[0\]: the thread has no message"),
        (7, r"messages\[0\]: a message is"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_place(given: Any, said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        state(given)


def asking(*ids: str, text: str = "") -> Message:
    calls = tuple(ToolCall(id=id, function=Function(name="f", arguments="{}")) for id in ids)
    return Message(role="assistant", content=text, tool_calls=calls or None)


def result(id: str) -> Message:
    return Message(role="tool", content="42", tool_call_id=id)


USER = Message(role="user", content="hi")


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ([USER, asking("c"), result("c"), USER], [USER, asking("c"), result("c"), USER]),
        ([USER, asking("c")], [USER]),
        ([USER, asking("c", text="Well.")], [USER, asking(text="Well.")]),
        ([USER, asking("c", "d"), result("d")], [USER, asking("d"), result("d")]),
        ([asking("c"), USER, asking("c"), result("c")], [USER, asking("c"), result("c")]),
        ([], []),
    ],
)
def test_an_agent_is_given_no_call_that_nobody_answered(said: list[Message], heard: list[Message]) -> None:
    assert CONVERSATION.messages(CONVERSATION.follow(EMPTY, said, "run")) == tuple(heard)


def test_an_agent_whose_question_is_answered_is_given_the_calls_that_it_waits_with() -> None:
    said = [asking("a"), USER, asking("b", "c"), result("c")]
    values = CONVERSATION.follow(EMPTY, said, "run")
    assert CONVERSATION.messages(values, waiting=True) == tuple(said[1:])


def test_an_agent_is_given_its_thoughts_of_this_turn_only() -> None:
    thought = msgspec.structs.replace(asking("c"), reasoning_content="hm")
    values = CONVERSATION.follow(EMPTY, [USER, thought, result("c"), USER, thought, result("c")], "run")
    assert b'"reasoning_content":"hm"' in bytes(listed(values)[1])
    heard = CONVERSATION.messages(values)
    assert [message.reasoning_content for message in heard] == [None, None, None, None, "hm", None]


def test_a_call_that_cannot_be_read_reaches_the_agent_as_it_was_written() -> None:
    broken = ToolCall(id="c", function=Function(name="f", arguments='{"a":'))
    said = (Message(role="assistant", content="", tool_calls=(broken,)), result("c"))
    assert CONVERSATION.messages(CONVERSATION.follow(EMPTY, said, "run")) == said


def test_what_a_client_shows_again_keeps_its_ids() -> None:
    first = CONVERSATION.follow(EMPTY, [USER, asking("c"), result("c"), USER], "one")
    ids = [message["id"] for message in state([], first)]
    assert ids == ["one-0", "one-1", "one-2", "one-3"]
    shown = CONVERSATION.follow(first, [USER, asking("c"), result("c"), USER, USER], "two")
    assert [message["id"] for message in state([], shown)] == [*ids, "two-4"]
    edited = CONVERSATION.follow(first, [USER, asking("d"), result("c")], "two")
    assert [message["id"] for message in state([], edited)] == ["one-0", "two-1", "two-2"]


def call(id: str, **fields: Any) -> ToolCallDelta:
    return ToolCallDelta(call_id=id, name="find", arguments='{"q":1}', **fields)


BEFORE = raw({"messages": [human("hi", "h")]})
SAID: list[Event] = [
    TextDelta(text="Let me see."),
    call("c"),
    Usage(output_tokens=3),
    ToolResult(call_id="c", output="42"),
    TextDelta(text="It is 42."),
]


@pytest.mark.parametrize(
    "final",
    [
        Completed(),
        Paused(interrupts=(Interrupt(id="i"),)),
        Paused(calls=(PendingCall(call_id="c", name="find"),)),
        Failed(code="x", message="y"),
        Cancelled(),
    ],
)
def test_what_a_run_leaves_is_what_its_readers_saw(final: Event) -> None:
    maker, fold = FrameMaker(frozenset({"values"}), before=listed(BEFORE)), CONVERSATION.fold(BEFORE)
    seen = Raw(b"")
    for event in (START, *SAID, final):
        fold.feed(event)
        for frame in maker.frames(event):
            if b"__interrupt__" not in bytes(frame.data):
                seen = frame.data
    assert fold.values() == seen
    types = [message["type"] for message in state([], fold.values())]
    whole = isinstance(final, Completed | Paused)
    assert types == ["human", "ai", "tool", *(["ai"] if whole else [])]


@pytest.mark.parametrize(
    ("said", "final", "left"),
    [
        ([call("c"), call("d"), ToolResult(call_id="d", output="1")], Cancelled(), [["d"]]),
        ([call("c"), TextDelta(text="x", part="2"), TextDelta(text="y", part="3")], Cancelled(), [[]]),
        ([call("c"), call("d"), ToolResult(call_id="d", output="1")], Completed(), [["c", "d"]]),
        ([call("c", client=True)], Paused(calls=(PendingCall(call_id="c", name="find"),)), [["c"]]),
    ],
)
def test_a_run_that_broke_leaves_no_call_without_a_result(
    said: list[Event], final: Event, left: list[list[str]]
) -> None:
    fold = CONVERSATION.fold(BEFORE)
    for event in (START, *said, final):
        fold.feed(event)
    known = [message for message in state([], fold.values()) if message["type"] == "ai"]
    assert [[call["id"] for call in message["tool_calls"]] for message in known] == left


def test_calls_of_earlier_turns_are_not_touched_by_a_run_that_broke() -> None:
    before = raw({"messages": [ai("", "a", tool_calls=[CALL])]})
    fold = CONVERSATION.fold(before)
    for event in (START, call("c"), TextDelta(text="x", part="2"), Cancelled()):
        fold.feed(event)
    assert state([], fold.values()) == [ai("", "a", tool_calls=[CALL])]


def test_a_message_never_takes_the_id_of_one_that_the_thread_has() -> None:
    before = raw({"messages": [ai("", "p"), {"type": "tool", "id": "c-result", "content": "", "tool_call_id": "c"}]})
    fold = CONVERSATION.fold(before)
    for event in (START, call("c", part="p"), ToolResult(call_id="c", output="1"), Completed()):
        fold.feed(event)
    ids = [message["id"] for message in state([], fold.values())]
    assert len(ids) == len(set(ids)) == 4

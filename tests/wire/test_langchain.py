from __future__ import annotations

from typing import Any

import msgspec
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from msgspec import Raw

from proxy.messages import Function, ImageURL, Message, Part, ToolCall
from proxy.wire.langchain import langchain, messages_of
from tests.wire.entries import raw

IMAGE = Part(type="image_url", image_url=ImageURL(url="http://x/y.png"))
CALLED = ToolCall(id="c1", function=Function(name="f", arguments='{"a":1}'))
BROKEN = ToolCall(id="c2", function=Function(name="g", arguments='{"a":'))
CLASSES: dict[str, type[BaseMessage]] = {
    "human": HumanMessage,
    "ai": AIMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
}


@pytest.mark.parametrize(
    "message",
    [
        Message(role="user", content="hi", name="me"),
        Message(role="user", content=(Part(type="text", text="look"), IMAGE)),
        Message(role="system", content="be brief"),
        Message(role="developer", content="be brief"),
        Message(role="assistant", content=None, tool_calls=(CALLED,), reasoning_content="hm"),
        Message(role="tool", content="42", tool_call_id="c1"),
    ],
)
def test_a_message_is_what_langchain_itself_would_write(message: Message) -> None:
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(langchain(message, "m")))
    official = CLASSES[plain["type"]](**plain)
    assert official.model_dump(mode="json") == plain


def test_a_call_that_cannot_be_read_is_kept_apart() -> None:
    message = langchain(Message(role="assistant", tool_calls=(CALLED, BROKEN)), "m")
    plain = msgspec.json.decode(msgspec.json.encode(message))
    assert [call["id"] for call in plain["tool_calls"]] == ["c1"]
    assert [(call["id"], call["args"]) for call in plain["invalid_tool_calls"]] == [("c2", '{"a":')]


def test_a_message_comes_back_as_it_was() -> None:
    messages = (
        Message(role="user", content=(Part(type="text", text="look"), IMAGE), name="me"),
        Message(role="assistant", content="", tool_calls=(CALLED,), reasoning_content="hm"),
        Message(role="tool", content="42", tool_call_id="c1"),
    )
    written = [msgspec.json.decode(msgspec.json.encode(langchain(message, "m"))) for message in messages]
    assert messages_of(raw({"messages": written})) == messages


HI = Message(role="user", content="hi")


@pytest.mark.parametrize(
    ("input", "messages"),
    [
        ("hi", (HI,)),
        (["hi"], (HI,)),
        ({"messages": "hi"}, (HI,)),
        ({"messages": {"role": "user", "content": "hi"}}, (HI,)),
        ({"messages": [{"type": "human", "content": "hi"}], "other": 1}, (HI,)),
        ({"messages": [["human", "hi"], ("ai", "yes")]}, (HI, Message(role="assistant", content="yes"))),
        (["user", "hi"], (HI,)),
        ([{"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f"}}]}], None),
        (
            [{"role": "assistant", "content": "a", "reasoning_content": "hm"}],
            (Message(role="assistant", content="a", reasoning_content="hm"),),
        ),
        ({"question": "hi"}, ()),
        ({"messages": []}, ()),
        (None, ()),
    ],
)
def test_the_conversation_in_an_input_is_found(input: Any, messages: tuple[Message, ...] | None) -> None:
    found = messages_of(raw(input))
    if messages is None:
        assert found[0].tool_calls == (ToolCall(id="c1", function=Function(name="f")),)
    else:
        assert found == messages


@pytest.mark.parametrize(
    ("input", "place"),
    [
        (b'["hi", 7]', r"messages\[1\]: a message is"),
        (b'{"messages": [{"content": "hi"}]}', r"messages\[0\]: neither `role` nor `type`"),
        (b'{"messages": [{"role": "user", "content": 5}]}', r"messages\[0\]: Expected .* - at `\$.content`"),
        (b'{"messages": [{"role": "ai", "tool_calls": [7]}]}', r"messages\[0\]: .*tool_calls"),
        (b'{"messages": [{"role": "ai", "tool_calls": 7}]}', r"messages\[0\]: .*tool_calls"),
    ],
)
def test_what_cannot_be_read_is_named(input: bytes, place: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=place):
        messages_of(Raw(input))

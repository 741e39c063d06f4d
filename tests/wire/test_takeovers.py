"""What each wire tells of a run that lost its process and goes on in the same log."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy.events import Completed, Entry, Event, ReasoningDelta, RunStarted, TextDelta, ToolResult, Usage
from proxy.wire.chat import ChatEncoder, Head
from proxy.wire.chat_answer import ChatFold
from proxy.wire.completion import CompletionEncoder, CompletionFold, Origin
from proxy.wire.conversation import Conversation
from proxy.wire.frames import FrameMaker
from proxy.wire.langgraph import DEERFLOW, OFFICIAL, LangGraphEncoder
from proxy.wire.shown import Shown
from tests.wire.entries import RUN, log, own, payloads, raw
from tests.wire.narration import said
from tests.wire.test_langgraph import read

HEAD = Head(id="chatcmpl-1", created=1700000000, model="demo")
ORIGIN = Origin(run_id=RUN, agent="demo", conversation_id="c")
AGAIN = RunStarted(run_id=RUN, thread_id="t-1", agent="demo", attempt=2, resumes_after=3)
HALF, WHOLE = TextDelta(text="Hel", part="a"), TextDelta(text="Hello", part="b")


def messages(*events: Event) -> list[tuple[str, str]]:
    """(type, content) of what a run's messages come to."""
    fold = Conversation().fold(raw({"messages": []}))
    for entry in log(*events):
        fold.feed(entry.event)
    values: Any = msgspec.json.decode(fold.values())
    return [(message["type"], message["content"]) for message in values["messages"]]


def test_a_chat_stream_that_has_said_something_ends_and_says_nothing_of_the_second_attempt() -> None:
    encoder = ChatEncoder(HEAD, Shown())
    bodies = [encoder.encode(entry) for entry in log(HALF, AGAIN, HALF, WHOLE, Completed())]
    chunks = payloads(bodies)
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks[:-1]] == ["", "Hel"]
    assert chunks[-1]["error"]["code"] == "worker_lost"
    assert encoder.ended
    assert bodies[3:] == [b"", b"", b""]
    assert encoder.end() == b"data: [DONE]\n\n"


@pytest.mark.parametrize("before", [(), (Usage(input_tokens=1),), (own("c", "search", "{}"),)])
def test_a_chat_stream_that_has_said_nothing_goes_on(before: tuple[Event, ...]) -> None:
    encoder = ChatEncoder(HEAD, Shown())
    chunks = payloads(encoder.encode(entry) for entry in log(*before, AGAIN, WHOLE, Completed()))
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "Hello", None]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("before", "lost"), [((HALF,), True), ((ReasoningDelta(text="hm"),), True), ((own("c", "search", "{}"),), False)]
)
def test_a_whole_chat_answer_fails_that_would_be_of_two_attempts(before: tuple[Event, ...], lost: bool) -> None:
    folds: list[Any] = [ChatFold(HEAD, Shown()), CompletionFold(ORIGIN, Shown())]
    for fold in folds:
        for entry in log(*before, AGAIN, WHOLE, Completed()):
            fold.feed(entry)
        assert (fold.failed is not None) is lost
        if lost:
            assert (fold.failed.code, fold.failed.status, fold.failed.retryable) == ("worker_lost", 503, True)


def test_the_simple_form_ends_likewise() -> None:
    encoder = CompletionEncoder(ORIGIN, Shown())
    bodies = [encoder.encode(entry) for entry in log(HALF, AGAIN, WHOLE, Completed())]
    chunks = payloads(bodies)
    assert [chunk["content"] for chunk in chunks] == ["", "Hel", ""]
    assert (chunks[-1]["error"], chunks[-1]["done"]) == ("worker_lost", True)
    assert bodies[3:] == [b"", b""]


@pytest.mark.parametrize(
    ("dialect", "first", "again"),
    [
        (OFFICIAL, {"run_id": RUN, "attempt": 1}, {"run_id": RUN, "attempt": 2, "resumes_after": 3}),
        (
            DEERFLOW,
            {"run_id": RUN, "thread_id": "t-1"},
            {"run_id": RUN, "thread_id": "t-1", "attempt": 2, "resumes_after": 3},
        ),
    ],
)
def test_langgraphs_streams_tell_the_attempt_and_up_to_where_they_count(dialect: Any, first: Any, again: Any) -> None:
    wire = LangGraphEncoder(dialect)
    entries = [*log(HALF), Entry(10_004, 1.0, AGAIN)]
    found = read(b"".join(wire.encode(entry) for entry in entries))
    assert found == [("metadata", first, "1"), ("metadata", again, "10004")]


def test_what_was_being_said_is_dropped_for_it_is_said_again() -> None:
    assert messages(HALF, AGAIN, WHOLE, Completed()) == [("ai", "Hello")]
    assert messages(HALF, TextDelta(text="lo", part="a"), AGAIN, TextDelta(text="Hello", part="a"), Completed()) == [
        ("ai", "Hello")
    ]


def test_what_was_whole_counts() -> None:
    counted = messages(HALF, Usage(input_tokens=1), AGAIN, WHOLE, Completed())
    assert counted == [("ai", "Hel"), ("ai", "Hello")]
    followed = messages(TextDelta(text="one", part="a"), TextDelta(text="tw", part="b"), AGAIN, WHOLE, Completed())
    assert followed == [("ai", "one"), ("ai", "Hello")]


def test_a_call_that_gets_its_result_in_the_next_attempt_was_whole() -> None:
    result = ToolResult(call_id="c", output="found")
    assert messages(own("c", "search", "{}"), AGAIN, result, WHOLE, Completed()) == [
        ("ai", ""),
        ("tool", "found"),
        ("ai", "Hello"),
    ]
    again = own("c", "search", "{}")
    assert messages(own("c", "sea"), AGAIN, again, result, Completed()) == [("ai", ""), ("tool", "found")]


def test_values_are_told_anew_without_what_was_dropped() -> None:
    maker = FrameMaker(frozenset({"values"}))
    frames = [frame for entry in log(HALF, AGAIN) for frame in maker.frames(entry.event)]
    assert [msgspec.json.decode(frame.data) for frame in frames] == [{"messages": []}] * 2


def test_the_event_protocol_breaks_the_message_off_and_begins_another() -> None:
    kinds = [one["event"] for one in said(HALF, AGAIN, WHOLE, Completed())]
    assert kinds.count("message-start") == 2
    assert kinds.index("error") < len(kinds) - 1 - kinds[::-1].index("message-start")
    assert kinds[-1] == "message-finish"

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy.events import (
    Cancelled,
    Completed,
    Event,
    Failed,
    Interrupt,
    Paused,
    ReasoningDelta,
    TextDelta,
    ToolResult,
    Usage,
)
from proxy.wire.completion import CompletionEncoder, CompletionFold, Origin
from proxy.wire.shown import Shown
from tests.wire.entries import RUN, client, log, own, payloads, raw

ORIGIN = Origin(run_id=RUN, agent="demo", conversation_id="c-1")
ABOUT = f'"metadata":{{"run_id":"{RUN}","agent":"demo"'
FIRST = f'data: {{"content":"","done":false,{ABOUT}}},"conversation_id":"c-1"}}\n\n'.encode()


def chunk(content: str) -> bytes:
    return f'data: {{"content":"{content}","done":false,"metadata":{{}},"conversation_id":"c-1"}}\n\n'.encode()


def last(reason: str, spent: str = '"input_tokens":0,"output_tokens":0,"total_tokens":0') -> bytes:
    end = f'{ABOUT},"finish_reason":"{reason}","usage":{{{spent}}}}},"conversation_id":"c-1"}}\n\n'
    return f'data: {{"content":"","done":true,{end}'.encode()


def stream(*events: Event, **options: Any) -> bytes:
    wire = CompletionEncoder(ORIGIN, Shown(), **options)
    body = b"".join(wire.encode(entry) for entry in log(*events))
    assert wire.ended
    return body + wire.end()


def answer(*events: Event) -> Any:
    fold = CompletionFold(ORIGIN, Shown())
    for entry in log(*events):
        fold.feed(entry)
    return msgspec.json.decode(fold.answer())


def test_a_stream_names_its_conversation_first_and_is_done_last() -> None:
    body = stream(Usage(input_tokens=3, output_tokens=2), TextDelta(text="Hel"), TextDelta(text="lo"), Completed())
    spent = '"input_tokens":3,"output_tokens":2,"total_tokens":5'
    assert body == FIRST + chunk("Hel") + chunk("lo") + last("stop", spent)


def test_a_failure_tells_what_and_when_and_is_done_too() -> None:
    body = stream(TextDelta(text="x"), Failed(code="llm_timeout", message="Too slow.", status=504))
    *_, end = payloads([body])
    assert (end["error"], end["detail"]) == ("llm_timeout", "Too slow.")
    assert end["timestamp"] == "2023-11-14T22:13:20.250000+00:00"
    assert (end["done"], end["content"], end["conversation_id"]) == (True, "", "c-1")


def test_an_error_that_is_no_entry_ends_the_stream_in_the_same_way() -> None:
    wire = CompletionEncoder(ORIGIN, Shown())
    (end,) = payloads([wire.failure(Failed(code="internal_error", message="Broken."))])
    assert (end["error"], end["done"], wire.ended) == ("internal_error", True, True)


@pytest.mark.parametrize(
    ("final", "reason"),
    [(Completed(finish_reason="length"), "length"), (Cancelled(), "cancelled"), (Paused(), "interrupt")],
)
def test_the_last_event_says_how_it_ended(final: Event, reason: str) -> None:
    assert stream(final) == FIRST + last(reason)
    assert answer(final)["metadata"]["finish_reason"] == reason


def test_a_question_is_text() -> None:
    paused = Paused(interrupts=(Interrupt(id="i", value=raw("Send it?")),))
    assert stream(paused) == FIRST + chunk("Send it?") + last("interrupt")
    assert answer(paused)["content"] == "Send it?"


def test_reasoning_is_no_content() -> None:
    events: list[Event] = [ReasoningDelta(text="Hm"), TextDelta(text="Yes"), Completed()]
    assert [(p["content"], p["metadata"].get("reasoning_content")) for p in payloads([stream(*events)])][1:3] == [
        ("", "Hm"),
        ("Yes", None),
    ]
    assert (answer(*events)["content"], answer(*events)["metadata"]["reasoning_content"]) == ("Yes", "Hm")


def test_tool_calls_have_no_word_here() -> None:
    events: list[Event] = [own("a", "look"), ToolResult(call_id="a", output="x"), client("b", "f", "{}"), Completed()]
    assert stream(*events) == FIRST + last("stop")


def test_line_ends_in_text_never_split_an_event() -> None:
    text = "a\x85b\u2028c\u2029d\r\n\n"
    assert payloads([stream(TextDelta(text=text), Completed())])[1]["content"] == text


def test_a_whole_answer_is_content_conversation_and_metadata() -> None:
    assert answer(TextDelta(text="Hel"), TextDelta(text="lo"), Usage(input_tokens=3, output_tokens=2), Completed()) == {
        "content": "Hello",
        "conversation_id": "c-1",
        "metadata": {
            "run_id": RUN,
            "agent": "demo",
            "finish_reason": "stop",
            "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
        },
    }


def test_a_failed_run_has_no_whole_answer() -> None:
    fold = CompletionFold(ORIGIN, Shown())
    for entry in log(Failed(code="llm_error", message="No.")):
        fold.feed(entry)
    assert fold.failed


def test_heartbeats_are_comments_or_chunks_that_say_nothing() -> None:
    assert CompletionEncoder(ORIGIN, Shown()).heartbeat() == b": ping\n"
    wire = CompletionEncoder(ORIGIN, Shown(), chunk_pings=True)
    assert wire.heartbeat() == FIRST
    assert wire.encode(log()[0]) == b""
    assert wire.heartbeat() == chunk("")

"""The pure parts of the openai adapter: bytes to frames, chunks to events, error bodies to errors."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletionChunk

from adapters.openai.chunks import Chunk, decode
from adapters.openai.failures import Judge, Problem, problem_in, retry_after, status_of
from adapters.openai.stream import LIMIT, Frame, Lines
from adapters.openai.translate import Translator
from proxy.errors import UpstreamError
from proxy.events import Completed, Event, ReasoningDelta, TextDelta, ToolCallDelta, Usage

STREAM = (
    b"\xef\xbb\xbf: hello\r\nid: 1\r\nretry: 5\r\n"
    + 'data: {"a":"é€😀"}\r\n\r\n\n\ndata:x\ndata: y\n\nevent: error\rdata: e\r\r'.encode()
)
FRAMES = [(b"", '{"a":"é€😀"}'.encode()), (b"", b"x\ny"), (b"error", b"e")]


def fed(pieces: list[bytes]) -> list[Frame]:
    lines = Lines()
    return [frame for piece in pieces for frame in lines.feed(piece)]


def test_frames_are_the_same_wherever_the_bytes_are_cut() -> None:
    assert fed([STREAM]) == FRAMES
    assert fed([STREAM[i : i + 1] for i in range(len(STREAM))]) == FRAMES
    for i in range(len(STREAM)):
        assert fed([STREAM[:i], STREAM[i:]]) == FRAMES


def test_a_last_event_without_a_blank_line_counts_if_it_looks_whole() -> None:
    for tail, frames in (
        (b"data: [DONE]", [(b"", b"[DONE]")]),
        (b'data: {"a":1}\n', [(b"", b'{"a":1}')]),
        (b'data: {"a', []),
    ):
        lines = Lines()
        assert lines.feed(tail) == []
        assert lines.close() == frames


def test_comments_and_empty_data_are_no_frames() -> None:
    assert fed([b": ping\n\n", b"data:\n\n", b"data: \n\n", b"event: ping\n\n", b"data: x\n\n"]) == [(b"", b"x")]


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 100_000, b"data: x\n" * 10_000, b"x" * 100_000])
def test_one_event_has_a_largest_size_however_it_is_made_up(piece: bytes) -> None:
    with pytest.raises(UpstreamError):
        fed([piece] * (2 * LIMIT // len(piece)))


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> Chunk:
    """One chunk as OpenAI writes it, read by our types."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
    named = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}
    return decode(b"", json.dumps(named).encode())


def told(*chunks: Chunk) -> list[Event]:
    translator = Translator("m")
    return [event for one in chunks for event in translator.feed(one)] + list(translator.close())


def calling(*pieces: dict[str, Any]) -> list[Event]:
    """The tool call events for these pieces, one chunk each."""
    return [
        event
        for event in told(*(chunk({"tool_calls": [piece]}) for piece in pieces))
        if isinstance(event, ToolCallDelta)
    ]


def piece(call_id: str, name: str, arguments: str = "", index: int = 0) -> ToolCallDelta:
    return ToolCallDelta(call_id=call_id, name=name, arguments=arguments, index=index, client=True)


def test_chunks_of_the_sdks_own_type_are_understood() -> None:
    sdk = ChatCompletionChunk.model_validate(
        {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "service_tier": "default",
            "system_fingerprint": "fp",
            "choices": [{"index": 0, "delta": {"content": "hi", "role": "assistant"}, "finish_reason": None}],
        }
    )
    assert told(decode(b"", sdk.model_dump_json().encode())) == [TextDelta(text="hi"), Completed()]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_both_names_of_reasoning_are_understood_and_a_refusal_is_text(field: str) -> None:
    events = told(chunk({field: "hm", "content": None}), chunk({"refusal": "no"}))
    assert events == [ReasoningDelta(text="hm"), TextDelta(text="no"), Completed()]


def test_both_names_at_once_are_told_once() -> None:
    assert told(chunk({"reasoning": "hm", "reasoning_content": "hm"}))[:-1] == [ReasoningDelta(text="hm")]


def test_other_choices_than_the_first_are_left_out() -> None:
    other = {"index": 1, "delta": {"content": "other"}, "finish_reason": "length"}
    assert told(chunk({"content": "mine"}), chunk(choices=[other])) == [TextDelta(text="mine"), Completed()]


def test_running_totals_of_usage_count_once() -> None:
    usage = [{"prompt_tokens": 5, "completion_tokens": n, "completion_tokens_details": None} for n in (1, 2)]
    events = told(chunk({"content": "a"}, usage=usage[0]), chunk({}, "length", usage=usage[1]))
    assert events[1:] == [Usage(model="m", input_tokens=5, output_tokens=2), Completed(finish_reason="length")]


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("length", "length"), ("content_filter", "content_filter"), ("tool_calls", "stop"), ("eos", "stop"), ("", "stop")],
)
def test_finish_reasons_become_standard_ones(finish: str, expected: str) -> None:
    assert told(chunk({}, finish))[-1] == Completed(finish_reason=expected)


def test_a_stop_after_tool_calls_is_a_tool_call() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    assert told(chunk({"tool_calls": [call]}), chunk({}, "stop"))[-1] == Completed(finish_reason="tool_calls")
    assert told(chunk({"tool_calls": [call]}), chunk({}, "length"))[-1] == Completed(finish_reason="length")


def test_the_finish_reason_error_is_no_end() -> None:
    with pytest.raises(UpstreamError):
        told(chunk({"content": "a"}, "error"))


def test_every_piece_of_a_call_has_id_and_name() -> None:
    assert calling(
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": "{}"}},
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": None}},
    ) == [piece("a", "f"), piece("a", "f", "{}")]


def test_calls_that_all_have_index_zero_are_told_apart_by_id() -> None:
    assert calling(
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"index": 0, "id": "b", "function": {"name": "f", "arguments": '{"x":2}'}},
    ) == [piece("a", "f", '{"x":1}'), piece("b", "f", '{"x":2}', 1)]


def test_indexes_are_dense_whatever_the_upstream_counts_from() -> None:
    events = calling(
        {"index": 3, "id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"index": 7, "id": "b", "function": {"name": "g", "arguments": "{}"}},
    )
    assert [event.index for event in events] == [0, 1]


def test_arguments_wait_for_the_name_and_a_late_id_still_counts() -> None:
    assert calling(
        {"index": 0, "function": {"arguments": '{"x"'}},
        {"index": 0, "id": "a", "function": {"arguments": ":"}},
        {"index": 0, "function": {"name": "f", "arguments": "1}"}},
    ) == [piece("a", "f", '{"x":1}')]


def test_a_call_without_arguments_gets_an_empty_object() -> None:
    assert calling({"index": 0, "id": "a", "function": {"name": "f"}}) == [piece("a", "f"), piece("a", "f", "{}")]


def test_the_older_function_call_is_a_call_too() -> None:
    events = told(
        chunk({"function_call": {"name": "f", "arguments": ""}}),
        chunk({"function_call": {"arguments": "{}"}}),
        chunk({}, "function_call"),
    )
    first, second, final = events
    assert isinstance(first, ToolCallDelta)
    assert isinstance(second, ToolCallDelta)
    assert (first.call_id, first.name, second.arguments) == (second.call_id, "f", "{}")
    assert final == Completed(finish_reason="tool_calls")


@pytest.mark.parametrize(
    "data",
    [
        b"not json",
        b"[1]",
        b'"text"',
        b'{"choices":[{"delta":{"content":["list"]}}]}',
        b'{"x":' + b"[" * 100_000,
        b"\xff\xfe{}",
    ],
)
def test_what_is_no_chunk_is_an_upstream_error(data: bytes) -> None:
    with pytest.raises(UpstreamError):
        decode(b"", data)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 429}, 429),
        ({"code": "503"}, 503),
        ({"code": "rate_limit_exceeded"}, 429),
        ({"type": "authentication_error"}, 401),
        ({"code": "weird", "type": "invalid_request_error"}, 400),
        ({"code": 200}, 500),
        ({"code": ["odd"], "type": {"odd": 1}}, 500),
        ({"code": True}, 500),
        ({}, 500),
    ],
)
def test_an_error_object_stands_for_a_status(error: dict[str, Any], status: int) -> None:
    assert status_of(msgspec.convert(error, Problem)) == status


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"m"}}', "m"),
        (b'{"error":"m"}', "m"),
        (b'{"detail":"m"}', "m"),
        (b'{"message":"m"}', "m"),
        (b"<html>", None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_error_bodies_of_every_form_are_read(body: bytes, message: str | None) -> None:
    assert problem_in(body).message == message


def test_a_caller_sees_one_clean_line_at_most() -> None:
    judge = Judge(secrets=("hunter2",))
    assert judge.shown("a\r\nb\x00c\u2028d") == "a  b c d"
    assert judge.shown("my hunter2 key") == ""
    assert judge.shown({"no": "text"}) == ""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-1"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.events import (
    Cancelled,
    Completed,
    Custom,
    Event,
    Failed,
    Frame,
    Interrupt,
    Paused,
    PendingCall,
    ReasoningDelta,
    RunStarted,
    TextDelta,
    ToolResult,
    Usage,
)
from proxy.wire.chat import ChatEncoder, Head
from proxy.wire.chat_answer import ChatFold
from proxy.wire.shown import Shown
from tests.wire.entries import client, log, own, payloads, raw

HEAD = Head(id="chatcmpl-1", created=1700000000, model="demo")
TOP = (
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"demo",'
    '"system_fingerprint":null,"choices":['
)


def chunk(delta: str, reason: str = "null") -> bytes:
    return f'{TOP}{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}]}}\n\n'.encode()


ROLE = chunk('{"role":"assistant","content":""}')
STOP = chunk("{}", '"stop"')
CALLS = chunk("{}", '"tool_calls"')
DONE = b"data: [DONE]\n\n"


def stream(*events: Event, shown: Shown = Shown(), **options: Any) -> bytes:  # noqa: B008
    encoder = ChatEncoder(HEAD, shown, **options)
    body = b"".join(encoder.encode(entry) for entry in log(*events))
    assert encoder.ended
    return body + encoder.end()


def answer(*events: Event, shown: Shown = Shown()) -> ChatCompletion:  # noqa: B008
    fold = ChatFold(HEAD, shown)
    for entry in log(*events):
        fold.feed(entry)
    assert fold.failed is None
    return ChatCompletion.model_validate_json(fold.answer(), strict=True)


@contextmanager
def sdk(body: bytes) -> Iterator[openai.OpenAI]:
    """The official client, on a server that sends these bytes."""

    def serve(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    with httpx2.Client(transport=httpx2.MockTransport(serve)) as http:
        yield openai.OpenAI(api_key="x", base_url="http://x/v1", http_client=http)


def read(body: bytes) -> list[ChatCompletionChunk]:
    """The stream through the official client's own decoder."""
    with sdk(body) as caller:
        return list(caller.chat.completions.create(model="demo", messages=[], stream=True))


def parsed(body: bytes) -> list[ChatCompletionChunk]:
    """The same, and each chunk through its strict model."""
    for payload in payloads([body]):
        ChatCompletionChunk.model_validate(payload, strict=True)
    return read(body)


def content(body: bytes) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in parsed(body) if chunk.choices)


def test_a_stream_is_role_text_finish_done() -> None:
    body = stream(TextDelta(text="Hel", part="a"), TextDelta(text="lo", part="a"), Completed())
    assert body == ROLE + chunk('{"content":"Hel"}') + chunk('{"content":"lo"}') + STOP + DONE
    assert [c.choices[0].delta.content for c in parsed(body)] == ["", "Hel", "lo", None]
    assert [c.choices[0].finish_reason for c in parsed(body)] == [None, None, None, "stop"]


def test_spliced_text_is_the_same_json_as_encoded_text() -> None:
    text = 'quote " backslash \\ tab \t newline \n bell \x07 ü 漢 🎉 </script>'
    first = payloads([stream(TextDelta(text=text), Completed())])[1]
    spliced = payloads([stream(TextDelta(text=""), TextDelta(text="x"), TextDelta(text=text), Completed())])[2]
    assert first["choices"][0]["delta"] == spliced["choices"][0]["delta"] == {"content": text}
    assert first.keys() == spliced.keys()


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029", "\r\n\r\n"])
def test_line_ends_in_text_never_split_an_event(end: str) -> None:
    events: list[Event] = [
        TextDelta(text=f"a{end}b"),
        TextDelta(text=f"c{end}d"),
        ReasoningDelta(text=end),
        Completed(),
    ]
    body = stream(*events)
    assert not re.search("[\x85\u2028\u2029\r]", body.decode())
    assert content(body) == f"a{end}bc{end}d"


def test_a_model_name_cannot_break_out_of_its_field() -> None:
    encoder = ChatEncoder(Head(id="c", created=1, model='a"%s{}\n\u2028'), Shown(), include_usage=True)
    body = b"".join(encoder.encode(entry) for entry in log(TextDelta(text="x"), Completed())) + encoder.end()
    assert {chunk.model for chunk in parsed(body)} == {'a"%s{}\n\u2028'}


def test_huge_text_is_one_event() -> None:
    text = "x" * 4_000_000
    assert content(stream(TextDelta(text=text), Completed())) == text


def test_empty_deltas_leave_no_chunk() -> None:
    events: list[Event] = [
        TextDelta(text=""),
        ReasoningDelta(text=""),
        TextDelta(text="a"),
        TextDelta(text=""),
        Completed(),
    ]
    assert stream(*events) == ROLE + chunk('{"content":"a"}') + STOP + DONE


def test_parts_stand_apart_by_a_blank_line() -> None:
    events: list[Event] = [
        TextDelta(text=text, part=part) for text, part in [("a", "1"), ("b", "2"), ("c", "2"), ("d", "1")]
    ]
    assert content(stream(*events, Completed())) == "a\n\nbc\n\nd"
    assert answer(*events, Completed()).choices[0].message.content == "a\n\nbc\n\nd"


def test_an_agent_that_says_nothing_still_gives_a_role_and_a_finish() -> None:
    assert stream(Completed()) == ROLE + STOP + DONE
    message = answer(Completed()).choices[0].message
    assert (message.role, message.content, message.tool_calls) == ("assistant", "", None)


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
def test_a_standard_finish_reason_passes(reason: str) -> None:
    assert parsed(stream(TextDelta(text="x"), Completed(finish_reason=reason)))[-1].choices[0].finish_reason == reason


@pytest.mark.parametrize("reason", ["error", "function_call", "tool_calls", ""])
def test_any_other_finish_reason_is_stop_if_the_caller_got_no_calls(reason: str) -> None:
    events: list[Event] = [own("c", "look"), ToolResult(call_id="c", output="x"), Completed(finish_reason=reason)]
    assert stream(*events) == ROLE + STOP + DONE


def test_a_cut_answer_says_so_although_it_holds_calls() -> None:
    body = stream(client("c", "f", '{"a'), Completed(finish_reason="length"))
    assert parsed(body)[-1].choices[0].finish_reason == "length"


def test_usage_comes_last_without_choices_and_sums_all_model_calls() -> None:
    events: list[Event] = [
        Usage(input_tokens=10, output_tokens=2, cached_tokens=4),
        TextDelta(text="x"),
        Usage(input_tokens=5, output_tokens=3, reasoning_tokens=1),
        Completed(),
    ]
    body = stream(*events, include_usage=True)
    *_, finish, usage, done = body.split(b"\n\n")[:-1]
    assert done == b"data: [DONE]"
    assert b'"finish_reason":"stop"}],"usage":null}' in finish
    assert usage == TOP.encode() + (
        b'],"usage":{"prompt_tokens":15,"completion_tokens":5,"total_tokens":20,'
        b'"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":1}}}'
    )
    last = parsed(body)[-1]
    assert last.usage
    assert (last.choices, last.usage.total_tokens) == ([], 20)
    assert answer(*events).usage == last.usage


def test_without_include_usage_no_chunk_speaks_of_it() -> None:
    assert b"usage" not in stream(Usage(input_tokens=1), TextDelta(text="x"), Completed())


def test_a_client_call_leaves_with_id_and_name_first_and_pieces_after() -> None:
    body = stream(client("c1", "add"), client("c1", "add", '{"a":'), client("c1", "add", "1}"), Completed())
    begin = '{"index":0,"id":"c1","type":"function","function":{"name":"add","arguments":""}}'
    pieces = ['{"index":0,"function":{"arguments":"{\\"a\\":"}}', '{"index":0,"function":{"arguments":"1}"}}']
    deltas = [chunk(f'{{"tool_calls":[{call}]}}') for call in (begin, *pieces)]
    assert body == ROLE + b"".join(deltas) + CALLS + DONE
    assert parsed(body)


def test_interleaved_client_calls_keep_their_index() -> None:
    events: list[Event] = [client("a", "f", "{"), client("b", "g", "["), client("a", "f", "}"), client("b", "g", "]")]
    calls = [c.choices[0].delta.tool_calls for c in parsed(stream(*events, Completed()))[1:-1]]
    assert [(call[0].index, call[0].id) for call in calls if call] == [(0, "a"), (1, "b"), (0, None), (1, None)]
    message = answer(*events, Completed()).choices[0].message
    calls_made = [call.to_dict() for call in message.tool_calls or []]
    assert calls_made == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "[]"}},
    ]
    assert message.content is None


def test_the_sdk_puts_streamed_calls_together() -> None:
    body = stream(TextDelta(text="Wait."), client("a", "f", '{"x":'), client("a", "f", "1}"), Completed())
    with sdk(body) as caller, caller.chat.completions.stream(model="demo", messages=[]) as events:
        choice = events.get_final_completion().choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Wait.")
    assert [call.function.arguments for call in choice.message.tool_calls or []] == ['{"x":1}']


def test_calls_of_a_pause_that_were_not_streamed_leave_whole() -> None:
    paused = Paused(calls=(PendingCall(call_id="a", name="f"), PendingCall(call_id="b", name="g", arguments='{"x":1}')))
    body = stream(client("a", "f", "{}"), paused)
    calls = [c.choices[0].delta.tool_calls for c in parsed(body)[1:-1]]
    assert [(call[0].index, call[0].id) for call in calls if call] == [(0, "a"), (1, "b")]
    assert body.endswith(CALLS + DONE)


def test_the_agents_own_calls_never_leave_as_tool_calls() -> None:
    events: list[Event] = [
        own("c", "look", "{}"),
        ToolResult(call_id="c", output="42"),
        TextDelta(text="42."),
        Completed(),
    ]
    for tools in ("hidden", "reasoning", "details"):
        body = stream(*events, shown=Shown(tools=tools))
        assert b"tool_calls" not in body
        assert body.endswith(STOP + DONE)


def test_an_interrupt_asks_in_words_and_stops() -> None:
    paused = Paused(interrupts=(Interrupt(id="i", value=raw("Send it?")),))
    assert stream(paused) == ROLE + chunk('{"content":"Send it?"}') + STOP + DONE
    assert answer(TextDelta(text="Draft."), paused).choices[0].message.content == "Draft.\n\nSend it?"


def test_an_interrupt_for_an_offered_tool_is_a_call() -> None:
    paused = Paused(interrupts=(Interrupt(id="i", value=raw({"tool": "send", "args": {"to": "bob"}})),))
    body = stream(paused, shown=Shown(asked=frozenset({"send"})))
    call = '{"index":0,"id":"call_i","type":"function","function":{"name":"send","arguments":"{\\"to\\":\\"bob\\"}"}}'
    assert body == ROLE + chunk(f'{{"tool_calls":[{call}]}}') + CALLS + DONE


def test_reasoning_has_a_field_of_its_own() -> None:
    body = stream(ReasoningDelta(text="Hm"), TextDelta(text="Yes"), Completed())
    assert body == ROLE + chunk('{"reasoning_content":"Hm"}') + chunk('{"content":"Yes"}') + STOP + DONE
    message = answer(ReasoningDelta(text="Hm"), TextDelta(text="Yes"), Completed()).choices[0].message
    assert (message.content, message.model_extra) == ("Yes", {"reasoning_content": "Hm"})


def test_reasoning_takes_the_other_name_where_it_is_wanted() -> None:
    shown = Shown(reasoning="reasoning")
    body = stream(ReasoningDelta(text="Hm"), TextDelta(text="Yes"), Completed(), shown=shown)
    assert body == ROLE + chunk('{"reasoning":"Hm"}') + chunk('{"content":"Yes"}') + STOP + DONE
    message = answer(ReasoningDelta(text="Hm"), TextDelta(text="Yes"), Completed(), shown=shown).choices[0].message
    assert message.model_extra == {"reasoning": "Hm"}


def test_text_after_a_think_block_is_not_spliced_into_it() -> None:
    events: list[Event] = [
        TextDelta(text="A"),
        ReasoningDelta(text="hm"),
        TextDelta(text="B"),
        TextDelta(text="C"),
        Completed(),
    ]
    assert content(stream(*events, shown=Shown(reasoning="think"))) == "A\n\n<think>\nhm\n</think>\n\nBC"


@pytest.mark.parametrize("final", [Completed(), Cancelled(), Paused()])
def test_a_think_block_is_closed_by_the_end(final: Event) -> None:
    assert content(stream(ReasoningDelta(text="hm"), final, shown=Shown(reasoning="think"))).endswith("\n</think>\n\n")


def test_a_cancelled_stream_keeps_what_was_sent_and_ends_in_order() -> None:
    events: list[Event] = [Usage(output_tokens=7), TextDelta(text="Half"), Cancelled()]
    body = stream(*events, include_usage=True)
    assert [c.choices[0].finish_reason for c in parsed(body)[:-1]] == [None, None, "stop"]
    assert parsed(body)[-1].usage == answer(*events).usage
    assert answer(*events).choices[0].message.content == "Half"


def test_a_failure_is_one_error_object_then_done() -> None:
    failed = Failed(code="llm_timeout", message="Too slow.", status=504)
    body = stream(TextDelta(text="x"), failed)
    error = b'data: {"error":{"message":"Too slow.","type":"server_error","param":null,"code":"llm_timeout"}}\n\n'
    assert body == ROLE + chunk('{"content":"x"}') + error + DONE
    with pytest.raises(openai.APIError, match=r"Too slow\.") as raised:
        read(body)
    assert raised.value.code == "llm_timeout"


def test_a_failed_run_has_no_whole_answer() -> None:
    fold = ChatFold(HEAD, Shown())
    for entry in log(TextDelta(text="x"), Failed(code="llm_error", message="No.")):
        fold.feed(entry)
    assert fold.failed
    assert fold.failed.code == "llm_error"


def test_a_takeover_greets_no_second_time() -> None:
    again = RunStarted(run_id="r", thread_id="t", agent="demo", attempt=2)
    assert stream(again, Completed()) == ROLE + STOP + DONE


def test_what_has_no_word_here_leaves_no_bytes() -> None:
    body = stream(Custom(name="n", data=raw(1)), Frame(mode="values", data=raw({})), Completed())
    assert body == ROLE + STOP + DONE


def test_a_heartbeat_is_a_comment_of_one_line() -> None:
    assert ChatEncoder(HEAD, Shown()).heartbeat() == b": ping\n"


def test_a_heartbeat_as_chunk_greets_first_and_then_says_nothing() -> None:
    encoder = ChatEncoder(HEAD, Shown(), chunk_pings=True)
    assert encoder.heartbeat() == ROLE
    assert encoder.encode(log()[0]) == b""
    assert encoder.heartbeat() == chunk('{"content":""}')


def test_stream_and_whole_answer_agree() -> None:
    events: list[Event] = [
        ReasoningDelta(text="plan", part="m1"),
        own("s", "search", '{"q":1}'),
        ToolResult(call_id="s", output="found"),
        ReasoningDelta(text="more", part="m2"),
        TextDelta(text="One ", part="m2"),
        TextDelta(text="two", part="m2"),
        TextDelta(text="three", part="m3"),
        client("c", "ask", "{}"),
        Paused(calls=(PendingCall(call_id="c", name="ask"),)),
    ]
    for tools in ("hidden", "reasoning", "details"):
        for reasoning in ("field", "think", "off"):
            shown = Shown(tools=tools, reasoning=reasoning)
            chunks, whole = parsed(stream(*events, shown=shown)), answer(*events, shown=shown).choices[0]
            deltas = [c.choices[0].delta for c in chunks]
            assert "".join(d.content or "" for d in deltas) == whole.message.content
            thoughts = "".join((d.model_extra or {}).get("reasoning_content", "") for d in deltas)
            assert thoughts == (whole.message.model_extra or {}).get("reasoning_content", "")
            assert chunks[-1].choices[0].finish_reason == whole.finish_reason == "tool_calls"

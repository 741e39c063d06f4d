"""The openai adapter and an upstream that misbehaves: group U of the fault catalogue, case by case."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from adapters.openai import OpenAIAdapter, retry
from proxy.errors import (
    BadRequest,
    ProxyError,
    RateLimited,
    StreamIncomplete,
    UnknownAgent,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from proxy.events import Completed
from tests.adapters.openai_runs import KEY, against, asked, outcome, ran
from tests.fakes import faults
from tests.fakes.faults import EURO
from tests.fakes.upstream import Case, Upstream, normal


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Upstream() as served:
        yield served


def test_u01_silence_ends_in_a_timeout_and_is_not_asked_again(upstream: Upstream) -> None:
    upstream.then(faults.silence)
    result = ran(upstream, asked(first_byte=2.0), idle=0.2)
    assert isinstance(result.error, UpstreamTimeout)
    assert len(upstream.requests) == 1
    assert upstream.wait(lambda: upstream.open == 0)


def test_u01_silence_after_the_headers_is_the_same(upstream: Upstream) -> None:
    upstream.then(faults.silence_after_headers)
    assert isinstance(ran(upstream, idle=0.2).error, UpstreamTimeout)


def test_u02_an_upstream_that_hangs_midway_times_out_and_its_words_stay(upstream: Upstream) -> None:
    upstream.then(faults.hang)
    result = ran(upstream, idle=0.2)
    assert (result.text, result.finish) == ("one two three ", None)
    assert isinstance(result.error, UpstreamTimeout)


@pytest.mark.parametrize("case", [faults.reset_in_json, faults.reset_in_character, faults.cut_in_json])
def test_u03_a_break_inside_a_chunk_is_incomplete_and_nothing_half_comes_out(upstream: Upstream, case: Case) -> None:
    upstream.then(case)
    result = ran(upstream)
    assert result.text == "one "
    assert isinstance(result.error, StreamIncomplete)


def test_u03_half_a_character_in_a_whole_event_is_an_error(upstream: Upstream) -> None:
    upstream.then(faults.half_character)
    result = ran(upstream)
    assert result.text == "one "
    assert isinstance(result.error, UpstreamError)


@pytest.mark.parametrize("case", [faults.cut, faults.cut_by_close])
def test_u04_an_end_without_finish_and_done_is_incomplete(upstream: Upstream, case: Case) -> None:
    upstream.then(case)
    result = ran(upstream)
    assert (result.text, result.finish) == ("one two ", None)
    assert isinstance(result.error, StreamIncomplete)


def test_u05_done_ends_the_run_though_the_connection_stays_open(upstream: Upstream) -> None:
    upstream.then(faults.done_and_open)

    async def act(adapter: OpenAIAdapter) -> None:
        result = await outcome(adapter, asked())
        assert (result.text, result.finish) == ("one ", "stop")
        assert upstream.open == 1
        assert await asyncio.to_thread(upstream.wait, lambda: upstream.open == 0)

    against(upstream, act)


def test_u05_done_without_a_finish_reason_is_an_end(upstream: Upstream) -> None:
    upstream.then(faults.done_without_finish)
    assert ran(upstream).finish == "stop"


def test_u06_a_finish_reason_without_done_is_an_end(upstream: Upstream) -> None:
    upstream.then(faults.finish_and_close, faults.finish_and_reset)
    assert ran(upstream).finish == "stop"
    assert ran(upstream).finish == "length"


@pytest.mark.parametrize(
    ("case", "low", "high"),
    [
        (faults.limited("5"), 5, 5),
        (faults.limited("86400"), 20, 20),
        (faults.limited("1e999"), 20, 20),
        (faults.limited_until, 10, 15),
        (faults.limited("Wed, 99 Foo"), 1, 1),
        (faults.limited("nan"), 1, 1),
        (faults.limited("-3"), 1, 1),
        (faults.refused(429), 1, 1),
    ],
)
def test_u07_a_wait_beyond_the_budget_is_passed_on_capped(upstream: Upstream, case: Case, low: int, high: int) -> None:
    upstream.then(case, case, case)
    error = ran(upstream, asked(first_byte=1.0)).error
    assert isinstance(error, RateLimited)
    assert error.status == 429
    assert low <= error.retry_after <= high
    assert len(upstream.requests) == 1 or low == 1


def test_u07_a_wait_within_the_budget_is_waited_for(upstream: Upstream) -> None:
    upstream.then(faults.limited("0.05"))
    assert ran(upstream, asked(first_byte=2.0)).finish == "stop"
    assert len(upstream.requests) == 2


def test_u07_without_a_stream_an_absurd_wait_is_passed_on_too(upstream: Upstream) -> None:
    upstream.then(faults.limited("100"))
    assert ran(upstream, asked(timeout=600.0)).error.retry_after == 20
    assert len(upstream.requests) == 1


def test_u08_nothing_is_tried_again_late_however_long_the_run_may_take(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.then(faults.limited("0.05"), faults.limited("0.2"), faults.refused(500))
    assert ran(upstream, asked(timeout=600.0)).error is not None
    assert len(upstream.requests) == 3
    monkeypatch.setattr(retry, "LONGEST_BUDGET", 0.1)
    upstream.then(faults.limited("0.05"), faults.limited("0.2"), faults.refused(500))
    assert isinstance(ran(upstream, asked(timeout=600.0)).error, RateLimited)
    assert len(upstream.requests) == 5


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_u08_two_failures_and_then_one_answer(upstream: Upstream, status: int) -> None:
    upstream.then(faults.refused(status), faults.refused(status))
    result = ran(upstream, asked("hi", first_byte=2.0))
    assert (result.text, result.finish) == ("You said: hi ", "stop")
    assert len(upstream.requests) == 3


def test_u08_a_third_failure_is_the_last(upstream: Upstream) -> None:
    upstream.then(*[faults.refused(500)] * 5)
    error = ran(upstream, asked(first_byte=2.0)).error
    assert (type(error), error.status) == (UpstreamError, 502)
    assert len(upstream.requests) == 3


def test_u08_a_connection_lost_before_the_answer_is_tried_again(upstream: Upstream) -> None:
    upstream.then(faults.reset_at_once, faults.stale)
    assert ran(upstream, asked(first_byte=2.0)).finish == "stop"
    assert len(upstream.requests) == 3


def test_u08_nothing_is_tried_again_when_the_budget_is_spent(upstream: Upstream) -> None:
    upstream.then(*[faults.refused(500)] * 3)
    assert ran(upstream, asked(first_byte=0.0)).error is not None
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("case", [faults.leaked_key, faults.refused(403, f"Key {KEY}"), faults.refused(402)])
def test_u09_refused_credentials_never_show_the_upstreams_words(upstream: Upstream, case: Case) -> None:
    upstream.then(case)
    error = ran(upstream).error
    assert isinstance(error, UpstreamRefused)
    assert error.message == UpstreamRefused().message
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (faults.html, UpstreamError),
        (faults.garbage, UpstreamError),
        (faults.error_in_json, UpstreamError),
        (faults.error_in_stream, UpstreamError),
        (faults.error_event, UpstreamError),
        (faults.limit_in_stream, RateLimited),
    ],
)
def test_u10_what_is_no_answer_is_a_mapped_error(upstream: Upstream, case: Case, kind: type[ProxyError]) -> None:
    upstream.then(*[case] * 3)
    result = ran(upstream, asked(first_byte=1.0))
    assert type(result.error) is kind or issubclass(type(result.error), kind)
    assert "secret" not in result.error.message
    assert result.finish is None


def test_u11_every_form_of_event_stream_gives_the_same(upstream: Upstream) -> None:
    upstream.then(faults.adorned)
    assert ran(upstream).text == f"one {EURO} two"


def test_u11_one_byte_at_a_time_gives_the_same(upstream: Upstream) -> None:
    upstream.then(faults.byte_by_byte)
    result = ran(upstream)
    assert (result.text, result.finish) == (f"one {EURO}", "stop")


def test_u12_an_endless_line_is_refused_in_bounded_memory(upstream: Upstream) -> None:
    upstream.then(faults.huge_line)
    result = ran(upstream)
    assert result.text == "one "
    assert "larger" in result.error.message
    assert upstream.wait(lambda: len(upstream.stopped) == 1)


def test_u12_endless_headers_are_refused(upstream: Upstream) -> None:
    upstream.then(*[faults.huge_headers] * 3)
    assert "larger" in ran(upstream, asked(first_byte=0.0)).error.message


def test_u12_empty_deltas_take_no_memory_and_give_no_events(upstream: Upstream) -> None:
    upstream.then(faults.empty_deltas)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = ran(upstream)
    assert (result.text, len(result.events)) == ("one", 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def test_u13_tangled_tool_calls_are_put_together(upstream: Upstream) -> None:
    upstream.then(faults.tangled_calls)
    result = ran(upstream)
    (first, second), ids = result.calls.values(), list(result.calls)
    assert first == ("b", '{"y":2}')
    assert second == ("a", '{"x":1}')
    assert ids[0] == "call_b"
    assert ids[1].startswith("call_")
    assert {(event.call_id, event.index) for event in result.events[:-2]} == {(ids[0], 0), (ids[1], 1)}


def test_u13_calls_without_an_index_are_told_apart_by_id(upstream: Upstream) -> None:
    upstream.then(faults.calls_without_index)
    result = ran(upstream)
    assert result.calls == {"call_a": ("a", '{"x":1}'), "call_b": ("b", "{}")}
    assert result.finish == "tool_calls"


def test_u13_a_call_without_a_name_is_a_clean_error(upstream: Upstream) -> None:
    upstream.then(faults.nameless_call)
    result = ran(upstream)
    assert isinstance(result.error, UpstreamError)
    assert result.finish is None


def test_u15_a_redirect_is_not_followed(upstream: Upstream) -> None:
    upstream.then(faults.redirect)
    error = ran(upstream, asked(first_byte=2.0)).error
    assert isinstance(error, UpstreamError)
    assert not error.retryable
    assert len(upstream.requests) == 1


def test_u16_nothing_is_asked_again_after_the_first_event(upstream: Upstream) -> None:
    upstream.then(faults.reset_in_json, normal)
    result = ran(upstream, asked(first_byte=2.0))
    assert result.text == "one "
    assert isinstance(result.error, StreamIncomplete)
    assert len(upstream.requests) == 1


def test_u17_closing_a_stream_stops_the_upstream_and_the_pool_stays_usable(upstream: Upstream) -> None:
    async def leave(adapter: OpenAIAdapter) -> None:
        async with aclosing(adapter.stream(asked("case=U17"))) as events:
            async for _ in events:
                break

    async def act(adapter: OpenAIAdapter) -> None:
        for _ in range(10):
            await asyncio.gather(*(leave(adapter) for _ in range(100)))
        assert await asyncio.to_thread(upstream.wait, lambda: upstream.open == 0 and len(upstream.stopped) == 1000)
        assert (await outcome(adapter, asked())).finish == "stop"

    against(upstream, act)


@pytest.mark.parametrize("case", [faults.silence, faults.silence_after_headers, faults.hang])
def test_u17_cancelling_a_waiting_stream_stops_the_upstream(upstream: Upstream, case: Case) -> None:
    upstream.then(case)

    async def act(adapter: OpenAIAdapter) -> None:
        task = asyncio.create_task(outcome(adapter, asked()))
        assert await asyncio.to_thread(upstream.wait, lambda: len(upstream.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(upstream.wait, lambda: upstream.open == 0)

    against(upstream, act)


def test_a_bad_request_keeps_the_upstreams_words_and_code(upstream: Upstream) -> None:
    message = "This model's maximum context length is 8192 tokens."
    upstream.then(faults.refused(400, message, code="context_length_exceeded", param="messages"))
    error = ran(upstream).error
    assert isinstance(error, BadRequest)
    assert (error.message, error.code, error.param) == (message, "context_length_exceeded", "messages")


HIDDEN = (f"bad key {KEY}", "see https://internal.example/x", "host 10.1.2.3 says no", "no second-key-99 here")


@pytest.mark.parametrize("words", HIDDEN)
def test_a_bad_request_loses_words_that_hold_a_secret_or_an_address(upstream: Upstream, words: str) -> None:
    upstream.then(faults.refused(400, words))
    error = ran(upstream, headers={"x-auth": "Bearer second-key-99"}).error
    assert error.message == "The model refused this request."


def test_a_bad_requests_words_are_cut(upstream: Upstream) -> None:
    upstream.then(faults.refused(400, "x" * 10_000))
    assert len(ran(upstream).error.message) == 500


@pytest.mark.parametrize(("status", "expected"), [(413, 413), (422, 422), (404, 502), (418, 502), (504, 504)])
def test_other_refusals_have_the_nearest_status(upstream: Upstream, status: int, expected: int) -> None:
    upstream.then(faults.refused(status))
    assert ran(upstream, asked(first_byte=0.0)).error.status == expected


def test_an_unknown_model_of_a_publishing_upstream_is_the_callers_mistake(upstream: Upstream) -> None:
    upstream.then(faults.refused(404, "The model `x` does not exist", code="model_not_found"))
    assert isinstance(ran(upstream, asked(model="x"), models="*").error, UnknownAgent)


def test_a_server_that_knows_no_stream_options_is_asked_without(upstream: Upstream) -> None:
    upstream.then(faults.no_stream_options, faults.no_stream_options)
    result = ran(upstream)
    assert (result.text, result.events[-1]) == ("one ", Completed(finish_reason="stop"))
    assert len(upstream.requests) == 2

"""The openai adapter and a well-behaved upstream: what is sent, what comes of the answer, what is published."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import Raw
from openai.types.chat import ChatCompletionMessageParam, CompletionCreateParams
from pydantic import TypeAdapter

from adapters.openai import OpenAIAdapter, UpstreamOptions
from proxy.adapter import Model
from proxy.errors import ConfigError, UnknownAgent, UpstreamError
from proxy.events import Completed, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from proxy.messages import Function, ImageURL, Message, Part, ToolCall
from proxy.testing import check_adapter
from tests.adapters.openai_runs import KEY, SITE, against, asked, outcome, ran
from tests.fakes import faults
from tests.fakes.upstream import Upstream

WEATHER = b'[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{}}}}]'

FAILING = ("U03", "U03-character", "U04", "U07", "U08", "U09", "U10", "U10-object", "U10-event", "U12", "U15")


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Upstream() as served:
        yield served


def test_text_streams_as_it_comes_and_ends_with_usage_and_the_finish_reason(upstream: Upstream) -> None:
    assert ran(upstream, asked("hello")).events == [
        TextDelta(text="You "),
        TextDelta(text="said: "),
        TextDelta(text="hello "),
        Usage(model="gpt-4o", input_tokens=11, output_tokens=7, cached_tokens=3, reasoning_tokens=2),
        Completed(finish_reason="stop"),
    ]


def test_reasoning_is_told_apart_from_the_answer(upstream: Upstream) -> None:
    events = ran(upstream, asked("think")).events
    assert [event.text for event in events if isinstance(event, ReasoningDelta)] == ["Let ", "me ", "see."]


def test_tool_calls_are_the_callers_and_end_the_turn(upstream: Upstream) -> None:
    result = ran(upstream, asked("use a tool", params={"tools": Raw(WEATHER)}))
    assert result.events[0] == ToolCallDelta(call_id="call_1", name="weather", client=True)
    assert result.calls == {"call_1": ("weather", '{"city": "Paris"}')}
    assert result.finish == "tool_calls"


def test_the_upstream_is_asked_for_a_stream_with_usage_whatever_the_caller_wants(upstream: Upstream) -> None:
    ran(upstream, asked(params={"stream": Raw(b"false"), "stream_options": Raw(b"null"), "n": Raw(b"3")}))
    sent = upstream.requests[0].json
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}
    assert "n" not in sent


def test_every_other_field_goes_on_unchanged_also_one_that_nobody_knows(upstream: Upstream) -> None:
    params = {
        "temperature": b"0.25",
        "response_format": b'{"type":"json_object"}',
        "tools": WEATHER,
        "tool_choice": b'"required"',
        "stop": b"null",
        "x_new": b'{"deep":[1,2,{"big":123456789012345678901234567890}]}',
    }
    ran(upstream, asked(params={name: Raw(value) for name, value in params.items()}))
    sent = upstream.requests[0]
    assert {name: sent.json[name] for name in params} == {name: msgspec.json.decode(v) for name, v in params.items()}
    assert params["x_new"] in sent.body


def test_an_empty_list_of_tools_is_left_out(upstream: Upstream) -> None:
    ran(upstream, asked(params={"tools": Raw(b"[]"), "tool_choice": Raw(b'"auto"')}))
    assert not {"tools", "tool_choice"} & set(upstream.requests[0].json)


def test_messages_of_every_form_are_sent_as_the_sdk_types_them(upstream: Upstream) -> None:
    messages = (
        Message(role="system", content="Be brief."),
        Message(role="developer", content=(Part(type="text", text="Really."),)),
        Message(role="user", content=(Part(type="image_url", image_url=ImageURL(url="data:image/png;base64,AA==")),)),
        Message(role="assistant", tool_calls=(ToolCall(id="c1", function=Function(name="f", arguments="{}")),)),
        Message(role="tool", tool_call_id="c1", content="42"),
        Message(role="assistant", content="It is 42."),
        Message(role="user", content="Sure?", name="ann"),
    )
    ran(upstream, asked(messages=messages))
    sent = upstream.requests[0].json["messages"]
    TypeAdapter(list[ChatCompletionMessageParam]).validate_python(sent)
    TypeAdapter(CompletionCreateParams).validate_python(upstream.requests[0].json)
    assert msgspec.convert(sent, tuple[Message, ...]) == messages


def test_an_input_with_messages_takes_the_place_of_the_conversation(upstream: Upstream) -> None:
    given = Raw(b'{"messages":[{"role":"user","content":"from input"}]}')
    assert ran(upstream, asked(messages=(), input=given)).text == "You said: from input "
    assert ran(upstream, asked(messages=(), input=Raw(b"[1]"))).error.status == 400


def test_our_key_and_organization_are_sent_and_the_callers_headers_only_if_listed(upstream: Upstream) -> None:
    run = asked(headers={"x-tracking": "7", "x-other": "8", "authorization": "Bearer caller"})
    ran(
        upstream, run, organization="org-1", project="proj-1", headers={"X-Extra": "e"}, forward_headers=("X-Tracking",)
    )
    headers = upstream.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")
    assert (headers["x-extra"], headers["x-tracking"]) == ("e", "7")
    assert "x-other" not in headers


def test_a_base_url_may_end_in_a_slash_and_have_a_query(upstream: Upstream) -> None:
    ran(upstream, base_url=f"{upstream.url}/?api-version=1")
    assert upstream.requests[0].target == "/v1/chat/completions?api-version=1"


def test_the_run_chooses_the_model_where_it_says_one(upstream: Upstream) -> None:
    ran(upstream, asked(model="o9"))
    ran(upstream, asked())
    assert [request.json["model"] for request in upstream.requests] == ["o9", "gpt-4o"]


def test_the_adapter_keeps_the_contract_of_all_adapters(upstream: Upstream) -> None:
    asyncio.run(
        check_adapter(
            lambda: OpenAIAdapter(UpstreamOptions(base_url=upstream.url, api_key=KEY, model="m", idle=5.0), SITE),
            ends=[asked("think"), asked("tool", params={"tools": Raw(WEATHER)}), asked("case=U11"), asked("case=U13")],
            hangs=asked("case=U02"),
            held=lambda: upstream.busy,
            fails=[asked(f"case={name}", first_byte=0.5) for name in FAILING],
        )
    )


def test_an_agent_with_one_model_publishes_none(upstream: Upstream) -> None:
    assert against(upstream, lambda adapter: adapter.models()) is None


def test_listed_models_are_published_without_asking_and_no_others_are_served(upstream: Upstream) -> None:
    async def act(adapter: OpenAIAdapter) -> None:
        assert await adapter.models() == [Model(id="a"), Model(id="b")]
        assert isinstance((await outcome(adapter, asked(model="c"))).error, UnknownAgent)
        assert (await outcome(adapter, asked(model="b"))).finish == "stop"

    against(upstream, act, models=("a", "b"))
    assert len(upstream.requests) == 1


def test_a_star_publishes_what_the_upstream_lists_and_asks_once_a_minute(upstream: Upstream) -> None:
    async def act(adapter: OpenAIAdapter) -> list[Model] | None:
        first, *others = await asyncio.gather(*(adapter.models() for _ in range(5)))
        assert all(other == first for other in others)
        return first

    found = against(upstream, act, models="*")
    assert found == [Model(id=name, created=5, owned_by="me") for name in ("gpt-4o", "org/small")]
    assert [request.target for request in upstream.requests] == ["/v1/models"]


@pytest.mark.parametrize("case", [faults.refused(401), faults.html, faults.reset_at_once, faults.redirect])
def test_a_list_that_cannot_be_had_is_an_upstream_error_and_not_asked_for_at_once(
    upstream: Upstream, case: faults.Case
) -> None:
    upstream.then(case)

    async def act(adapter: OpenAIAdapter) -> None:
        for _ in range(3):
            with pytest.raises(UpstreamError):
                await adapter.models()

    against(upstream, act, models="*")
    assert len(upstream.requests) == 1


def test_an_upstream_that_answers_in_one_piece_is_understood(upstream: Upstream) -> None:
    async def whole(exchange: faults.Exchange) -> None:
        message = {"role": "assistant", "content": "all at once"}
        exchange.answer(200, exchange.chunk({"index": 0, "message": message, "finish_reason": "length"}))

    upstream.then(whole)
    assert ran(upstream).events == [TextDelta(text="all at once"), Completed(finish_reason="length")]


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"base_url": "ftp://host/v1", "model": "m"}, "base_url"),
        ({"base_url": "localhost:9000", "model": "m"}, "base_url"),
        ({"base_url": "http://", "model": "m"}, "base_url"),
        ({"base_url": "http://host:99999", "model": "m"}, "base_url"),
        ({"base_url": "http://user:hunter2@host/v1", "model": "m"}, "base_url"),
        ({"base_url": "http://host/v1\r\nx: y", "model": "m"}, "base_url"),
        ({}, "model"),
        ({"model": "m", "api_key": "sk-hunter2\n"}, "authorization"),
        ({"model": "m", "headers": {"x y": "1"}}, "x y"),
        ({"model": "m", "headers": {"Content-Length": "1"}}, "Content-Length"),
        ({"model": "m", "forward_headers": ("Authorization",)}, "Authorization"),
    ],
)
def test_wrong_options_are_refused_at_start_with_their_place_and_no_value(options: dict, place: str) -> None:
    adapter = OpenAIAdapter(UpstreamOptions(**options), SITE)
    with pytest.raises(ConfigError, match=place) as caught:
        asyncio.run(adapter.open())
    assert caught.value.message.startswith("agents.gpt.options")
    assert "hunter2" not in caught.value.message


def test_a_misspelt_option_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="modle"):
        msgspec.convert({"modle": "m"}, UpstreamOptions)


def test_models_may_be_a_star_or_a_list_but_not_another_word() -> None:
    assert msgspec.convert({"models": ["a"]}, UpstreamOptions).models == ("a",)
    assert msgspec.convert({"models": "*"}, UpstreamOptions).models == "*"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"models": "all"}, UpstreamOptions)

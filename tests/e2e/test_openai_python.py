"""The official Python SDK against a real server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.e2e.house import Server
from tests.e2e.upstreams import saying
from tests.fakes.upstream import Upstream

WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
def client(server: Server) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0)


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_a_stream_has_role_text_finish_usage_and_done(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="actor",
            messages=user("say Hel lo\nusage 3 2\nusage 4 1"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello"
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (7, 3)
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_whole_answer_is_folded_from_the_same_run(client: OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(model="actor", messages=user("say Hello\nusage 3 2"))
    completion = answer.parse()
    assert completion.choices[0].message.content == "Hello"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 5
    assert completion.id == f"chatcmpl-{answer.headers['x-run-id']}"


@pytest.mark.parametrize(("agent", "text"), [("threaded", "HelloWorld"), ("whole", "You said: Hello World")])
def test_synchronous_and_plain_functions_are_agents_too(client: OpenAI, agent: str, text: str) -> None:
    answer = client.chat.completions.create(model=agent, messages=user("Hello World"))
    assert answer.choices[0].message.content == text


def test_client_tools_arrive_as_streamed_calls_and_end_the_turn(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="actor", messages=user('client weather {"city": "Bonn"}'), tools=[WEATHER]
    ) as stream:
        final = stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls or []
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", '{"city": "Bonn"}')
    assert final.choices[0].finish_reason == "tool_calls"


def test_the_agents_own_tools_never_arrive_as_calls(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="actor", messages=user("tool\nsay done"))
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].message.content == "done"
    shown = client.chat.completions.create(
        model="actor", messages=user("tool\nsay done"), extra_body={"runwire": {"show": {"tools": "reasoning"}}}
    )
    assert "clock" in str(shown.choices[0].message.model_extra)


def test_a_failure_before_the_first_word_is_a_status(client: OpenAI) -> None:
    for stream in (True, False):
        with pytest.raises(openai.InternalServerError) as failed:
            client.chat.completions.create(model="actor", messages=user("fail"), stream=stream)
        assert failed.value.code == "internal_error"
        assert "secret" not in str(failed.value)


def test_a_failure_in_mid_stream_is_an_error_event(client: OpenAI) -> None:
    chunks = client.chat.completions.create(model="actor", messages=user("say Hello\nfail"), stream=True)
    assert "".join(next(chunks).choices[0].delta.content or "" for _ in range(2)) == "Hello"
    with pytest.raises(openai.APIError) as failed:
        next(chunks)
    assert failed.value.code == "internal_error"


def test_unknown_models_and_wrong_keys_are_refused_as_openai_does(client: OpenAI, server: Server) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nobody", messages=user("x"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=server.base_url, api_key="sk-wrong").models.list()
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="actor", messages=user("x"), temperature="hot")  # type: ignore[call-overload]
    assert bad.value.param == "temperature"


def test_models_lists_agents_and_the_upstreams_own(client: OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert {"actor", "gpt", "up/gpt-4o", "up/org/small"} <= names
    assert client.models.retrieve("up/org/small").id == "up/org/small"


def test_several_choices_come_interleaved_by_index(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="actor", messages=user("say Hello\nusage 1 1"), n=3)
    assert [choice.message.content for choice in answer.choices] == ["Hello"] * 3
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3
    texts = {0: "", 1: ""}
    for chunk in client.chat.completions.create(model="actor", messages=user("say Hel lo"), n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {0: "Hello", 1: "Hello"}


def test_an_upstream_answers_through_the_proxy(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt", messages=user("Hello"))
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == 18
    streamed = client.chat.completions.create(model="up/gpt-4o", messages=user("Hello"), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)


def test_a_request_may_be_repeated_under_its_key(server: Server) -> None:
    headers = {"authorization": "Bearer sk-test", "idempotency-key": "once"}
    body = {"model": "actor", "messages": user("say Hello")}
    first, second = (httpx.post(f"{server.base_url}/chat/completions", json=body, headers=headers) for _ in range(2))
    assert first.headers["x-run-id"] == second.headers["x-run-id"]
    assert first.json()["choices"] == second.json()["choices"]
    other = httpx.post(
        f"{server.base_url}/chat/completions", json=body | {"messages": user("say Bye")}, headers=headers
    )
    assert other.status_code == 409


def test_stream_events_of_the_helper_add_up_to_the_answer(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="actor", messages=user("say Hel lo\nusage 3 2"), stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    assert "".join(event.delta for event in events if event.type == "content.delta") == "Hello"
    assert [event.content for event in events if event.type == "content.done"] == ["Hello"]
    assert final.choices[0].message.content == "Hello"
    assert final.usage is not None
    assert final.usage.total_tokens == 5


def test_calls_build_up_in_the_helpers_events(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="actor", messages=user('client weather {"city": "Bonn"}'), tools=[WEATHER]
    ) as stream:
        events = list(stream)
    deltas = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    [done] = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert "".join(event.arguments_delta for event in deltas) == done.arguments == '{"city": "Bonn"}'
    assert (done.name, done.index) == ("weather", 0)


class Person(BaseModel):
    name: str
    age: int


def test_a_schema_reaches_the_upstream_and_its_answer_is_parsed(client: OpenAI, upstream: Upstream) -> None:
    upstream.then(saying('{"name": "Ann", "age": 7}'), saying('{"name": "Bob", "age": 8}'))
    parsed = client.chat.completions.parse(model="gpt", messages=user("Who?"), response_format=Person)
    assert parsed.choices[0].message.parsed == Person(name="Ann", age=7)
    asked = upstream.requests[-1].json["response_format"]
    assert asked["json_schema"]["name"] == "Person"
    assert asked["json_schema"]["strict"] is True
    with client.chat.completions.stream(model="gpt", messages=user("Who?"), response_format=Person) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Person(name="Bob", age=8)


def test_a_tool_loop_goes_through_the_upstream(client: OpenAI, upstream: Upstream) -> None:
    messages: list[Any] = user("use the tool")
    first = client.chat.completions.create(model="gpt", messages=messages, tools=[WEATHER]).choices[0]
    assert first.finish_reason == "tool_calls"
    [call] = first.message.tool_calls or []
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    messages += [first.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    second = client.chat.completions.create(model="gpt", messages=messages, tools=[WEATHER]).choices[0]
    assert (second.finish_reason, second.message.content) == ("stop", "You said: use the tool ")
    assert [message["role"] for message in upstream.requests[-1].json["messages"]] == ["user", "assistant", "tool"]
    assert upstream.requests[-1].json["messages"][1]["tool_calls"][0]["id"] == call.id


def test_raw_responses_show_headers_and_lines(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="actor", messages=user("say Hello"), stream=True)
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.headers["x-request-id"]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse()) == "Hello"
    with client.chat.completions.with_streaming_response.create(
        model="actor", messages=user("say Hello"), stream=True
    ) as streamed:
        lines = [line for line in streamed.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith("data: ") for line in lines)


def test_the_asynchronous_client_streams_many_at_once(server: Server) -> None:
    async def read(client: AsyncOpenAI, number: int) -> str:
        stream = await client.chat.completions.create(model="actor", messages=user(f"say {number} !"), stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def read_all() -> list[str]:
        async with AsyncOpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0) as client:
            return await asyncio.gather(*(read(client, number) for number in range(20)))

    assert asyncio.run(read_all()) == [f"{number}!" for number in range(20)]


def test_a_thread_is_named_in_a_header_the_metadata_or_the_extension(server: Server) -> None:
    named: list[dict[str, Any]] = [
        {"extra_headers": {"X-Thread-Id": "thread"}},
        {"metadata": {"thread_id": "thread"}},
        {"extra_body": {"runwire": {"thread_id": "thread"}}},
    ]
    client = OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0)
    create = client.chat.completions.with_raw_response.create
    for options in named:
        assert create(model="actor", messages=user("say Hello"), **options).headers["x-thread-id"] == "thread"
    always = OpenAI(base_url=server.base_url, api_key="sk-test", default_headers={"X-Thread-Id": "always"})
    raw = always.chat.completions.with_raw_response.create(model="actor", messages=user("say Hello"))
    assert raw.headers["x-thread-id"] == "always"
    assert "x-thread-id" not in create(model="actor", messages=user("say Hello")).headers


def test_unknown_keys_and_headers_of_the_caller_go_where_they_belong(client: OpenAI, upstream: Upstream) -> None:
    client.chat.completions.create(
        model="gpt",
        messages=user("Hello"),
        extra_body={"chat_template_kwargs": {"thinking": False}, "runwire": {"max_steps": 3}},
        extra_headers={"x-own": "1"},
    )
    asked = upstream.requests[-1]
    assert asked.json["chat_template_kwargs"] == {"thinking": False}
    assert "runwire" not in asked.json
    assert "x-own" not in asked.headers
    assert asked.headers["authorization"] == "Bearer sk-upstream-secret"

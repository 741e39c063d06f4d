"""`langchain-openai` against a real server, as LangChain and LangGraph users call it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.e2e.house import Server
from tests.e2e.runs import Watch, assert_cancelled, record
from tests.e2e.upstreams import saying
from tests.fakes.upstream import Exchange, Upstream, call


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@tool
def weather(city: str) -> str:
    """Tells the weather."""
    return f"sunny in {city}"


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One loop for all, since LangChain keeps its connections for the next model of the same URL."""
    with asyncio.Runner() as runner:
        yield runner


def chat(server: Server, model: str = "actor", **options: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=server.base_url, api_key="sk-test", model=model, max_retries=0, **options)


def test_an_answer_has_its_text_usage_and_finish_reason(server: Server) -> None:
    answer = chat(server).invoke("say Hello\nusage 3 2")
    assert answer.content == "Hello"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == 5
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.response_metadata["model_name"] == "actor"


def test_a_stream_adds_up_to_the_answer_with_usage(server: Server) -> None:
    whole = None
    for chunk in chat(server, stream_usage=True).stream("say Hel lo\nusage 3 2"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert whole.content == "Hello"
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == 5
    assert whole.response_metadata["finish_reason"] == "stop"


def test_many_answers_are_made_at_once(server: Server, loop: asyncio.Runner) -> None:
    answers = loop.run(chat(server).abatch([f"say {number}" for number in range(10)]))
    assert [answer.content for answer in answers] == [str(number) for number in range(10)]


@pytest.mark.parametrize("streaming", [False, True])
def test_tools_are_called_and_their_results_taken(server: Server, upstream: Upstream, streaming: bool) -> None:
    model = chat(server, "gpt", streaming=streaming).bind_tools([weather])
    messages: list[Any] = [SystemMessage("Be terse."), HumanMessage("use the tool")]
    asking = model.invoke(messages)
    assert isinstance(asking, AIMessage)
    [asked] = asking.tool_calls
    assert (asked["name"], asked["args"]) == ("weather", {"city": "Paris"})
    result = weather.invoke(asked)
    assert isinstance(result, ToolMessage)
    assert model.invoke([*messages, asking, result]).content == "You said: use the tool "
    sent = upstream.requests[-1].json["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool"]
    assert sent[-1]["content"] == "sunny in Paris"


def test_a_schema_is_answered_with_an_object(server: Server, upstream: Upstream) -> None:
    upstream.then(saying('{"name": "Ann", "age": 7}'))
    assert chat(server, "gpt").with_structured_output(Person).invoke("Who?") == Person(name="Ann", age=7)
    assert upstream.requests[-1].json["response_format"]["type"] == "json_schema"


def test_a_schema_may_be_answered_by_a_call(server: Server, upstream: Upstream) -> None:
    async def calling(exchange: Exchange) -> None:
        exchange.head()
        arguments = '{"name": "Ann", "age": 7}'
        call(exchange, id="call_1", type="function", function={"name": "Person", "arguments": arguments})
        exchange.done("tool_calls")

    upstream.then(calling)
    model = chat(server, "gpt").with_structured_output(Person, method="function_calling")
    assert model.invoke("Who?") == Person(name="Ann", age=7)
    asked = upstream.requests[-1].json
    assert asked["tool_choice"]["function"]["name"] == "Person"
    assert asked["parallel_tool_calls"] is False


def test_images_and_parameters_reach_the_upstream(server: Server, upstream: Upstream) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    message = HumanMessage(content=[{"type": "text", "text": "What is it?"}, image])
    chat(server, "gpt", temperature=0.5, max_tokens=9, stop=["END"], seed=1, reasoning_effort="low").invoke([message])
    asked = upstream.requests[-1].json
    assert asked["messages"][0]["content"][1] == image
    assert (asked["temperature"], asked["max_completion_tokens"], asked["stop"]) == (0.5, 9, ["END"])
    assert (asked["seed"], asked["reasoning_effort"]) == (1, "low")


@pytest.mark.parametrize(
    "options", [{"default_headers": {"X-Thread-Id": "lc"}}, {"extra_body": {"runwire": {"thread_id": "lc"}}}]
)
def test_a_thread_is_named_in_a_header_or_the_body(server: Server, options: dict[str, Any]) -> None:
    watch = Watch(server)
    chat(server, **options).invoke("say Hello")
    assert record(server, watch.next())["thread_id"] == "lc"


def test_developer_messages_stay_what_they_are(server: Server, upstream: Upstream) -> None:
    chat(server, "gpt").invoke([("developer", "Be terse."), ("user", "Hello")])
    assert [message["role"] for message in upstream.requests[-1].json["messages"]] == ["developer", "user"]


def test_failures_are_openais_errors(server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        chat(server, "nobody").invoke("x")
    with pytest.raises(openai.InternalServerError):
        chat(server).invoke("fail")
    seen: list[Any] = []
    with pytest.raises(openai.APIError) as failed:
        seen.extend(chunk.content for chunk in chat(server).stream("say Hello\nfail"))
    assert failed.value.code == "internal_error"


def test_leaving_a_stream_cancels_the_run(server: Server, loop: asyncio.Runner) -> None:
    async def leave() -> None:
        watch = Watch(server)
        stream = chat(server).astream("say Hello\nwait")
        async for chunk in stream:
            if chunk.content:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.to_thread(assert_cancelled, server, watch.next())

    loop.run(leave())

"""Every form that a request may have: roles, contents, parameters with values and with null, unknown keys, faults."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.e2e.house import Server
from tests.fakes.upstream import Upstream

HEADERS = {"authorization": "Bearer sk-test"}
TEXT = {"type": "text", "text": "Hello"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
FILE = {"type": "file", "file": {"file_id": "file-1"}}
REFUSAL = {"type": "refusal", "refusal": "No."}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
CUSTOM = {"id": "call_1", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, "strict": True}}
BARE = {"type": "function", "function": {"name": "bare"}}
SQL = {"type": "custom", "custom": {"name": "sql", "format": {"type": "text"}}}
ASKED = {"role": "user", "content": "Hello"}

MESSAGES: dict[str, list[dict[str, Any]]] = {
    "system": [{"role": "system", "content": "Be terse."}, ASKED],
    "system in parts": [{"role": "system", "content": [TEXT, TEXT]}, ASKED],
    "developer": [{"role": "developer", "content": "Be terse."}, ASKED],
    "developer in parts": [{"role": "developer", "content": [TEXT]}, ASKED],
    "user": [ASKED],
    "user with a name": [{"role": "user", "content": "Hello", "name": "Ann"}],
    "user in parts": [{"role": "user", "content": [TEXT, IMAGE, AUDIO, FILE]}],
    "user with an empty text": [{"role": "user", "content": ""}],
    "user without parts": [{"role": "user", "content": []}],
    "assistant": [ASKED, {"role": "assistant", "content": "Hi", "name": "bot"}, ASKED],
    "assistant in parts": [ASKED, {"role": "assistant", "content": [TEXT, REFUSAL]}, ASKED],
    "assistant who refuses": [ASKED, {"role": "assistant", "content": None, "refusal": "No."}, ASKED],
    "assistant who thought": [ASKED, {"role": "assistant", "content": "Hi", "reasoning_content": "Hm"}, ASKED],
    "assistant without content": [ASKED, {"role": "assistant"}, ASKED],
    "calls with null": [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ],
    "calls with an empty text": [
        ASKED,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": [TEXT]},
        ASKED,
    ],
    "calls without content": [
        ASKED,
        {"role": "assistant", "tool_calls": [CUSTOM]},
        {"role": "tool", "tool_call_id": "call_1", "content": "1", "name": "sql"},
    ],
    "nulls of the SDK": [ASKED, {"role": "assistant", "content": "Hi", "tool_calls": None, "audio": None}, ASKED],
    "unknown fields": [{"role": "user", "content": [{**TEXT, "cache_control": {"type": "ephemeral"}}], "own": 1}],
    "an unknown part with a text": [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}],
    "only an assistant": [{"role": "assistant", "content": "Hi"}],
}

PARAMETERS: dict[str, list[Any]] = {
    "stop": ["END", ["END", "."], []],
    "seed": [1, -1],
    "logprobs": [True, False],
    "top_logprobs": [5],
    "temperature": [0, 0.7, 2],
    "top_p": [0.5],
    "presence_penalty": [-2],
    "frequency_penalty": [0.1],
    "logit_bias": [{"50256": -100}, {}],
    "parallel_tool_calls": [True],
    "tools": [[], [WEATHER], [WEATHER, BARE, SQL]],
    "tool_choice": [
        "auto",
        "none",
        "required",
        {"type": "function", "function": {"name": "weather"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [WEATHER]}},
    ],
    "functions": [[{"name": "old", "parameters": {}}]],
    "function_call": ["auto", {"name": "old"}],
    "reasoning_effort": ["none", "minimal", "low", "high"],
    "max_tokens": [1000],
    "max_completion_tokens": [1000],
    "metadata": [{}, {"key": "value"}],
    "store": [True, False],
    "user": ["ann"],
    "prompt_cache_key": ["key"],
    "safety_identifier": ["hash"],
    "service_tier": ["auto", "flex"],
    "verbosity": ["low"],
    "modalities": [["text"], ["text", "audio"]],
    "audio": [{"voice": "alloy", "format": "wav"}],
    "prediction": [{"type": "content", "content": "Hello"}],
    "web_search_options": [{}],
    "response_format": [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True}},
    ],
    "stream": [True, False],
    "stream_options": [{"include_usage": True}, {}, {"include_usage": None, "include_obfuscation": False}],
    "n": [1],
    "top_k": [40],
    "chat_template_kwargs": [{"enable_thinking": False}],
    "an unknown key": [1, "x", [None], {"a": {"b": []}}],
    "runwire": [{}, {"max_steps": 5}],
}
VALUES = [(name, value) for name, values in PARAMETERS.items() for value in (None, *values)]
OURS = {"stream", "stream_options", "n", "runwire", "metadata", "store", "user", "safety_identifier"}


@pytest.fixture(scope="module")
def http(server: Server) -> Any:
    with httpx.Client(base_url=server.base_url, headers=HEADERS, timeout=20) as client:
        yield client


def post(http: httpx.Client, body: dict[str, Any]) -> httpx.Response:
    return http.post("/chat/completions", json=body)


@pytest.mark.parametrize("messages", MESSAGES.values(), ids=MESSAGES)
def test_every_form_of_message_is_taken(http: httpx.Client, upstream: Upstream, messages: list[Any]) -> None:
    assert post(http, {"model": "whole", "messages": messages}).status_code == 200
    before = len(upstream.requests)
    answer = post(http, {"model": "gpt", "messages": messages})
    assert answer.status_code == 200, answer.text
    sent = upstream.requests[before].json["messages"]
    assert [message["role"] for message in sent] == [message["role"] for message in messages]
    for given, got in zip(messages, sent, strict=True):
        for name, value in given.items():
            if name in ("content", "tool_calls", "name", "tool_call_id") and value is not None and "own" not in given:
                assert got[name] == value


@pytest.mark.parametrize(("name", "value"), VALUES, ids=lambda value: str(value)[:40])
def test_every_parameter_is_taken(http: httpx.Client, upstream: Upstream, name: str, value: Any) -> None:
    for model in ("whole", "curious", "gpt"):
        answer = post(http, {"model": model, "messages": [ASKED], name: value})
        assert answer.status_code == 200, answer.text
    sent = upstream.requests[-1].json
    if name in OURS or value in (None, []):
        assert name not in ("metadata", "runwire", "n") or name not in sent
    else:
        assert sent[name] == value


def test_all_parameters_may_be_null_together(http: httpx.Client) -> None:
    answer = post(http, {"model": "whole", "messages": [ASKED], **dict.fromkeys(PARAMETERS)})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tools", [[], None, [WEATHER]])
def test_empty_tools_are_no_tools(http: httpx.Client, upstream: Upstream, stream: bool, tools: Any) -> None:
    for choice in ({}, {"tool_choice": "auto"}, {"tool_choice": "none", "parallel_tool_calls": False}):
        body = {"model": "gpt", "messages": [ASKED], "tools": tools, "stream": stream, **choice}
        assert post(http, body).status_code == 200
        sent = upstream.requests[-1].json
        assert ("tools" in sent) == bool(tools)
        assert ("tool_choice" in sent) == bool(tools and choice)


@pytest.mark.parametrize(
    ("fault", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "wizard", "content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [ASKED, {"role": "user", "content": 5}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "user", "content": [TEXT, {"type": "video_url"}]}]}, "messages[0].content[1].type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"model": 5}, "model"),
        ({"model": None}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": "hot"}, "temperature"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"function": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"stop": 5}, "stop"),
        ({"metadata": []}, "metadata"),
        ({"response_format": "json"}, "response_format"),
        ({"stream_options": True}, "stream_options"),
        ({"runwire": {"keepalive": "x"}}, "runwire.keepalive"),
        ({"runwire": {"on_disconnect": "explode"}}, "runwire.on_disconnect"),
        ({"runwire": {"show": {"tools": "x"}}}, "runwire.show.tools"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_fault_is_named_by_its_field(http: httpx.Client, fault: dict[str, Any], param: str) -> None:
    answer = post(http, {"model": "whole", "messages": [ASKED], **fault})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_several_choices_go_with_neither_tools_nor_threads(http: httpx.Client) -> None:
    body = {"messages": [ASKED], "n": 2}
    for more in ({"model": "gpt", "tools": [WEATHER]}, {"model": "whole", "metadata": {"thread_id": "t"}}):
        answer = post(http, body | more)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"x"', '{"model": "whole"}', "x" * 1000, "\u00ff"])
def test_what_is_no_request_is_refused_in_openais_form(http: httpx.Client, body: str) -> None:
    answer = http.post("/chat/completions", content=body.encode("latin-1"))
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_what_the_caller_says_of_itself_reaches_the_agent_and_the_record(http: httpx.Client, server: Server) -> None:
    more = {"metadata": {"project": "p"}, "user": "ann", "runwire": {"context": {"tone": "dry", "secret": 1}}}
    answer = post(http, {"model": "curious", "messages": [ASKED], **more})
    told = answer.json()["choices"][0]["message"]["content"]
    assert "'metadata': {'project': 'p'}" in told
    assert "'user': 'ann'" in told
    assert "'context': {'tone': 'dry'}" in told
    kept = httpx.get(f"{server.url}/runs/{answer.headers['x-run-id']}", headers=HEADERS).json()
    assert kept["metadata"]["project"] == "p"
    assert kept["kwargs"]["user"] == "ann"

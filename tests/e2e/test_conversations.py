"""Threads, pauses and their answers, and what a request may choose, over the chat wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.house import Server, serving

GRAPHS = """
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

async def count(state):
    said = [message.content for message in state["messages"] if message.type == "human"]
    return {"messages": [AIMessage(" | ".join(said))]}

async def consent(state):
    answer = interrupt({"action_request": {"action": "approve", "args": {"sum": 5}}, "question": "Pay 5?"})
    return {"messages": [AIMessage(f"answer: {answer}")]}

counting = StateGraph(MessagesState).add_node("count", count).add_edge(START, "count")
asking = StateGraph(MessagesState).add_node("consent", consent).add_edge(START, "consent")
"""

APPROVE = {"type": "function", "function": {"name": "approve", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("conversations")
    (folder / "graphs.py").write_text(GRAPHS)
    graph = {"adapter": "langgraph", "options": {"graph": "./graphs.py:counting"}}
    asking = {"adapter": "langgraph", "options": {"graph": "./graphs.py:asking"}}
    agents: dict[str, Any] = {
        "full": graph | {"history": "full"},
        "last": graph | {"history": "last"},
        "asking": asking,
        "calling": asking | {"interrupts": "tool_calls"},
        "whole": {"adapter": "plain", "streaming": False, "options": {"function": "proxy.demo.echo:echo"}},
        "actor": {"adapter": "plain", "options": {"function": f"{Path(__file__).parent}/agents.py:actor"}},
    }
    with serving(folder, {"agents": agents, "store": "sqlite:///runs.db"}) as running:
        yield running


def chat(server: Server, model: str, *messages: dict[str, Any] | str, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    said = [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]
    body = {"model": model, "messages": said, **more}
    return httpx.post(f"{server.base_url}/chat/completions", json=body, headers=headers, timeout=30)


def text(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    content = answer.json()["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


def record(server: Server, answer: httpx.Response) -> dict[str, Any]:
    found = httpx.get(f"{server.url}/runs/{answer.headers['x-run-id']}").json()
    assert isinstance(found, dict)
    return found


ASSISTANT = {"role": "assistant", "content": "so far"}


def test_without_a_thread_nothing_is_remembered(server: Server) -> None:
    assert text(chat(server, "last", "one")) == "one"
    answer = chat(server, "last", "two")
    assert text(answer) == "two"
    assert "x-thread-id" not in answer.headers


def test_with_the_whole_history_each_request_starts_anew(server: Server) -> None:
    headers = {"x-thread-id": "full-1"}
    assert text(chat(server, "full", "one", headers=headers)) == "one"
    assert text(chat(server, "full", "one", ASSISTANT, "two", headers=headers)) == "one | two"
    assert text(chat(server, "full", "edited", headers=headers)) == "edited"


def test_with_the_last_messages_only_the_agent_remembers_the_rest(server: Server) -> None:
    answer = chat(server, "last", "one", metadata={"thread_id": "last-1"})
    assert text(answer) == "one"
    assert answer.headers["x-thread-id"] == "last-1"
    again = chat(server, "last", "forged", ASSISTANT, "two", headers={"x-thread-id": "last-1"})
    assert text(again) == "one | two"


def test_a_pause_asks_in_words_and_the_next_sentence_answers(server: Server) -> None:
    headers = {"x-thread-id": "ask-1"}
    asked = chat(server, "asking", "pay", headers=headers)
    assert text(asked) == "Pay 5?"
    assert asked.json()["choices"][0]["finish_reason"] == "stop"
    assert record(server, asked)["stop_reason"] == "interrupt"
    answered = chat(server, "asking", "pay", {"role": "assistant", "content": "Pay 5?"}, "yes", headers=headers)
    assert text(answered) == "answer: yes"
    assert record(server, answered)["resumes"] == asked.headers["x-run-id"]
    assert record(server, answered)["turn_id"] == asked.headers["x-run-id"]


@pytest.mark.parametrize(("model", "tools"), [("asking", [APPROVE]), ("calling", None)])
def test_a_pause_is_a_tool_call_where_the_tool_was_offered_or_the_config_says_so(
    server: Server, model: str, tools: list[Any] | None
) -> None:
    more = {"tools": tools} if tools else {}
    asked = chat(server, model, "pay", **more)
    choice = asked.json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    [call] = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "approve", "arguments": '{"sum":5}'}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "granted"}
    answered = chat(server, model, "pay", choice["message"], result, **more)
    assert text(answered) == "answer: granted"
    assert record(server, answered)["resumes"] == asked.headers["x-run-id"]
    again = chat(server, model, "pay", choice["message"], result, **more)
    assert again.headers["x-run-id"] == answered.headers["x-run-id"]
    assert text(again) == "answer: granted"


def test_a_busy_thread_is_refused_and_the_run_is_named(server: Server) -> None:
    headers = {"x-thread-id": "busy"}
    url = f"{server.base_url}/chat/completions"
    body = {"model": "actor", "messages": [{"role": "user", "content": "say Hi\nwait"}], "stream": True}
    with httpx.stream("POST", url, json=body, headers=headers, timeout=30) as first:
        lines = first.iter_lines()
        while "Hi" not in next(lines):
            pass
        second = chat(server, "actor", "say Hello", headers=headers)
        assert second.status_code == 409
        assert second.json()["error"]["code"] == "thread_busy"
        assert second.headers["x-run-id"] == first.headers["x-run-id"]
        cancelled = httpx.post(f"{server.url}/runs/{first.headers['x-run-id']}/cancel?wait=1")
        assert cancelled.json()["state"] == "cancelled"
        assert list(lines)[-2:] == ["data: [DONE]", ""]
    assert text(chat(server, "actor", "say Hello", headers=headers)) == "Hello"


def test_an_agent_that_does_not_stream_says_so(server: Server) -> None:
    refused = chat(server, "whole", "hi", stream=True)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "stream"
    assert chat(server, "whole", "hi").status_code == 200


def test_choices_come_from_the_body_or_from_headers_and_stand_in_the_record(server: Server) -> None:
    own = {"background": True, "show": {"tools": "details"}, "max_steps": 7}
    answer = chat(server, "actor", "tool\nsay done", runwire=own, user="u1", metadata={"a": "b"})
    assert "<details>" in text(answer)
    kept = record(server, answer)
    assert kept["metadata"]["a"] == "b"
    assert kept["kwargs"]["on_disconnect"] == "continue"
    assert (kept["kwargs"]["max_steps"], kept["kwargs"]["user"]) == (7, "u1")
    headers = {"x-runwire-show-tools": "details", "x-runwire-on-disconnect": "continue"}
    answer = chat(server, "actor", "tool\nsay done", headers=headers)
    assert "<details>" in text(answer)
    assert record(server, answer)["kwargs"]["on_disconnect"] == "continue"
    assert chat(server, "actor", "x", headers={"x-runwire-max-steps": "many"}).status_code == 400
    assert chat(server, "actor", "x", runwire={"model": "other"}).status_code == 400


def test_a_repeated_request_joins_and_does_not_stop_the_first(server: Server) -> None:
    headers = {"idempotency-key": "twice"}
    url = f"{server.base_url}/chat/completions"
    body = {"model": "actor", "messages": [{"role": "user", "content": "say Hi\nwait"}], "stream": True}
    with httpx.stream("POST", url, json=body, headers=headers, timeout=30) as first:
        lines = first.iter_lines()
        while "Hi" not in next(lines):
            pass
        with httpx.stream("POST", url, json=body, headers=headers, timeout=30) as second:
            assert second.headers["x-run-id"] == first.headers["x-run-id"]
            again = second.iter_lines()
            while "Hi" not in next(again):
                pass
        state = httpx.get(f"{server.url}/runs/{first.headers['x-run-id']}").json()["state"]
        assert state == "running"
    assert httpx.post(f"{server.url}/runs/{first.headers['x-run-id']}/cancel?wait=1").status_code == 200

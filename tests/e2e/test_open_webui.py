"""Open WebUI's requests, replayed: its bodies and headers in the form that version 0.12 gives them.

Every chat brings 36 tools of its own, 24 KB of them; beside it come calls for title, follow-ups and tags. The
connection's custom headers hold the templates that `docs/clients.md` advises, here filled in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.conftest import config
from tests.e2e.house import Server, serving
from tests.e2e.runs import Watch, assert_cancelled, record
from tests.fakes.upstream import Upstream

USER = {
    "x-openwebui-user-name": "Ann%20Example",
    "x-openwebui-user-id": "7f1c9a52-user",
    "x-openwebui-user-email": "ann@example.com",
    "x-openwebui-user-role": "user",
    "x-openwebui-auth-type": "session",
}
TASKS = {
    "title_generation": "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.",
    "follow_up_generation": "### Task:\nSuggest 3-5 relevant follow-up questions or prompts.",
    "tags_generation": "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history.",
}
KNOWN = ("get_current_timestamp", "ask_user", "search_knowledge_bases", "add_memory", "write_note", "create_automation")
BUILT_IN = (*KNOWN, *(f"built_in_{number}" for number in range(30)))


def tool(name: str) -> dict[str, Any]:
    words = "Says at length what the model may put here, and when. "
    properties = {key: {"type": "string", "description": words * 2} for key in ("query", "content")}
    properties["limit"] = {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None, "description": words}
    function = {"name": name, "description": words, "parameters": {"type": "object", "properties": properties}}
    return {"type": "function", "function": function}


TOOLS = [tool(name) for name in BUILT_IN]


class Chat:
    """One conversation of a user, as Open WebUI's backend has it with the server."""

    def __init__(self, server: Server, key: str = "sk-webui") -> None:
        self.id = str(uuid4())
        self._server = server
        self._key = key

    def headers(self, task: str = "") -> dict[str, str]:
        templates = {"x-thread-id": f"{self.id}{task}", "x-openwebui-chat-id": self.id}
        return {"authorization": f"Bearer {self._key}", **USER, **templates}

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self._server.base_url, headers=self.headers(), timeout=20)

    @contextmanager
    def streaming(self, model: str, messages: Any, **more: Any) -> Iterator[httpx.Response]:
        """The chat itself, with all tools; the end of the block is the stop button."""
        messages = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        body = {"stream": True, "model": model, "messages": messages, "tools": TOOLS, **more}
        with self.client() as client, client.stream("POST", "/chat/completions", json=body) as reply:
            yield reply

    def send(self, model: str, messages: Any, **more: Any) -> list[Any]:
        """The chat to its end: the events of its stream."""
        with self.streaming(model, messages, **more) as reply:
            assert reply.status_code == 200, reply.read()
            lines = [line for line in reply.iter_lines() if line]
        assert lines.pop() == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines]

    def task(self, model: str, name: str) -> httpx.Response:
        """One of the calls beside the chat, which do not stream."""
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": TASKS[name]}], "stream": False}
        if name == "title_generation":
            body["max_tokens"] = 1000
        return httpx.post(
            f"{self._server.base_url}/chat/completions", json=body, headers=self.headers(name), timeout=20
        )


def text(chunks: list[Any], field: str = "content") -> str:
    return "".join(chunk["choices"][0]["delta"].get(field) or "" for chunk in chunks if chunk["choices"])


@pytest.fixture(scope="module")
def webui(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """A server that believes its front end who the user is."""
    keys = ["sk-test", {"name": "webui", "key": "sk-webui", "tenant": "default", "forward_user": True}]
    with serving(tmp_path_factory.mktemp("webui"), config(upstream.url, server={"api_keys": keys})) as running:
        yield running


@pytest.fixture
def chat(webui: Server) -> Chat:
    return Chat(webui)


def test_the_model_list_has_ids(chat: Chat) -> None:
    with chat.client() as client:
        ids = [model["id"] for model in client.get("/models").json()["data"]]
    assert {"actor", "whole", "gpt", "up/org/small"} <= set(ids)


def test_36_tools_do_not_disturb_an_agent_that_takes_none(chat: Chat) -> None:
    assert 20_000 < len(json.dumps(TOOLS)) < 30_000
    assert len(TOOLS) == 36
    chunks = chat.send("whole", "Hello")
    assert text(chunks) == "You said: Hello"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_the_agents_own_tools_are_not_taken_for_the_front_ends(chat: Chat) -> None:
    chunks = chat.send("actor", "tool\nsay done")
    assert text(chunks) == "done"
    assert not any("tool_calls" in chunk["choices"][0]["delta"] for chunk in chunks)


def test_a_tool_is_asked_for_run_and_answered(chat: Chat, upstream: Upstream) -> None:
    messages: list[Any] = [{"role": "user", "content": "use the tool"}]
    first = chat.send("gpt", messages)
    assert len(upstream.requests[-1].json["tools"]) == 36
    calls = [call for chunk in first for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert (calls[0]["id"], calls[0]["function"]["name"]) == ("call_1", BUILT_IN[0])
    arguments = "".join(call["function"].get("arguments", "") for call in calls)
    assert json.loads(arguments) == {"city": "Paris"}
    assert first[-1]["choices"][0]["finish_reason"] == "tool_calls"
    asked = {"index": 0, "id": "call_1", "type": "function", "function": {"name": BUILT_IN[0], "arguments": arguments}}
    messages += [
        {"role": "assistant", "content": "", "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"timestamp": 1}'},
    ]
    assert text(chat.send("gpt", messages)) == "You said: use the tool "
    sent = upstream.requests[-1].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert sent[1]["content"] == ""


@pytest.mark.parametrize("model", ["whole", "actor"])
def test_title_follow_ups_and_tags_come_beside_the_chat(chat: Chat, webui: Server, model: str) -> None:
    watch = Watch(webui)
    with chat.streaming("actor", "say Hello\nwait"):
        run_id = watch.next()
        for name in TASKS:
            reply = chat.task(model, name)
            assert reply.status_code == 200
            assert reply.json()["choices"][0]["message"]["content"]
        assert record(webui, run_id)["state"] == "running"


def test_a_second_chat_on_a_busy_conversation_is_told_which_run_is_in_the_way(chat: Chat, webui: Server) -> None:
    watch = Watch(webui)
    with chat.streaming("actor", "say Hello\nwait"):
        run_id = watch.next()
        with chat.streaming("actor", "say Hello") as busy:
            busy.read()
    assert busy.status_code == 409
    assert busy.headers["x-run-id"] == run_id
    assert run_id in busy.json()["error"]["message"]


def test_conversations_grow_turn_by_turn(chat: Chat) -> None:
    messages: list[Any] = [{"role": "system", "content": "Be terse."}]
    for turn in range(3):
        messages.append({"role": "user", "content": f"say {turn}"})
        messages.append({"role": "assistant", "content": text(chat.send("actor", messages))})
    assert [message["content"] for message in messages[2::2]] == ["0", "1", "2"]


def test_files_and_images_reach_the_upstream_as_they_are(chat: Chat, upstream: Upstream) -> None:
    content = [
        {"type": "text", "text": '<attached_files>\n<file type="image" url="a.png"/>\n</attached_files>\n\n'},
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    assert "What is it?" in text(chat.send("gpt", [{"role": "user", "content": content}]))
    assert upstream.requests[-1].json["messages"][0]["content"] == content
    assert "What is it?" in text(chat.send("whole", [{"role": "user", "content": content}]))


def test_thoughts_come_in_their_own_field(chat: Chat) -> None:
    chunks = chat.send("actor", "think Hm\nsay Hello")
    assert (text(chunks, "reasoning_content"), text(chunks)) == ("Hm", "Hello")


def test_usage_is_there_if_the_model_is_marked_for_it(chat: Chat) -> None:
    chunks = chat.send("actor", "usage 3 2\nsay Hello", stream_options={"include_usage": True})
    assert chunks[-1]["usage"]["total_tokens"] == 5


def test_the_user_is_known_by_the_front_ends_word_only_if_its_key_says_so(webui: Server) -> None:
    users = []
    for key in ("sk-webui", "sk-test"):
        chunks = Chat(webui, key).send("actor", "say Hello")
        users.append(record(webui, chunks[0]["id"].removeprefix("chatcmpl-"))["kwargs"]["user"])
    assert users == [USER["x-openwebui-user-id"], None]


def test_the_conversation_is_the_thread_of_the_run(chat: Chat, webui: Server) -> None:
    chunks = chat.send("actor", "say Hello")
    assert record(webui, chunks[0]["id"].removeprefix("chatcmpl-"))["thread_id"] == chat.id


@pytest.mark.parametrize("words", ["say Hello\nwait", "wait"])
def test_the_stop_button_cancels_the_run(chat: Chat, webui: Server, words: str) -> None:
    watch = Watch(webui)
    with chat.streaming("actor", words):
        run_id = watch.next()
    assert_cancelled(webui, run_id)


def test_errors_have_the_message_that_is_shown(chat: Chat) -> None:
    with chat.streaming("nobody", "x") as unknown:
        unknown.read()
    with chat.client() as client:
        missing = client.post("/embeddings", json={"model": "x", "input": "x"})
    assert (unknown.status_code, missing.status_code) == (404, 404)
    assert unknown.json()["error"]["message"] == "The model `nobody` does not exist."
    *rest, last = chat.send("actor", "say Hello\nfail")
    assert text(rest) == "Hello"
    assert last["error"]["message"] == "The agent failed."

"""A configuration as users bring it along, with graphs and functions in files beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from openai import OpenAI

from tests.e2e.house import serving
from tests.fakes.upstream import Upstream

CONFIG = """
store: sqlite:///runs.db
server:
  host: 127.0.0.1
  port: 8000
  api_keys: ["${API_KEY:-sk-local}", {name: team-b, key: "${KEY_B:-sk-b}", tenant: b}]
agents:
  chat:
    adapter: langgraph
    options: {graph: "./graphs.py:chat"}
  gpt:
    adapter: openai
    options: {base_url: "@URL@", api_key: "${UPSTREAM_KEY:-none}", model: gpt-4o}
  fn:
    adapter: plain
    options: {function: "./agents.py:answer"}
  upstream:
    adapter: openai
    options: {base_url: "@URL@", models: "*", prefix: "up/"}   # publishes the upstream's own models
"""

GRAPHS = """
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

def reply(state):
    return {"messages": [AIMessage("graph: " + state["messages"][-1].content)]}

chat = StateGraph(MessagesState).add_node("reply", reply).add_edge(START, "reply")
"""

AGENTS = """
async def answer(request):
    yield "fn: "
    yield request.text
"""


def test_graphs_functions_and_upstreams_answer_as_named(tmp_path: Path, upstream: Upstream) -> None:
    (tmp_path / "graphs.py").write_text(GRAPHS)
    (tmp_path / "agents.py").write_text(AGENTS)
    with serving(tmp_path, CONFIG.replace("@URL@", upstream.url)) as server:
        local = OpenAI(base_url=server.base_url, api_key="sk-local", max_retries=0)
        other = OpenAI(base_url=server.base_url, api_key="sk-b", max_retries=0)
        assert {"chat", "gpt", "fn", "up/gpt-4o", "up/org/small"} == {model.id for model in local.models.list()}
        for client in (local, other):
            assert ask(client, "chat") == "graph: Hello"
            assert ask(client, "fn") == "fn: Hello"
            assert ask(client, "gpt")
            assert ask(client, "up/org/small")
    assert [request.json["model"] for request in upstream.requests if request.method == "POST"][-1] == "org/small"


def ask(client: OpenAI, model: str) -> str | None:
    chunks = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}], stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_what_keeps_a_server_from_starting_is_said_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "graphs.py").write_text("chart = None\n")
    text = 'agents: {chat: {adapter: langgraph, options: {graph: "./graphs.py:chat"}}}'
    with pytest.raises(AssertionError) as failed, serving(tmp_path, text):
        pass
    said = str(failed.value)
    assert "agents.chat.options.graph" in said
    assert "did you mean `chart`" in said
    assert "Traceback" not in said


def test_content_is_logged_only_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text(AGENTS)
    fn = 'agents: {fn: {adapter: plain, options: {function: "./agents.py:answer"}}}'
    for text, logged in ((fn, False), (fn + "\nruns: {log_content: true}", True)):
        with serving(tmp_path, text) as server:
            assert ask(OpenAI(base_url=server.base_url, api_key="none"), "fn") == "fn: Hello"
            assert server.stop() == 0
            assert ("Hello" in server.log) is logged

"""Servers and workers as real processes over one database: who imports what, who answers what, and how they end."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.faults.fleet import Fleet, Node, fleet
from tests.waiting import eventually

GRAPHS = """
import os, pathlib

if os.environ.get("WITHOUT"):
    raise ModuleNotFoundError("No module named 'framework'", name="framework")
with pathlib.Path(__file__).with_name("imported").open("a") as file:
    print(os.getpid(), file=file)

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

builder = StateGraph(MessagesState)
builder.add_node("say", lambda state: {"messages": [AIMessage(f"from {os.getpid()}")]})
builder.add_edge(START, "say")
graph = builder.compile()
"""
AGENTS = """
import os, sys
from tests.waiting import eventually

async def modules(request):
    yield " ".join(sorted({name.partition(".")[0] for name in sys.modules}))

async def pid(request):
    yield str(os.getpid())
"""
CONFIG: dict[str, Any] = {
    "server": {"drain": 2.0},
    "agents": {
        "far": {"adapter": "langgraph", "execute": "worker", "options": {"graph": "./graphs.py:graph"}},
        "modules": {"adapter": "plain", "options": {"function": "./agents.py:modules"}},
        "pid": {"adapter": "plain", "options": {"function": "./agents.py:pid"}},
    },
}
ASKED = {"assistant_id": "far", "input": {"messages": [{"role": "user", "content": "hi"}]}}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "graphs.py").write_text(GRAPHS)
    (tmp_path / "agents.py").write_text(AGENTS)
    with fleet(tmp_path, CONFIG) as made:
        yield made


def said(server: Node, model: str) -> str:
    client = OpenAI(base_url=server.base_url, api_key="none", max_retries=0)
    chunks = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def imported(house: Fleet) -> list[int]:
    return [int(line) for line in (house.folder / "imported").read_text().split()]


def ask(server: Node, method: str, path: str, body: Any = None) -> httpx.Response:
    return httpx.request(method, f"{server.url}{path}", json=body, timeout=30)


def test_a_server_serves_an_agent_that_only_workers_import_until_its_adapter_alone_can_tell(house: Fleet) -> None:
    server, worker = house.server(), house.worker()
    listed = ask(server, "GET", "/v1/models").json()["data"]
    assert {model["id"] for model in listed} == {"far", "modules", "pid"}
    found = ask(server, "POST", "/assistants/search", {"graph_id": "far"}).json()
    assert [assistant["graph_id"] for assistant in found] == ["far"]
    assert said(server, "far") == f"from {worker.pid}"

    thread = ask(server, "POST", "/threads", {}).json()["thread_id"]
    asked = {**ASKED, "stream_mode": ["values", "updates"]}
    streamed = ask(server, "POST", f"/threads/{thread}/runs/stream", asked).text
    assert re.findall(r"^event: (\w+)", streamed, re.MULTILINE) == ["metadata", "values", "updates", "values"]
    waited = ask(server, "POST", f"/threads/{thread}/runs/wait", ASKED).json()
    assert [message["content"] for message in waited["messages"]] == ["hi", f"from {worker.pid}"] * 2

    assert imported(house) == [worker.pid]
    modules = set(said(server, "modules").split())
    assert "litestar" in modules
    assert not modules & {"langgraph", "langchain_core", "graphs"}

    state = ask(server, "GET", f"/threads/{thread}/state").json()
    assert [message["content"] for message in state["values"]["messages"]] == ["hi", f"from {worker.pid}"] * 2
    assert imported(house) == [worker.pid, server.pid]
    assert {node["id"] for node in ask(server, "GET", "/assistants/far/graph").json()["nodes"]} >= {"say"}
    assert said(server, "far") == f"from {worker.pid}"


def test_a_server_that_cannot_import_it_refuses_that_alone_with_the_cure(house: Fleet) -> None:
    server, worker = house.server(env={"WITHOUT": "1"}), house.worker()
    thread = ask(server, "POST", "/threads", {}).json()["thread_id"]
    waited = ask(server, "POST", f"/threads/{thread}/runs/wait", ASKED).json()
    assert waited["messages"][-1]["content"] == f"from {worker.pid}"
    [run] = ask(server, "GET", f"/threads/{thread}/runs").json()
    for method, path in (
        ("GET", f"/threads/{thread}/state"),
        ("GET", "/assistants/far/schemas"),
        ("DELETE", f"/threads/{thread}"),
        ("DELETE", f"/threads/{thread}/runs/{run['run_id']}"),
    ):
        answer = ask(server, method, path)
        assert answer.status_code == 501, path
        assert "Install in the servers what the workers have" in answer.text
    assert ask(server, "GET", f"/threads/{thread}").json()["values"] == waited
    assert [each["run_id"] for each in ask(server, "GET", f"/threads/{thread}/runs").json()] == [run["run_id"]]
    assert said(server, "far") == f"from {worker.pid}"


def test_a_worker_answers_probes_and_ends_on_a_signal(house: Fleet) -> None:
    worker = house.worker("--health", "0", "--agents", "pid, far")
    found = eventually(
        lambda: re.search(r"health  (\S+)/ready\n  agents  pid, far\n", worker.out), "its word that it is up"
    )
    assert httpx.get(f"{found[1]}/ready").json() == {"status": "ready"}
    assert httpx.get(f"{found[1]}/health").json() == {"status": "ok"}
    assert httpx.get(f"{found[1]}/v1/models").status_code == 404
    assert worker.terminate() == 0
    assert house.workers == 0


def test_servers_in_one_command_share_a_port_and_one_that_dies_is_replaced(house: Fleet) -> None:
    server = house.server("--workers", "2")
    first = {said(server, "pid") for _ in range(12)}
    assert len(first) == 2
    assert str(server.pid) not in first
    victim = min(first)
    os.kill(int(victim), signal.SIGKILL)
    eventually(lambda: house.one("SELECT count(*) FROM servers WHERE pid != %s", int(victim)) == 2, "a successor")
    then = {said(server, "pid") for _ in range(12)}
    assert len(then) == 2
    assert victim not in then
    assert f'"child":{victim}' in server.log
    assert f'"pid":{max(first)}' in server.log
    assert server.terminate() == 0
    assert house.one("SELECT count(*) FROM servers WHERE pid != %s", int(victim)) == 0

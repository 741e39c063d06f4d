"""JavaScript clients against a real server: OpenAI's SDK, the AI SDK, LibreChat's engine.

Each test runs one script of `tests/clients` with Node and looks at the JSON it prints. The packages are installed
from the lock when it changed; they take no part in anything else.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.house import Server
from tests.e2e.npm import fetched
from tests.e2e.runs import Watch, assert_cancelled, record
from tests.e2e.upstreams import saying
from tests.fakes.faults import limited
from tests.fakes.upstream import Upstream

CLIENTS = Path(__file__).parent.parent / "clients"
Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def installed() -> None:
    """The locked packages, under `tests/clients/node_modules`."""
    fetched(CLIENTS)


@pytest.fixture
def ask(installed: None, server: Server) -> Ask:
    """Runs a script to its end and gives what it reports."""
    return lambda *script: report(begin(server, *script))


def begin(server: Server, script: str, *arguments: str) -> subprocess.Popen[str]:
    command = ["node", f"{script}.mjs", server.url, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=CLIENTS, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def report(process: subprocess.Popen[str], told: str = "") -> Any:
    with process:
        try:
            out, err = process.communicate(told, timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def test_no_package_may_run_code_when_it_is_installed(installed: None) -> None:
    """One of LibreChat's would report the machine to a third party."""
    told = subprocess.run(["npm", "config", "get", "ignore-scripts"], cwd=CLIENTS, capture_output=True, text=True)
    assert told.stdout.strip() == "true"


def test_the_documentation_names_the_versions_that_are_tried() -> None:
    page = (CLIENTS.parent.parent / "docs" / "clients.md").read_text("utf-8")
    locked = json.loads((CLIENTS / "package.json").read_text())["dependencies"].values()
    shown = json.loads((CLIENTS.parent / "browser" / "package.json").read_text())["dependencies"]
    hooks = (shown["@langchain/langgraph-sdk"], shown["@langchain/react"], shown["react"])
    ours = (version(name) for name in ("openai", "langchain-openai", "langgraph-sdk", "langgraph"))
    for number in (*locked, *hooks, *ours):
        assert number.rpartition("@")[2] in page


def test_openai_streams(ask: Ask) -> None:
    got = ask("openai-stream")
    assert (got["role"], got["text"], got["reasoning"], got["finish"]) == ("assistant", "Hello", "Hm", ["stop"])
    assert got["usage"]["prompt_tokens"] == 7
    assert got["usage"]["completion_tokens"] == 3
    assert got["ids"] == [f"chatcmpl-{got['headers']['x-run-id']}"]
    assert got["headers"]["content-type"].startswith("text/event-stream")
    assert got["headers"]["x-request-id"]
    assert got["headers"]["x-thread-id"] == "thread-of-node"


def test_openai_stream_helper_takes_text_and_calls(ask: Ask) -> None:
    got = ask("openai-helper")
    assert got["text"]["completion"]["choices"][0]["message"]["content"] == "Hello"
    assert got["text"]["events"] == ["connect", "chunk", "content.delta", "content.done", "finalChatCompletion", "end"]
    [choice] = got["call"]["completion"]["choices"]
    [call] = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert (call["id"], call["function"]) == ("call_1", {"name": "weather", "arguments": '{"city": "Bonn"}'})
    assert "tool_calls.function.arguments.done" in got["call"]["events"]


def test_openai_reads_whole_answers_raw_ones_structured_ones_and_models(ask: Ask, upstream: Upstream) -> None:
    upstream.then(saying('{"name": "Ann", "age": 7}'))
    got = ask("openai-whole")
    assert got["answer"]["choices"][0]["message"]["content"] == "Hello"
    assert got["answer"]["usage"]["total_tokens"] == 5
    assert got["requestId"] == got["headers"]["x-request-id"]
    assert got["answer"]["id"] == f"chatcmpl-{got['headers']['x-run-id']}"
    assert got["raw"]["status"] == 200
    assert got["raw"]["body"]["choices"][0]["message"]["content"] == "Raw"
    assert got["parsed"] == {"name": "Ann", "age": 7}
    assert {"actor", "gpt", "up/org/small"} <= set(got["models"])
    assert got["one"]["id"] == "up/org/small"


def test_openai_runs_tools_until_the_answer(ask: Ask) -> None:
    got = ask("openai-tools")
    for how in ("streamed", "whole"):
        assert got[how]["asked"] == [{"city": "Paris"}]
        assert got[how]["roles"] == ["user", "assistant", "tool", "assistant"]
        assert got[how]["content"] == "You said: use the tool "


def test_openai_asks_again_after_an_early_429(ask: Ask, upstream: Upstream) -> None:
    before = len(upstream.requests)
    upstream.then(limited("1"))
    assert ask("openai-retry")["text"] == "You said: Hello "
    assert len(upstream.requests) - before == 2


def test_openai_sees_failures_as_its_own_errors(ask: Ask, server: Server) -> None:
    watch = Watch(server)
    got = ask("openai-failures")
    assert (got["model"]["kind"], got["model"]["code"]) == ("NotFoundError", "model_not_found")
    assert got["key"]["kind"] == "AuthenticationError"
    assert got["field"]["kind"] == "BadRequestError"
    for when in ("early", "whole"):
        assert (got[when]["status"], got[when]["code"]) == (500, "internal_error")
    assert got["late"] == {"seen": "Hello", "code": "internal_error", "message": "The agent failed."}
    assert len(watch.started) == 3, "a failure of the agent's is not to be retried"


@pytest.mark.parametrize("how", ["stream", "break"])
def test_openai_leaving_a_stream_cancels_the_run(ask: Ask, server: Server, how: str) -> None:
    watch = Watch(server)
    assert ask("openai-abort", how) == {"text": "Hello"}
    assert_cancelled(server, watch.next())


@pytest.mark.parametrize(
    ("script", "how"),
    [("openai-abort", "silence"), ("openai-abort", "whole"), ("ai-sdk-abort", "silence"), ("librechat-abort", "")],
)
def test_leaving_before_the_first_word_cancels_the_run(installed: None, server: Server, script: str, how: str) -> None:
    watch = Watch(server)
    process = begin(server, script, how)
    run_id = watch.next()
    report(process, told="\n")
    assert_cancelled(server, run_id)


def test_ai_sdk_streams_text_thoughts_and_usage(ask: Ask, upstream: Upstream) -> None:
    upstream.then(saying('{"name": "Ann", "age": 7}'))
    got = ask("ai-sdk-text")
    assert (got["text"], got["reasoning"], got["finish"]) == ("Hello", "Hm", "stop")
    assert (got["usage"]["inputTokens"], got["usage"]["outputTokens"]) == (7, 3)
    assert got["types"].index("reasoning-start") < got["types"].index("text-start")
    assert "error" not in got["types"]
    assert (got["whole"]["text"], got["whole"]["reasoning"]) == ("Hello", "Hm")
    assert got["whole"]["usage"]["totalTokens"] == 5
    assert got["headers"]["x-thread-id"] == "thread-in-a-header"
    assert got["whole"]["headers"]["x-thread-id"] == "thread-in-the-body"
    assert got["structured"] == {"name": "Ann", "age": 7}
    assert upstream.requests[-1].json["response_format"]["json_schema"]["schema"]["required"] == ["name", "age"]


def test_ai_sdk_calls_tools_and_goes_on(ask: Ask) -> None:
    got = ask("ai-sdk-tools")
    assert got == {"asked": [{"city": "Paris"}], "text": "You said: use the tool ", "finish": ["tool-calls", "stop"]}


def test_ai_sdk_shows_errors_with_their_text(ask: Ask) -> None:
    got = ask("ai-sdk-failures")
    late = got["late"]
    assert [part["text"] for part in late["seen"] if part["type"] == "text-delta"] == ["Hello"]
    assert late["seen"][-1] == {"type": "finish", "finish": "error"}
    assert [error["message"] for error in late["errors"]] == ["The agent failed."]
    assert [(error["status"], error["message"]) for error in got["early"]["errors"]] == [(500, "The agent failed.")]
    assert (got["model"]["status"], got["model"]["message"]) == (404, "The model `nobody` does not exist.")


def test_ai_sdk_aborting_a_stream_cancels_the_run(ask: Ask, server: Server) -> None:
    watch = Watch(server)
    assert ask("ai-sdk-abort", "stream")["types"][-1] == "abort"
    assert_cancelled(server, watch.next())


def test_librechat_shows_an_answer_its_thoughts_and_its_usage(ask: Ask, server: Server) -> None:
    watch = Watch(server)
    got = ask("librechat-stream")
    kept = record(server, watch.next())
    assert (kept["thread_id"], kept["kwargs"]["user"]) == (got["conversation"], "user-1")
    assert got["content"] == [{"type": "think", "think": "Hm"}, {"type": "text", "text": "Hello"}]
    assert got["shown"] == got["content"]
    assert got["usage"] == [[3, 2]]


@pytest.mark.parametrize(
    ("method", "answer"), [("completion", "A Greeting"), ("structured", '{"title": "A Greeting"}')]
)
def test_librechat_makes_titles(ask: Ask, upstream: Upstream, method: str, answer: str) -> None:
    upstream.then(saying(answer))
    assert ask("librechat-title", method)["title"] == "A Greeting"
    asked = upstream.requests[-1].json
    assert "concise" in upstream.requests[-1].text
    assert ("response_format" in asked) == (method == "structured")


def test_librechat_runs_its_agents_tools(ask: Ask) -> None:
    got = ask("librechat-tools")
    assert got["asked"] == [{"city": "Paris"}]
    [call] = [part["tool_call"] for part in got["content"] if part["type"] == "tool_call"]
    assert (call["name"], call["output"]) == ("weather", "sunny")
    assert got["content"][-1] == {"type": "text", "text": "You said: use the tool "}


def test_librechat_rejects_with_the_errors_text(ask: Ask) -> None:
    got = ask("librechat-failures")
    assert (got["early"]["kind"], got["early"]["code"]) == ("InternalServerError", "internal_error")
    assert (got["late"]["kind"], got["late"]["message"]) == ("APIError", "The agent failed.")
    assert got["model"]["code"] == "model_not_found"

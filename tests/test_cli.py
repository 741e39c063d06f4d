from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from proxy.cli import main
from proxy.cli.guards import admitted, is_loopback
from proxy.errors import ConfigError
from proxy.settings import Agent, Jwt, Server, Settings

AGENTS = """
import asyncio

async def hello(request):
    yield "Hello, "
    yield request.text

async def endless(request):
    yield "It begins."
    await asyncio.sleep(3600)
"""
CONFIG = """
store: memory://
server: {port: 0}
agents:
  hello: {adapter: plain, description: Greets, options: {function: "./agents.py:hello"}}
  endless: {adapter: plain, options: {function: "./agents.py:endless"}}
  later: {adapter: openai, enabled: "${LATER_KEY:-}"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "agents.py").write_text(AGENTS)
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("API_KEY", raising=False)
    return tmp_path


def runwire(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=given)


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "proxy.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=environment) as child:
        try:
            yield child
        finally:
            child.kill()


def read_until(child: subprocess.Popen[str], words: str) -> str:
    assert child.stdout is not None
    text = ""
    while words not in text:
        piece = child.stdout.read(1)
        assert piece, f"ended without {words!r}: {text}"
        text += piece
    return text


def test_help_names_every_command() -> None:
    text = runwire("--help").output
    names = ("serve", "worker", "migrate", "check", "agents", "health", "chat", "init", "version")
    assert all(f"\n  {name} " in text for name in names)
    assert "child" not in text


def test_version_is_the_installed_one() -> None:
    assert runwire("version").output.startswith("runwire ")


def test_agents_lists_what_is_on_and_how_to_turn_on_the_rest(folder: Path) -> None:
    assert runwire("agents").output.splitlines() == [
        "  hello    plain  Greets",
        "  endless  plain",
        "  later    off    set LATER_KEY to turn it on",
    ]


def test_check_imports_every_agent(folder: Path) -> None:
    result = runwire("check")
    assert [line.split()[:2] for line in result.output.splitlines()][:3] == [
        ["hello", "OK"],
        ["endless", "OK"],
        ["later", "off"],
    ]
    assert result.exit_code == 0


def test_check_tells_each_fault_with_its_place(folder: Path) -> None:
    (folder / "broken.py").write_text("raise ValueError('nothing works')")
    (folder / "config.yaml").write_text("""
agents:
  good: {adapter: plain, options: {function: "./agents.py:hello"}}
  misnamed: {adapter: plain, options: {function: "./agents.py:helo"}}
  misspelt: {adapter: plain, options: {funktion: "./agents.py:hello"}}
  broken: {adapter: plain, options: {function: "./broken.py:hello"}}
  unknown: {adapter: nothing}
""")
    result = runwire("check")
    assert result.exit_code == 1
    told = {line.split()[0]: line for line in result.output.splitlines()}
    assert told["good"].split()[1] == "OK"
    assert all(told[name].split()[1] == "FAULT" for name in ("misnamed", "misspelt", "broken", "unknown"))
    assert "did you mean `hello`?" in told["misnamed"]
    assert "`$.agents.misspelt.options`" in told["misspelt"]
    assert "nothing works" in told["broken"]
    assert "`$.agents.unknown.adapter`" in told["unknown"]


def test_check_tells_a_fault_of_the_file_with_its_line(folder: Path) -> None:
    (folder / "config.yaml").write_text("agents: {a: {adapter: plain}}\nruns: {timeout: -1}\n")
    result = runwire("check")
    assert result.exit_code == 1
    assert "config.yaml:2: " in result.output
    assert "`$.runs.timeout`" in result.output


def test_init_begins_a_project_that_passes_its_check_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert runwire("init", "new").exit_code == 0
    monkeypatch.chdir(tmp_path / "new")
    assert runwire("check").exit_code == 0
    assert runwire("chat", "hello", "good day").output.strip() == "Hello! You said: good day"


def test_init_never_overwrites(folder: Path) -> None:
    (folder / "config.yaml").unlink()
    result = runwire("init")
    assert result.exit_code == 1
    assert "agents.py is there already" in result.output
    assert (folder / "agents.py").read_text() == AGENTS
    assert not (folder / "config.yaml").exists()


def test_chat_says_one_thing_and_prints_the_answer(folder: Path) -> None:
    result = runwire("chat", "hello", "you")
    assert (result.output, result.exit_code) == ("Hello, you\n", 0)


def test_chat_talks_until_the_input_ends(folder: Path) -> None:
    result = runwire("chat", "hello", given="one\ntwo\n")
    assert "Hello, one" in result.output
    assert "Hello, two" in result.output
    assert result.exit_code == 0


def test_chat_with_an_unknown_agent_says_so(folder: Path) -> None:
    result = runwire("chat", "helo", "you")
    assert "helo" in result.output
    assert result.exit_code == 1


def test_chat_without_a_server_says_where_it_looked(folder: Path) -> None:
    result = runwire("chat", "hello", "you", "--url", "http://127.0.0.1:1")
    assert "no server answers at http://127.0.0.1:1/v1" in result.output
    assert result.exit_code == 1


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(folder: Path) -> None:
    with process("chat", "endless") as child:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        read_until(child, "It begins.")
        child.send_signal(signal.SIGINT)
        read_until(child, "[stopped]")
        child.stdin.write("again\n")
        child.stdin.flush()
        read_until(child, "It begins.")
        child.send_signal(signal.SIGINT)
        read_until(child, "[stopped]")
        child.stdin.close()
        assert child.wait(timeout=20) == 0


def test_serve_says_what_a_user_needs_and_stops_cleanly(folder: Path) -> None:
    with process("serve") as child:
        text = read_until(child, "}])\n")
        url = text.partition("up on ")[2].split()[0]
        assert f'base_url="{url}/v1", api_key="none"' in text
        assert 'model="hello"' in text
        assert "state   memory://" in text
        assert "later    off    set LATER_KEY" in text
        assert urllib.request.urlopen(f"{url}/health").status == 200
        assert runwire("chat", "hello", "there", "--url", url).output == "Hello, there\n"
        child.terminate()
        assert child.wait(timeout=20) == 0


def test_serve_never_shows_a_key(folder: Path) -> None:
    (folder / "config.yaml").write_text(CONFIG.replace("{port: 0}", "{port: 0, api_keys: [sk-very-secret]}"))
    with process("serve") as child:
        text = read_until(child, "}])\n")
        assert 'api_key="YOUR_KEY")  # one of server.api_keys' in text
        assert "very-secret" not in text


def test_serve_starts_anew_when_a_file_changes(folder: Path) -> None:
    with process("serve", "--reload") as child:
        read_until(child, "Greets")
        read_until(child, "}])\n")
        (folder / "config.yaml").write_text(CONFIG.replace("Greets", "Welcomes"))
        assert "starting anew" in read_until(child, "Welcomes")
        read_until(child, "}])\n")
        child.terminate()
        assert child.wait(timeout=20) == 0


def settings(**server: object) -> Settings:
    return Settings(agents={"a": Agent(adapter="plain")}, server=Server(**server))  # type: ignore[arg-type]


def served(config: Settings, host: str | None, *, workers: int = 1, insecure: bool = False) -> Settings:
    return admitted(config, host=host, port=None, workers=workers, insecure=insecure)


def test_listening_beyond_this_machine_without_keys_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 .*`server.api_keys`.*--insecure"):
        served(settings(), "0.0.0.0")
    with pytest.raises(ConfigError, match="without API keys"):
        served(settings(host="::"), None)


def test_listening_beyond_this_machine_is_fine_with_keys_tokens_or_the_users_word() -> None:
    assert served(settings(api_keys=("k",)), "0.0.0.0").server.host == "0.0.0.0"
    assert served(settings(jwt=Jwt(secret="s")), "0.0.0.0").server.host == "0.0.0.0"
    assert served(settings(), "0.0.0.0", insecure=True).server.host == "0.0.0.0"


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("", False), ("example.org", False)],
)
def test_loopback_is_this_machine_only(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_more_than_one_worker_is_refused_with_the_cure() -> None:
    with pytest.raises(
        ConfigError, match=r"2 processes cannot share the store `sqlite`.*postgresql://.*--workers at 1"
    ):
        served(settings(), None, workers=2)


def test_more_than_one_worker_is_fine_over_a_shared_store() -> None:
    shared = replace(settings(), store="postgresql://127.0.0.1/db")
    assert served(shared, None, workers=2).store == shared.store


@pytest.mark.parametrize("store", ["memory://", "sqlite:///runs.db"])
def test_a_worker_over_a_store_of_one_process_is_refused_with_the_cure(folder: Path, store: str) -> None:
    (folder / "config.yaml").write_text(CONFIG.replace("memory://", store))
    result = runwire("worker")
    assert result.exit_code == 1
    assert f"`store`: {store.partition(':')[0]} belongs to one process" in result.output
    assert "postgresql://" in result.output


def test_a_worker_for_an_agent_that_is_none_is_refused(folder: Path) -> None:
    result = runwire("worker", "--agents", "hello, helo")
    assert result.exit_code == 1
    assert "--agents: there is no agent `helo`; did you mean `hello`?" in result.output


def test_health_asks_whether_work_is_taken(folder: Path) -> None:
    with process("serve") as child:
        url = read_until(child, "}])\n").partition("up on ")[2].split()[0]
        assert runwire("health", "--url", url).exit_code == 0
        child.terminate()
        assert child.wait(timeout=20) == 0
        assert runwire("health", "--url", url).exit_code == 1


def test_the_command_line_overrides_the_file() -> None:
    served = admitted(settings(port=1), host="::1", port=0, workers=1, insecure=False)
    assert (served.server.host, served.server.port) == ("::1", 0)

"""A client in JavaScript that is as strict as the SDKs of the workflow dialect, against a real server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.callers import KEY
from tests.e2e.conftest import config
from tests.e2e.house import Server, serving
from tests.e2e.npm import needed

CLIENTS = Path(__file__).parent.parent / "clients"


@pytest.fixture(scope="module")
def workflows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    needed("node")
    base = config("http://127.0.0.1:9")
    base["agents"]["actor"]["client_tools"] = "pass"
    with serving(tmp_path_factory.mktemp("workflows"), base) as running:
        yield running


def played(server: Server, scene: str) -> Any:
    """What the client reports of a scene, after it has found nothing odd."""
    command = ["node", "workflows.mjs", server.url, KEY, scene]
    done = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_log_is_the_same_in_lines_from_the_middle_and_as_server_sent_events(workflows: Server) -> None:
    got = played(workflows, "text")
    assert got["types"][:3] == ["run_compiled", "run_started", "node_started"]
    assert got["types"][-1] == "run_completed"
    assert got["text"] == "Grüße🎈日本"
    assert [node["type"] for node in got["snapshot"]["nodes"]] == ["llm.responses"] * 2
    assert got["snapshot"]["status"] == "succeeded"


def test_tools_are_answered_while_one_stream_is_read(workflows: Server) -> None:
    got = played(workflows, "tools")
    assert got["answered"]["accepted"] == 1
    assert got["types"].count("node_waiting") == 2
    assert (got["types"][-1], got["snapshot"]["status"]) == ("run_canceled", "canceled")


def test_failures_are_told_in_the_flat_form(workflows: Server) -> None:
    got = played(workflows, "failures")
    assert got["types"][-2:] == ["node_failed", "run_failed"]
    assert got["snapshot"]["outputs"] == {}
    assert (got["issues"]["refused"], got["issues"]["code"]) == (400, "VALIDATION_ERROR")
    assert (got["missing"]["refused"], got["missing"]["code"]) == (404, "NOT_FOUND")
    assert got["input"]["fields"][0]["field"] == "input.who"


def test_the_client_is_as_strict_as_it_says(workflows: Server) -> None:
    got = played(workflows, "strict")
    assert got == {"spoilt": 19, "passed": [], "same": [], "whole": True}

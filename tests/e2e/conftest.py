"""One real server and one fake upstream for all end-to-end tests that do not need their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.house import HERE, Server, serving
from tests.fakes.upstream import Upstream


def config(upstream: str = "http://127.0.0.1:9", **changes: Any) -> dict[str, Any]:
    """A config with all agents of `tests/e2e/agents.py`, and one before a fake upstream."""
    file = HERE / "agents.py"
    plain = {name: f"{file}:{name}" for name in ("actor", "threaded", "whole", "curious")}
    agents: dict[str, Any] = {
        name: {"adapter": "plain", "options": {"function": function}} for name, function in plain.items()
    }
    agents["actor"]["client_tools"] = "pass"
    agents["curious"]["options"]["request_keys"] = ["tone"]
    agents["gpt"] = {
        "adapter": "openai",
        "options": {"base_url": upstream, "api_key": "sk-upstream-secret", "model": "gpt-4o"},
    }
    agents["upstream"] = {
        "adapter": "openai",
        "options": {"base_url": upstream, "api_key": "sk-upstream-secret", "models": "*", "prefix": "up/"},
    }
    keys = ["sk-test", {"name": "team-b", "key": "sk-b", "tenant": "b"}]
    base: dict[str, Any] = {"store": "sqlite:///runs.db", "server": {"api_keys": keys}, "agents": agents}
    return base | changes


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    with Upstream() as fake:
        yield fake


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("server")
    with serving(folder, config(upstream.url)) as running:
        yield running

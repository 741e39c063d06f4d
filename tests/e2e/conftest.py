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


def hasty(upstream: str = "http://127.0.0.1:9", **changes: Any) -> dict[str, Any]:
    """The same with all times short, and with the actor once more under each setting that has to do with time."""
    base = config(upstream)
    actor = base["agents"]["actor"]
    settings: dict[str, dict[str, Any]] = {
        "patient": {"first_byte": 60.0},
        "prompt": {"first_byte": 0.0},
        "stays": {"on_disconnect": "continue"},
        "chunks": {"keepalive_style": "chunk"},
        "mute": {"keepalive_style": "off"},
        "brief": {"timeout": 0.3},
        "lively": {"idle_timeout": 1.0},
    }
    blocked = actor | {"options": {"function": f"{HERE / 'agents.py'}:blocked"}}
    base["agents"] |= {name: actor | own for name, own in settings.items()} | {"blocked": blocked}
    chat = {"keepalive": 0.05, "keepalive_json": True, "first_byte": 0.05, "send_timeout": 2.0}
    return base | {"dialects": {"chat": chat}, "runs": {"cancel_grace": 0.3}} | changes


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    with Upstream() as fake:
        yield fake


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("server")
    with serving(folder, config(upstream.url)) as running:
        yield running


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    """A server in a hurry: see `hasty`."""
    with serving(tmp_path_factory.mktemp("quick"), hasty(upstream.url)) as running:
        yield running

"""What servers and workers share, put together but not opened."""

from __future__ import annotations

import pytest

from proxy.errors import ConfigError
from proxy.process import Process
from proxy.settings import Agent, Settings

ECHO = {"function": "proxy.demo.echo:echo"}


def settings(execute: str = "server", **more: str) -> Settings:
    agents = {
        "one": Agent(adapter="plain", options=ECHO),
        "two": Agent(adapter="plain", options=ECHO, execute=execute),  # type: ignore[arg-type]
    }
    return Settings(agents=agents, **{"store": "postgresql://127.0.0.1:1/none", **more})  # type: ignore[arg-type]


def test_only_who_can_have_all_threads_forgotten_deletes_old_ones() -> None:
    partly = Process(settings("worker"), ["one"])
    whole = Process(settings(), ["one", "two"])
    worker = Process(settings("worker"), ["two"], "worker")
    assert [process.threads.sweep in process.manager.sweeps for process in (partly, whole, worker)] == [
        False,
        True,
        True,
    ]


def test_agents_that_others_run_are_known_and_not_here() -> None:
    process = Process(settings("worker"), ["one"])
    assert [agent.name for agent in process.agents] == ["one", "two"]
    assert process.agents.here == {"one"}


def test_the_lease_is_as_long_as_the_config_says_in_a_shared_store_alone() -> None:
    assert Process(settings(), ["one", "two"]).store.lease.seconds == settings().runs.lease
    assert Process(settings(store="memory://"), ["one", "two"]).store.lease.holds()


def test_what_needs_a_shared_store_is_refused_also_without_a_file() -> None:
    with pytest.raises(ConfigError, match=r"`execute: worker` leaves the runs to other processes.*postgresql://"):
        Process(settings("worker", store="memory://"), ["one"])

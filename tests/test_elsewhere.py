"""Agents that other processes run, in one that only knows their traits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from proxy import plugins
from proxy.adapter import RunInput, ThreadName
from proxy.elsewhere import Elsewhere
from proxy.errors import AdapterMissing, ConfigError, Unavailable
from proxy.settings import Agent, Settings
from proxy.traits import Traits

OURS = {
    "langgraph": {"graph": "proxy.demo.assistant:graph"},
    "openai": {"model": "m", "base_url": "http://127.0.0.1:1"},
    "plain": {"function": "proxy.demo.echo:echo"},
}
NATIVE = """
from proxy.adapter import Adapter

class Mine(Adapter):
    native = True
    takes_tools = "pass"

    async def stream(self, run):
        yield None
"""
MARKED = """
import pathlib
pathlib.Path(__file__).with_suffix(".imported").touch()
from proxy.demo.assistant import graph
"""
AWAY_AT_FIRST = """
from proxy.adapter import Adapter
from proxy.errors import Unavailable

class Mine(Adapter):
    made = []
    closed = False

    async def open(self):
        self.made.append(self)
        if len(self.made) == 1:
            raise Unavailable("The database is away.")

    async def close(self):
        self.closed = True

    async def stream(self, run):
        yield None
"""
THREAD = ThreadName(thread_id="t")


def builder(folder: Path, adapter: str, **options: Any) -> plugins.Builder:
    agent = Agent(adapter=adapter, execute="worker", options=options)
    return plugins.Builder(Settings(agents={"a": agent}, store="memory://", folder=str(folder)))


@pytest.mark.parametrize("adapter", OURS)
def test_the_traits_of_our_adapters_are_what_they_are(tmp_path: Path, adapter: str) -> None:
    made = builder(tmp_path, adapter, **OURS[adapter])
    real, stand_in = made.make("a"), made.stand_in("a")
    assert stand_in.traits == Traits.of(real)
    for name in ("native", "takes_tools", "overrides_model", "resumes"):
        assert getattr(stand_in, name) == getattr(real, name)


def test_an_adapter_that_servers_would_be_wrong_about_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NATIVE)
    with pytest.raises(ConfigError, match=r"its `native`, `takes_tools`: .*`runwire.traits`.*`\$.agents.a.adapter`"):
        builder(tmp_path, "./mine.py:Mine").make("a")


def test_an_agent_is_imported_when_its_threads_are_first_asked_for(tmp_path: Path) -> None:
    (tmp_path / "graphs.py").write_text(MARKED)
    imported = tmp_path / "graphs.imported"

    async def main() -> None:
        agent = builder(tmp_path, "langgraph", graph="./graphs.py:graph").stand_in("a")
        await agent.open()
        assert await agent.models() is None
        assert agent.blueprint is not None
        assert agent.blueprint.nodes is None
        assert agent.threads is not None
        assert not imported.exists()
        states = await asyncio.gather(*(agent.threads.state(THREAD) for _ in range(3)))
        assert imported.exists()
        assert {state.next for state in states} == {()}
        assert b"nodes" in bytes(await agent.blueprint.drawing())
        assert await agent.threads.history(THREAD, limit=1) == []
        await agent.forget(THREAD.key)
        await agent.close()

    asyncio.run(main())


def test_what_only_a_missing_adapter_knows_is_refused_and_all_else_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        agent = builder(tmp_path, "langgraph", graph="./nothing.py:graph").stand_in("a")
        await agent.open()
        assert (agent.native, await agent.models()) == (True, None)
        assert agent.threads is not None
        assert agent.blueprint is not None
        for _ in range(2):
            await refused(agent.threads.state(THREAD))
        await refused(agent.threads.copy(THREAD, THREAD))
        await refused(agent.blueprint.schemas())
        await refused(agent.check_forget())
        await refused(agent.forget(THREAD.key))
        await agent.threads.check_resume(THREAD)
        with pytest.raises(AdapterMissing):
            agent.stream(RunInput(run_id="r", thread_id="t", agent="a"))
        await agent.close()

    asyncio.run(main())


def test_an_adapter_whose_database_is_away_is_let_go_of_and_made_again(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(AWAY_AT_FIRST)

    async def main() -> None:
        agent = builder(tmp_path, "./mine.py:Mine").stand_in("a")
        with pytest.raises(Unavailable):
            await agent.reach()
        second: Any = await agent.reach()
        assert [each.closed for each in second.made] == [True, False]
        await agent.close()
        assert second.closed

    asyncio.run(main())


def test_an_adapter_without_traits_counts_as_a_plain_one(tmp_path: Path) -> None:
    async def main() -> None:
        agent = builder(tmp_path, "no.such.module:Agent", request_keys=["k"]).stand_in("a")
        assert isinstance(agent, Elsewhere)
        assert (agent.threads, agent.blueprint, agent.native, agent.takes_tools) == (None, None, False, "ignore")
        assert agent.options.request_keys == ["k"]
        await agent.forget(THREAD.key)
        await agent.close()

    asyncio.run(main())


async def refused(asked: Awaitable[object]) -> None:
    with pytest.raises(AdapterMissing, match="`a` is run by workers"):
        await asked

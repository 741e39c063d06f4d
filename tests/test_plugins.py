from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from proxy import plugins
from proxy.adapter import Adapter
from proxy.errors import ConfigError, Unavailable
from proxy.settings import Agent, Settings

OURS = """
from collections.abc import AsyncGenerator
import msgspec
from proxy.adapter import Adapter, RunInput
from proxy.events import Event, TextDelta


class Options(msgspec.Struct, forbid_unknown_fields=True):
    base_url: str
    retries: int = 2
    tags: dict[str, int] = {}


class Mine(Adapter):
    Options = Options

    async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
        yield TextDelta(text="hello")


class NotOne:
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(OURS)
    return tmp_path


def settings(folder: Path, **agents: Agent) -> Settings:
    return Settings(agents=agents, folder=str(folder), store="memory://")


def fault(folder: Path, **agents: Agent) -> str:
    with pytest.raises(ConfigError) as caught:
        plugins.Builder(settings(folder, **agents)).build(agents)
    return caught.value.message


def test_our_own_adapters_are_found_by_their_entry_points() -> None:
    assert plugins.find("plain").__name__ == "PlainAdapter"


def test_a_near_miss_of_a_name_is_put_right() -> None:
    with pytest.raises(ConfigError, match=r"unknown adapter `plian`; did you mean `plain`\?"):
        plugins.find("plian")


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"unknown adapter `zzz`; installed are .*`openai`, `plain`"):
        plugins.find("zzz")


def test_an_adapter_of_the_users_is_built_from_a_file_beside_the_config(folder: Path) -> None:
    options = {"base_url": "http://x", "retries": "3"}
    built = plugins.Builder(settings(folder, a=Agent(adapter="./mine.py:Mine", options=options))).build("a")
    assert isinstance(built["a"], Adapter)
    assert (built["a"].options.base_url, built["a"].options.retries) == ("http://x", 3)
    assert (built["a"].site.agent, built["a"].site.folder, built["a"].site.state) == ("a", folder, "memory://")


def test_a_misspelt_option_is_named_with_its_place_and_the_right_name(folder: Path) -> None:
    agent = Agent(adapter="./mine.py:Mine", options={"base_url": "x", "retires": 1})
    assert fault(folder, gpt=agent) == ("unknown field `retires`; did you mean `retries`? - at `$.agents.gpt.options`")


def test_options_of_a_wrong_kind_are_named_with_their_place(folder: Path) -> None:
    agent = Agent(adapter="./mine.py:Mine", options={"base_url": "x", "retries": "many"})
    assert fault(folder, gpt=agent) == "expected a whole number, got text - at `$.agents.gpt.options.retries`"


def test_faults_of_all_agents_are_told_at_once(folder: Path) -> None:
    wrong = Agent(adapter="./mine.py:Mine")
    assert fault(folder, a=wrong, b=Agent(adapter="plian")).splitlines() == [
        "missing field `base_url` - at `$.agents.a.options`",
        "unknown adapter `plian`; did you mean `plain`? - at `$.agents.b.adapter`",
    ]


def test_a_class_that_is_no_adapter_is_refused(folder: Path) -> None:
    message = fault(folder, a=Agent(adapter="./mine.py:NotOne"))
    assert "`./mine.py:NotOne` is not an adapter" in message
    assert "`$.agents.a.adapter`" in message


@pytest.mark.parametrize("name", ["./mine.py:Mien", "no_such_module:Mine", "./none.py:Mine"])
def test_what_cannot_be_found_is_named_with_its_place(folder: Path, name: str) -> None:
    assert "`$.agents.a.adapter`" in fault(folder, a=Agent(adapter=name))


def test_only_the_adapters_that_are_named_are_imported() -> None:
    code = (
        "import sys; from proxy import plugins; plugins.find('plain');"
        "sys.exit(any(name in sys.modules for name in ('langgraph', 'openai', 'adapters.openai')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_memories_are_made_once_and_only_when_they_are_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        site = plugins.site(Settings(folder=str(tmp_path), store="sqlite:///runs.db", agents={}))
        memories = plugins.LazyMemories(site)
        assert not site.shared
        one, other = await asyncio.gather(memories(), memories())
        assert one is other is next(iter(site.shared.values()))
        await one.put("t", ("n",), "k", {"a": 1})
        await memories.close()
        with pytest.raises(Unavailable):
            await one.get("t", ("n",), "k")

    asyncio.run(main())


def test_a_server_that_was_never_asked_for_memories_makes_none(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from proxy import plugins; from proxy.settings import Settings;"
        "memories = plugins.LazyMemories(plugins.site(Settings(agents={}))); asyncio.run(memories.close());"
        "sys.exit('langgraph' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path).returncode == 0


def test_a_store_beside_which_no_memories_can_be_is_unavailable() -> None:
    async def main() -> None:
        memories = plugins.LazyMemories(plugins.site(Settings(store="elsewhere://db", agents={})))
        with pytest.raises(Unavailable, match="`store`"):
            await memories()
        await memories.close()

    asyncio.run(main())

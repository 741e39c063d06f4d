from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.adapter import RunInput
from proxy.errors import BadRequest, Busy, Conflict, NotFound, Unprocessable
from proxy.events import Event, TextDelta
from proxy.model import Assistant, new_id
from proxy.runs.agents import Agent, Agents
from proxy.runs.assistants import AssistantQuery, Assistants, Revision, system_id
from proxy.settings import Agent as AgentSettings
from proxy.store.base import Store, ThreadQuery
from proxy.store.memory.store import MemoryStore
from proxy.store.sql.sqlite import SqliteStore
from proxy.testing.threads import new_thread
from tests.runs.house import Scenario

EVERYTHING = AssistantQuery(tenant="a", limit=1000)


async def _nothing(run: RunInput) -> AsyncGenerator[Event]:
    yield TextDelta(text="")


def agents(*names: str) -> Agents:
    settings = AgentSettings(adapter="test", description="Does it.")
    return Agents(Agent(name=name, adapter=Scenario(_nothing), settings=settings) for name in names)


def office(*names: str, store: Store | None = None, **options: Any) -> Assistants:
    return Assistants(store or MemoryStore(), agents(*(names or ("support", "search"))), **options)


async def refused(error: type[Exception], act: Any) -> str:
    with pytest.raises(error) as refusal:
        await act
    return str(refusal.value)


def ids(assistants: list[Assistant]) -> list[str]:
    return [assistant.assistant_id for assistant in assistants]


def test_every_agent_is_an_assistant_of_the_systems_own_for_every_tenant() -> None:
    async def act() -> None:
        desk = office()
        for tenant in ("a", "b"):
            found = await desk.find(tenant, "support")
            assert found == Assistant(
                assistant_id="2eb9c5ef-1e89-58e9-8b88-25f887637aca",
                agent="support",
                tenant=tenant,
                name="support",
                description="Does it.",
                metadata={"created_by": "system"},
            )
            assert found == await desk.find(tenant, found.assistant_id.upper())
            assert desk.agent_of(found).name == "support"

    asyncio.run(act())


@pytest.mark.parametrize(
    "name", ["os:system", "../x", "/etc/passwd", "", "suport", "a" * 10_000, "\0", "{}", "0193e000-0000"]
)
def test_a11_what_is_neither_an_id_nor_an_agents_name_is_refused(name: str) -> None:
    async def act() -> None:
        said = await refused(Unprocessable, office().find("a", name))
        assert len(said) < 300
        assert ("Did you mean `support`?" in said) is (name == "suport")

    asyncio.run(act())


def test_a_made_assistant_is_its_tenants_alone() -> None:
    async def act() -> None:
        desk = office()
        made = await desk.create("a", "search", Revision(name="Mine", context={"k": 1}, metadata={"m": 1}))
        assert (made.agent, made.name, made.version, made.context) == ("search", "Mine", 1, {"k": 1})
        assert await desk.find("a", made.assistant_id) == made
        for act in (
            desk.find("b", made.assistant_id),
            desk.patch("b", made.assistant_id, Revision(name="x")),
            desk.delete("b", made.assistant_id),
            desk.versions(made.assistant_id, AssistantQuery(tenant="b")),
            desk.set_latest("b", made.assistant_id, 1),
            desk.find("a", new_id()),
        ):
            assert "There is no assistant" in await refused(NotFound, act)
        assert ids(await desk.search(AssistantQuery(tenant="b"))) == sorted(map(system_id, ("support", "search")))[::-1]
        assert await desk.find("a", made.assistant_id) == made

    asyncio.run(act())


def test_an_id_is_given_once_also_one_of_the_systems() -> None:
    async def act() -> None:
        desk = office()
        made = await desk.create("a", "search", Revision(name="first"), assistant_id=new_id())
        for taken in (made.assistant_id, system_id("support")):
            assert taken in await refused(Conflict, desk.create("a", "search", Revision(name="x"), assistant_id=taken))
            there = await desk.create("a", "search", Revision(), assistant_id=taken, if_exists="do_nothing")
            assert there == await desk.find("a", taken)

    asyncio.run(act())


def test_settings_that_cannot_be_are_refused() -> None:
    async def act() -> None:
        desk = office()
        assert "`search`" in await refused(NotFound, desk.create("a", "serch", Revision()))
        assert "no graph `else`" in await refused(NotFound, desk.patch("a", "support", Revision(agent="else")))
        both = Revision(context={"a": 1}, config={"configurable": {"a": 2}})
        assert "give one" in await refused(BadRequest, desk.create("a", "search", both))
        assert "give one" in await refused(BadRequest, desk.patch("a", "search", both))
        assert await desk.count(EVERYTHING) == 2

    asyncio.run(act())


def test_context_and_configurable_are_the_same() -> None:
    async def act() -> None:
        desk = office()
        made = await desk.create("a", "search", Revision(config={"tags": ["t"], "configurable": {"k": 1}}))
        assert made.context == {"k": 1}
        for changes, config, context in (
            (Revision(context={"k": 2}), {"tags": ["t"], "configurable": {"k": 2}}, {"k": 2}),
            (Revision(config={"tags": ["u"]}), {"tags": ["u"], "configurable": {"k": 2}}, {"k": 2}),
            (Revision(config={"configurable": {"k": 3}}), {"configurable": {"k": 3}}, {"k": 3}),
            (Revision(name="n"), {"configurable": {"k": 3}}, {"k": 3}),
            (Revision(context={}), {}, {}),
        ):
            patched = await desk.patch("a", made.assistant_id, changes)
            assert (patched.config, patched.context) == (config, context)

    asyncio.run(act())


def test_a_patched_system_assistant_is_the_tenants_version_of_it() -> None:
    async def act() -> None:
        desk = office()
        changes = [Revision(metadata={str(number): number}) for number in range(5)]
        await asyncio.gather(*(desk.patch("a", "support", change) for change in changes))
        known = await desk.find("a", "support")
        assert (known.version, known.assistant_id) == (6, system_id("support"))
        assert known.metadata == {"created_by": "system"} | {str(number): number for number in range(5)}
        versions = await desk.versions("support", EVERYTHING)
        assert [version.version for version in versions] == [6, 5, 4, 3, 2, 1]
        untouched = await desk.find("b", "support")
        assert versions[-1] == msgspec.structs.replace(untouched, tenant="a")
        assert "cannot become" in await refused(Conflict, desk.patch("a", "support", Revision(agent="search")))

    asyncio.run(act())


def test_versions_are_gone_back_to_and_looked_through() -> None:
    async def act() -> None:
        desk = office()
        made = await desk.create("a", "search", Revision(metadata={"stage": "one"}))
        await desk.patch("a", made.assistant_id, Revision(metadata={"stage": "two"}))
        assert (await desk.set_latest("a", made.assistant_id, 1)).metadata == {"stage": "one"}
        assert (await desk.find("a", made.assistant_id)).version == 1
        two = await desk.versions(made.assistant_id, AssistantQuery(tenant="a", metadata={"stage": "two"}))
        assert [version.version for version in two] == [2]
        paged = await desk.versions(made.assistant_id, AssistantQuery(tenant="a", limit=1, offset=1))
        assert [version.version for version in paged] == [1]
        assert "no version 3" in await refused(NotFound, desk.set_latest("a", made.assistant_id, 3))
        assert (await desk.set_latest("a", "support", 1)).version == 1
        assert "no version 2" in await refused(NotFound, desk.set_latest("a", "support", 2))
        assert [version.version for version in await desk.versions("support", EVERYTHING)] == [1]

    asyncio.run(act())


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("sort_by", ["name", "created_at", "assistant_id"])
def test_pages_go_through_system_assistants_and_others_in_one_order(sort_by: Any, descending: bool) -> None:
    async def act() -> None:
        desk = office("b", "d", "f", "h")
        for name in "aceg":
            await desk.create("a", "b", Revision(name=name, metadata={"made": True}))
        await desk.patch("a", "d", Revision(description="changed"))
        query = AssistantQuery(tenant="a", sort_by=sort_by, descending=descending, limit=1000)
        whole = await desk.search(query)
        assert len(whole) == await desk.count(query) == 8
        expected = sorted(whole, key=lambda one: (getattr(one, sort_by), one.assistant_id), reverse=descending)
        assert whole == expected
        for limit, offset in itertools.product(range(1, 9), range(10)):
            page = AssistantQuery(tenant="a", sort_by=sort_by, descending=descending, limit=limit, offset=offset)
            assert await desk.search(page) == whole[offset : offset + limit]

    asyncio.run(act())


def test_searches_look_at_system_assistants_as_at_others() -> None:
    async def act() -> None:
        desk = office()
        made = (await desk.create("a", "search", Revision(name="Supporter"))).assistant_id
        for query, expected in (
            ({"agent": "search"}, {system_id("search"), made}),
            ({"name": "SUPPORT"}, {system_id("support"), made}),
            ({"metadata": {"created_by": "system"}}, {system_id("support"), system_id("search")}),
            ({"agent": "else"}, set()),
        ):
            wanted = AssistantQuery(tenant="a", **query)
            assert set(ids(await desk.search(wanted))) == expected
            assert await desk.count(wanted) == len(expected)

    asyncio.run(act())


def test_a_system_assistant_cannot_be_deleted() -> None:
    async def act() -> None:
        desk = office()
        for _ in range(2):
            said = await refused(Conflict, desk.delete("a", "support", threads=True))
            assert "take it out of the config" in said
            await desk.patch("a", "support", Revision(name="changed"))
        assert (await desk.find("a", "support")).name == "changed"

    asyncio.run(act())


def test_the_threads_of_an_assistant_go_with_it_if_asked() -> None:
    async def act() -> None:
        store, busy = MemoryStore(), {"t0"}

        async def delete_thread(tenant: str, thread_id: str) -> None:
            if thread_id in busy:
                raise Busy("The thread is busy.", run_id="r")
            if thread_id != "t1":
                await store.delete_thread(tenant, thread_id)
            else:
                raise NotFound

        desk = office(store=store, delete_thread=delete_thread)
        one, two = [(await desk.create("a", "search", Revision())).assistant_id for _ in range(2)]
        for number in range(250):
            await store.insert_thread(new_thread(thread_id=f"t{number}", tenant="a", metadata={"assistant_id": one}))
        others = [new_thread(tenant="a", metadata={"assistant_id": two}), new_thread(metadata={"assistant_id": one})]
        for thread in others:
            await store.insert_thread(thread)
        await refused(Busy, desk.delete("a", one, threads=True))
        assert (await desk.find("a", one)).assistant_id == one
        busy.clear()
        await desk.delete("a", one, threads=True)
        await desk.delete("a", two)
        assert await store.count_threads(ThreadQuery(tenant="a", metadata={"assistant_id": one})) == 1
        assert [await store.get_thread(thread.tenant, thread.thread_id) for thread in others] == others
        for gone in (one, two):
            await refused(NotFound, desk.find("a", gone))

    asyncio.run(act())


def test_an_assistant_whose_agent_is_gone_is_still_there_but_cannot_run(tmp_path: Path) -> None:
    async def opened(*names: str) -> tuple[Assistants, SqliteStore]:
        store = SqliteStore(tmp_path / "runs.db")
        await store.open()
        return office(*names, store=store), store

    async def act() -> None:
        desk, store = await opened("support", "old")
        made = await desk.create("a", "old", Revision(name="Left"))
        changed = await desk.patch("a", "old", Revision(name="Changed"))
        await store.close()
        desk, store = await opened("support")
        for left in (made, changed):
            assert await desk.find("a", left.assistant_id) == left
            with pytest.raises(Unprocessable, match=r"`old` of assistant .* is no longer configured"):
                desk.agent_of(left)
        assert set(ids(await desk.search(EVERYTHING))) == {
            made.assistant_id,
            changed.assistant_id,
            system_id("support"),
        }
        await refused(NotFound, desk.find("b", changed.assistant_id))
        assert desk.agent_of(await desk.patch("a", made.assistant_id, Revision(agent="support"))).name == "support"
        await desk.delete("a", changed.assistant_id)
        assert await desk.count(EVERYTHING) == 2
        await store.close()

    asyncio.run(act())

"""The long-term store: what is put is found again, by its tenant alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)

from adapters.langgraph.fence import Right
from adapters.langgraph.memories import LangGraphMemories
from adapters.langgraph.sqlite_store import SqliteStore
from adapters.langgraph.store import TenantStore
from proxy.adapter import Site
from proxy.errors import Unavailable, Unprocessable
from proxy.memories import MemorySearch, NamespaceQuery
from tests.adapters.conftest import SQLITE, Place
from tests.adapters.store_graphs import asynchronous as GRAPH

SMUGGLED: list[dict[str, Any]] = [
    {"lc": 1, "type": "constructor", "id": ["langchain_core", "messages", "HumanMessage"], "kwargs": {"content": "x"}},
    {"lc": 1, "type": "secret", "id": ["HOME"]},
    {"py/reduce": [{"py/function": "os.system"}, ["true"]]},
    {"__type__": "pickle", "data": "gASVIAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAR0cnVllIWUUpQu"},
]


IN_MEMORY = Place("memory://", Path())


@pytest.fixture(params=["memory", "postgres"])
def anywhere(request: pytest.FixtureRequest) -> Place:
    return IN_MEMORY if request.param == "memory" else Place(request.getfixturevalue("database"), Path())


def site(place: Place) -> Site:
    return Site(agent="a", folder=place.folder, state=place.state)


@asynccontextmanager
async def kept(place: Place) -> AsyncIterator[LangGraphMemories]:
    memories = LangGraphMemories.of(site(place))
    memories.join()
    try:
        yield memories
    finally:
        await memories.leave()


def play(scene: Callable[[LangGraphMemories], Awaitable[None]], place: Place = IN_MEMORY) -> None:
    async def main() -> None:
        async with kept(place) as memories:
            await scene(memories)

    asyncio.run(asyncio.wait_for(main(), 60))


async def found(memories: LangGraphMemories, tenant: str = "t", **wanted: Any) -> list[str]:
    return [memory.key for memory in await memories.search(tenant, MemorySearch(**wanted))]


def test_what_is_put_is_there_until_it_is_deleted(anywhere: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        begun = datetime.now(UTC) - timedelta(seconds=1)
        await memories.put("t", ("users", "7"), "tea", {"likes": ["green"], "since": 2019})
        memory = await memories.get("t", ("users", "7"), "tea")
        assert memory is not None
        assert (memory.namespace, memory.key, memory.value) == (
            ("users", "7"),
            "tea",
            {"likes": ["green"], "since": 2019},
        )
        assert begun < memory.created_at == memory.updated_at < datetime.now(UTC) + timedelta(seconds=1)
        assert await memories.get("t", ("users", "7"), "coffee") is None
        for _ in range(2):
            await memories.delete("t", ("users", "7"), "tea")
            assert await memories.get("t", ("users", "7"), "tea") is None
        assert await memories.namespaces("t", NamespaceQuery()) == []

    play(scene, anywhere)


def test_a_change_keeps_the_time_it_was_made_and_comes_first(anywhere: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        for key in ("one", "two", "three"):
            await memories.put("t", ("n",), key, {"a": 1})
            await asyncio.sleep(0.002)
        made = await memories.get("t", ("n",), "one")
        assert await found(memories) == ["three", "two", "one"]
        await memories.put("t", ("n",), "one", {"a": 2})
        changed = await memories.get("t", ("n",), "one")
        assert made is not None
        assert changed is not None
        assert changed.value == {"a": 2}
        assert changed.created_at == made.created_at < changed.updated_at
        assert await found(memories) == ["one", "three", "two"]

    play(scene, anywhere)


def test_several_puts_of_one_batch_are_all_kept_the_new_and_the_changed(anywhere: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        store = memories.store(GRAPH, "t", Right(site(IN_MEMORY)))
        await store.aput(("n",), "2", {"a": "old"})
        await store.abatch([PutOp(("n",), str(number), {"a": number}) for number in range(4)])
        items = await store.asearch(("n",))
        assert {item.key: item.value["a"] for item in items} == {"0": 0, "1": 1, "2": 2, "3": 3}

    play(scene, anywhere)


def test_a_time_to_live_ends_and_each_reading_begins_it_anew() -> None:
    async def scene(memories: LangGraphMemories) -> None:
        await memories.put("t", ("n",), "gone", {"a": 1}, ttl=1e-6)
        await memories.put("t", ("n",), "short", {"a": 1}, ttl=5)
        await memories.put("t", ("n",), "lasting", {"a": 1})
        await asyncio.sleep(0.001)
        assert await memories.get("t", ("n",), "gone") is None
        assert sorted(await found(memories)) == ["lasting", "short"]
        store = cast(SqliteStore, await memories._opened())
        # A minute before its end, as far as the file knows.
        soon = str(datetime.now(UTC) + timedelta(minutes=1))
        for refresh, lives in ((False, False), (None, True)):
            await store.conn.execute("UPDATE store SET expires_at = ? WHERE key = 'short'", (soon,))
            assert await memories.get("t", ("n",), "short", refresh=refresh)
            [[ends]] = await store.conn.execute_fetchall("SELECT expires_at FROM store WHERE key = 'short'")
            assert (ends > soon) is lives

    play(scene)


ITEMS: dict[str, dict[str, Any]] = {
    "green": {"kind": "tea", "price": 3, "tags": ["hot", "leaf"], "from": {"land": "JP", "year": 2019}, "bio": True},
    "black": {"kind": "tea", "price": 2.5, "tags": [], "from": {"land": "IN", "year": 2021}},
    "mocha": {"kind": "coffee", "price": 12, "tags": None, "from": {"land": "YE"}, "bio": False},
    "eight": {"a": 12},
}
FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"green", "black", "mocha", "eight"}),
    ({"kind": "tea"}, {"green", "black"}),
    ({"kind": "tea", "price": 3}, {"green"}),
    ({"a": 12}, {"eight"}),
    ({"price": {"$gt": 2.5}}, {"green", "mocha"}),
    ({"price": {"$gte": 2.5, "$lt": 12}}, {"green", "black"}),
    ({"price": {"$lte": 2}}, set()),
    ({"kind": {"$ne": "tea"}}, {"mocha"}),
    ({"kind": {"$eq": "coffee"}}, {"mocha"}),
    ({"bio": True}, {"green"}),
    ({"bio": False}, {"mocha"}),
    ({"bio": None}, {"black", "eight"}),
    ({"tags": ["hot", "leaf"]}, {"green"}),
    ({"tags": []}, {"black"}),
    ({"from": {"land": "IN"}}, {"black"}),
    ({"from": {"land": "JP", "year": {"$lt": 2020}}}, {"green"}),
    ({"from.land": "YE"}, {"mocha"}),
    ({"kind": "tea' OR 1=1 --"}, set()),
]


def test_a_search_finds_what_its_filter_says(anywhere: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        for key, value in ITEMS.items():
            await memories.put("t", ("drinks",), key, value)
        for wanted, keys in FILTERS:
            assert set(await found(memories, filter=wanted)) == keys, wanted

    play(scene, anywhere)


@pytest.mark.parametrize(
    "wanted",
    [
        {"a') OR 1=1 --": 1},
        {"a..b": 1},
        {"": 1},
        {"a\n": 1},
        {"a": {"$in": [1]}},
        {"a": {"$gt": None}},
        {"a": {"$eq": {"b": 1}}},
        {"a": {"$eq": 1, "b": 2}},
        {"a": {"b c": 1}},
    ],
    ids=str,
)
def test_a_filter_that_cannot_be_honoured_is_refused(wanted: dict[str, Any], anywhere: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        await memories.put("t", ("n",), "k", {"a": 1})
        with pytest.raises(Unprocessable):
            await memories.search("t", MemorySearch(filter=wanted))
        assert await found(memories) == ["k"]

    play(scene, anywhere)


def test_a_search_is_about_a_namespace_and_those_inside_of_it_page_by_page(anywhere: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        for namespace in (("a",), ("a", "b"), ("a", "B"), ("ab",), ("a*",), ("a_",), ("c", "a")):
            await memories.put("t", namespace, ".".join(namespace), {"n": len(namespace)})
        assert set(await found(memories, prefix=("a",))) == {"a", "a.b", "a.B"}
        assert await found(memories, prefix=("a", "b")) == ["a.b"]
        assert await found(memories, prefix=("a*",)) == ["a*"]
        assert await found(memories, prefix=("*",)) == []
        pages = [await found(memories, limit=3, offset=offset) for offset in (0, 3, 6, 9)]
        assert [len(page) for page in pages] == [3, 3, 1, 0]
        assert len({key for page in pages for key in page}) == 7

    play(scene, anywhere)


SHELVES = [("a", "b", "c"), ("a", "b", "d"), ("a", "x"), ("b",), ("c", "b", "c")]
LISTINGS: list[tuple[dict[str, Any], list[tuple[str, ...]]]] = [
    ({}, SHELVES),
    ({"prefix": ("a",)}, SHELVES[:3]),
    ({"prefix": ("*", "b")}, [SHELVES[0], SHELVES[1], SHELVES[4]]),
    ({"suffix": ("c",)}, [SHELVES[0], SHELVES[4]]),
    ({"suffix": ("b", "*")}, [SHELVES[0], SHELVES[1], SHELVES[4]]),
    ({"suffix": ("*", "b")}, []),
    ({"suffix": ("*",)}, SHELVES),
    ({"prefix": ("a",), "suffix": ("d",)}, [SHELVES[1]]),
    ({"max_depth": 1}, [("a",), ("b",), ("c",)]),
    ({"max_depth": 2, "prefix": ("a",)}, [("a", "b"), ("a", "x")]),
    ({"limit": 2, "offset": 1}, SHELVES[1:3]),
]


def test_namespaces_are_listed_as_asked(anywhere: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        for namespace in SHELVES:
            await memories.put("t", namespace, "k", {})
        for wanted, namespaces in LISTINGS:
            assert await memories.namespaces("t", NamespaceQuery(**wanted)) == namespaces, wanted

    play(scene, anywhere)


BAD: list[tuple[str, ...]] = [(), ("",), ("a.b",), ("a\0",), (":victim.n",)]
TENANTS = ["a", "a.b", "a%2Eb", "A", "*", ":a", "", "langgraph", "ä b", "a:b", "t" * 300]


def test_a05_no_tenant_finds_what_is_anothers(anywhere: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        for tenant in TENANTS:
            await memories.put(tenant, ("n", "m"), "whose", {"tenant": tenant})
        for tenant in TENANTS:
            memory = await memories.get(tenant, ("n", "m"), "whose")
            assert memory is not None
            assert memory.value == {"tenant": tenant}
            assert [each.value for each in await memories.search(tenant, MemorySearch())] == [memory.value]
            assert await memories.namespaces(tenant, NamespaceQuery()) == [("n", "m")]
        await memories.delete("a", ("n", "m"), "whose")
        assert await found(memories, "a") == []
        assert await found(memories, "A") == ["whose"]

    play(scene, anywhere)


def test_a05_no_namespace_reaches_another_tenant(anywhere: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        await memories.put("victim", ("n",), "k", {"secret": 1})
        for namespace in ((":victim", "n"), ("*", "n"), ("victim", "n"), ("*",)):
            assert await memories.get("thief", namespace, "k") is None
            assert await found(memories, "thief", prefix=namespace) == []
            await memories.delete("thief", namespace, "k")
            for wanted in ({"prefix": namespace}, {"suffix": namespace}, {"max_depth": 1}):
                assert await memories.namespaces("thief", NamespaceQuery(**wanted)) == []
        for bad in (*BAD, ("langgraph",)):
            with pytest.raises(Unprocessable):
                await memories.put("thief", bad, "k", {})
        assert await found(memories, "victim") == ["k"]

    play(scene, anywhere)


def test_a05_the_store_of_a_graph_is_closed_to_raw_operations_too(anywhere: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        await memories.put("victim", ("n",), "k", {"secret": 1})
        store = memories.store(GRAPH, "thief", Right(site(IN_MEMORY)))
        got, searched, listed, suffixed = await store.abatch(
            [
                GetOp((":victim", "n"), "k"),
                SearchOp(()),
                ListNamespacesOp(None),
                ListNamespacesOp((MatchCondition("suffix", ("*", "n")), MatchCondition("prefix", ()))),
            ]
        )
        assert (got, searched, listed, suffixed) == (None, [], [], [])
        for bad in BAD:
            with pytest.raises(InvalidNamespaceError):
                await store.abatch([PutOp(bad, "k", {"a": 1})])

    play(scene, anywhere)


@pytest.mark.parametrize("value", SMUGGLED, ids=str)
def test_a08_what_looks_like_an_object_stays_data(place: Place, value: dict[str, Any]) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        await memories.put("t", ("n",), "k", value | {"inner": value})
        memory = await memories.get("t", ("n",), "k")
        [searched] = await memories.search("t", MemorySearch())
        assert memory is not None
        assert memory.value == searched.value == value | {"inner": value}

    play(scene, place)


def test_memories_are_in_a_file_beside_the_database_and_survive(tmp_path: Path) -> None:
    async def put(memories: LangGraphMemories) -> None:
        await memories.put("t", ("n",), "k", {"a": 1})

    async def get(memories: LangGraphMemories) -> None:
        assert await found(memories) == ["k"]

    play(put, Place(SQLITE, tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"runs.memories.db"}
    play(get, Place(SQLITE, tmp_path))


def test_a_file_that_cannot_be_opened_is_unavailable_until_it_can(tmp_path: Path) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        file = tmp_path / "runs.memories.db"
        file.mkdir()
        for _ in range(2):
            with pytest.raises(Unavailable):
                await memories.get("t", ("n",), "k")
        file.rmdir()
        await memories.put("t", ("n",), "k", {"a": 1})

    play(scene, Place(SQLITE, tmp_path))


def test_nothing_is_opened_for_those_who_have_left(tmp_path: Path) -> None:
    async def main() -> None:
        memories = LangGraphMemories.of(site(Place(SQLITE, tmp_path)))
        with pytest.raises(Unavailable):
            await memories.get("t", ("n",), "k")
        assert list(tmp_path.iterdir()) == []

    asyncio.run(main())


def test_the_store_is_left_whole_by_those_who_are_cancelled(place: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        async def cut(number: int) -> None:
            task = asyncio.create_task(memories.put("t", ("n", str(number % 5)), str(number), {"a": number}))
            for _ in range(number % 9):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await asyncio.gather(*(cut(number) for number in range(200)))
        await memories.put("t", ("n",), "last", {"a": 1})
        assert await memories.get("t", ("n",), "last")

    play(scene, place)


def test_one_bad_operation_fails_alone(place: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        store = memories.store(GRAPH, "t", Right(site(IN_MEMORY)))
        bad = store.aput(("n",), "bad", {"a": object()})
        results = await asyncio.gather(
            *(memories.put("t", ("n",), str(number), {"a": number}) for number in range(20)),
            bad,
            store.asearch(("n",), filter={"a b": 1}),
            return_exceptions=True,
        )
        assert [type(result) for result in results if result is not None] == [TypeError, ValueError]
        assert len(await found(memories, limit=100)) == 20

    play(scene, place)


def test_a_write_that_the_file_refuses_does_not_stop_those_after_it(tmp_path: Path) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        await memories.put("t", ("n",), "k", {"a": 1})
        store = cast(SqliteStore, await memories._opened())
        await store.conn.execute("PRAGMA max_page_count = 1")
        [[pages]] = await store.conn.execute_fetchall("PRAGMA page_count")
        with pytest.raises(Unavailable):
            await memories.put("t", ("n",), "big", {"a": "x" * 1_000_000})
        assert await memories.get("t", ("n",), "k")
        await store.conn.execute(f"PRAGMA max_page_count = {pages + 1000}")
        await memories.put("t", ("n",), "big", {"a": "x" * 1_000_000})

    play(scene, Place(SQLITE, tmp_path))


def test_values_are_text_that_other_programs_read(tmp_path: Path) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        await memories.put("t", ("n",), "k", {"a": 12})
        await memories.put("t", ("n",), "k", {"a": 13})

    play(scene, Place(SQLITE, tmp_path))
    with closing(sqlite3.connect(tmp_path / "runs.memories.db")) as connection:
        assert connection.execute("SELECT value, typeof(value) FROM store").fetchall() == [('{"a":13}', "text")]


def test_what_a_tenant_sees_is_theirs_from_any_thread(anywhere: Place) -> None:
    async def scene(memories: LangGraphMemories) -> None:
        store = memories.store(GRAPH, "t", Right(site(IN_MEMORY)))
        assert isinstance(store, TenantStore)
        await asyncio.to_thread(store.put, ("n",), "k", {"a": 1}, ttl=5)
        [item] = await asyncio.to_thread(store.search, ("n",), filter={"a": 1})
        assert (item.namespace, item.value, item.created_at.tzinfo) == (("n",), {"a": 1}, UTC)
        await asyncio.to_thread(store.delete, ("n",), "k")
        assert await asyncio.to_thread(store.get, ("n",), "k") is None

    play(scene, anywhere)

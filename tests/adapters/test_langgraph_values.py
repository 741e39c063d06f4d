"""What fits into PostgreSQL of the state of graphs and of memories, and comes back as it was."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import psycopg
import pytest
from langgraph.checkpoint.base import id
from langgraph.graph import START, StateGraph

from proxy.errors import BadRequest, Unprocessable
from tests.adapters import native_graphs
from tests.adapters.conftest import Place
from tests.adapters.langgraph_runs import agent, events_of
from tests.adapters.native_runs import NATIVE, THREAD, native_run
from tests.adapters.official import COUNT
from tests.adapters.test_langgraph_memories import kept

ASKS = {"draft": "d"}


def run(scene: Any) -> None:
    asyncio.run(asyncio.wait_for(scene, 60))


class Plain(TypedDict, total=False):
    values: dict[str, Any]
    text: Any
    half: Any
    great: Any
    whole: Any
    minus: Any
    nan: Any
    long: Any
    yes: Any
    nothing: Any


ODD: dict[str, Any] = {
    "text": "a\0b é \u2028",
    "great": 1e22,
    "whole": 3.0,
    "minus": -0.0,
    "nan": math.nan,
    "long": 10**15,
    "yes": True,
    "nothing": None,
}


async def _odd(state: Plain) -> dict[str, Any]:
    return dict(ODD)


async def _see(state: Plain) -> dict[str, Any]:
    return {"values": {key: repr(state.get(key)) for key in ODD}}


def test_every_value_of_a_state_comes_back_as_it_was(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = StateGraph(Plain)
    graph.add_sequence([("odd", _odd), ("see", _see)])
    graph.add_edge(START, "odd")
    monkeypatch.setattr(native_graphs, "plain", graph.compile(interrupt_before=["see"]), raising=False)

    async def main() -> None:
        for given in ({"yes": False}, None):  # the second process reads what the first has written
            async with agent(f"{NATIVE}:plain", state=database) as adapter:
                await events_of(adapter, native_run("plain", [], given))
                state = await adapter.threads.state(THREAD)
        assert msgspec.json.decode(state.values)["values"] == {key: repr(value) for key, value in ODD.items()}

    run(main())


def test_metadata_with_characters_that_json_in_postgres_has_not_is_kept_without_them(database: str) -> None:
    async def main() -> None:
        async with agent(f"{NATIVE}:asks", state=database) as adapter:
            metadata = {"odd": "a\0b", "half": "c\ud800d", "key\0": "e", "written": "\\u0000"}
            await events_of(adapter, native_run("asks", [], ASKS, metadata=metadata))
            about = msgspec.json.decode((await adapter.threads.state(THREAD)).metadata)
            kept = {"odd": "ab", "half": "cd", "key": "e", "written": "\\u0000"}
            assert {key: about.get(key) for key in kept} == kept
            with pytest.raises(BadRequest):
                await adapter.threads.history(THREAD, limit=10, metadata={"odd": "a\0b"})

    run(main())


def test_synchronous_nodes_read_their_checkpoints_though_they_take_all_threads(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = native_graphs.sequence(native_graphs.Count, b=lambda state: {"n": 1, "log": ["b"]}).compile()

    def calls(state: Any) -> Any:
        return inner.invoke({"n": 0, "log": []})

    graph = native_graphs.sequence(native_graphs.Count, calls=calls).compile()
    monkeypatch.setattr(native_graphs, "calling", graph, raising=False)

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        async with agent(f"{NATIVE}:calling", state=database) as adapter:
            await events_of(adapter, native_run("calling", [], COUNT))
            assert msgspec.json.decode((await adapter.threads.state(THREAD)).values)["log"][-1] == "b"

    run(main())


def test_the_newest_state_is_that_of_the_last_run_though_its_process_has_a_slow_clock(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns

    async def main() -> None:
        for back in (0, 3600):
            monkeypatch.setattr(id, "_last_v6_timestamp", None)
            monkeypatch.setattr(id.time, "time_ns", lambda: now() - back * 10**9)  # noqa: B023
            async with agent(f"{NATIVE}:asks", folder=place.folder, state=place.state) as adapter:
                await events_of(adapter, native_run("asks", [], {"draft": f"{back}"}))
                assert msgspec.json.decode((await adapter.threads.state(THREAD)).values)["draft"] == f"{back}!"

    run(main())


def test_a_time_to_live_ends_and_each_reading_begins_it_anew(database: str) -> None:
    async def scene() -> None:
        async with kept(Place(database, Path())) as memories:
            await memories.put("t", ("n",), "gone", {"a": 1}, ttl=1e-9)
            await memories.put("t", ("n",), "short", {"a": 1}, ttl=0.5)
            await memories.put("t", ("n",), "lasting", {"a": 1})
            assert await memories.get("t", ("n",), "gone") is None
            with psycopg.connect(database, autocommit=True) as connection:
                for refresh, lives in ((False, False), (None, True)):
                    # A moment before its end, as far as the database knows.
                    connection.execute("UPDATE store SET expires_at = now() + interval '20 s' WHERE key = 'short'")
                    assert await memories.get("t", ("n",), "short", refresh=refresh)
                    query = "SELECT expires_at > now() + interval '25 s' FROM store WHERE key = 'short'"
                    assert connection.execute(query).fetchall() == [(lives,)]
                assert ("gone",) not in connection.execute("SELECT key FROM store").fetchall()

    run(scene())


@pytest.mark.parametrize("value", [{"a": "x\0y"}, {"a": "\ud800"}, {"a": math.nan}], ids=["nul", "half", "nan"])
def test_a_value_that_the_database_has_no_form_for_is_refused(database: str, value: dict[str, Any]) -> None:
    async def scene() -> None:
        async with kept(Place(database, Path())) as memories:
            with pytest.raises(Unprocessable):
                await memories.put("t", ("n",), "k", value)
            await memories.put("t", ("n",), "k", {"a": 1})

    run(scene())


def test_times_are_told_in_utc_whatever_the_zone_of_the_database(database: str) -> None:
    async def scene() -> None:
        async with kept(Place(f"{database}?options=-ctimezone=Asia/Tokyo", Path())) as memories:
            await memories.put("t", ("n",), "k", {"a": 1})
            found = await memories.get("t", ("n",), "k")
            assert found is not None
            assert abs(found.created_at.timestamp() - time.time()) < 3600
            assert found.created_at.utcoffset().total_seconds() == 0  # type: ignore[union-attr]

    run(scene())

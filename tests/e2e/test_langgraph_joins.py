"""Runs joined, listed, cancelled and deleted by the official Python client, with graphs and with a plain agent."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError
from langgraph_sdk.schema import StreamPart

from proxy.events import Completed, RunStarted, TextDelta
from proxy.model import Run, RunStatus, new_id
from proxy.store.sql.sqlite import SqliteStore
from tests.e2e.house import HERE, Server, serving

GRAPHS = HERE.parent / "adapters" / "native_graphs.py"
CONFIG: dict[str, Any] = {
    "store": "sqlite:///runs.db",
    "server": {"api_keys": ["sk-test"]},
    "dialects": {"langgraph": {"keepalive": 0.05}},
    "agents": {
        "actor": {"adapter": "plain", "options": {"function": f"{HERE / 'agents.py'}:actor"}},
        **{
            name: {"adapter": "langgraph", "options": {"graph": f"{GRAPHS}:{name}"}}
            for name in ("agent", "asks", "nested", "breaks")
        },
    },
}
QUESTION = {"messages": [{"role": "user", "content": "What is 1 + 2?"}]}
Scene = Callable[[LangGraphClient], Awaitable[None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("joins"), CONFIG) as running:
        yield running


def use(server: Server, scene: Scene) -> None:
    async def act() -> None:
        async with get_client(url=server.url, headers={"authorization": "Bearer sk-test"}) as client:
            await scene(client)

    asyncio.run(asyncio.wait_for(act(), 60))


def does(*lines: str) -> dict[str, Any]:
    """An input for the actor."""
    return {"messages": [{"role": "user", "content": "\n".join(lines)}]}


async def told(parts: AsyncIterator[StreamPart], most: int | None = None) -> list[StreamPart]:
    found: list[StreamPart] = []
    async for part in parts:
        found.append(part)
        if len(found) == most:
            break
    return found


async def thread_of(client: LangGraphClient) -> str:
    return str((await client.threads.create())["thread_id"])


async def run_of(client: LangGraphClient, thread: str, agent: str, given: Any, **fields: Any) -> str:
    return str((await client.runs.create(thread, agent, input=given, **fields))["run_id"])


def texts(parts: list[StreamPart]) -> str:
    return "".join(part.data[0]["content"] for part in parts if part.event == "messages")


async def until_said(client: LangGraphClient, thread: str, run: str) -> None:
    """Until the run has said something."""
    async for part in client.runs.join_stream(thread, run, last_event_id="-1", stream_mode="messages-tuple"):
        if part.event == "messages":
            return


def test_a_stream_and_what_is_joined_of_it_are_the_same(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        inputs: dict[str, Any] = {"actor": does("say a b c"), "agent": QUESTION}
        for agent, given in inputs.items():
            thread, runs = await thread_of(client), list[Any]()
            live = await told(
                client.runs.stream(
                    thread,
                    agent,
                    input=given,
                    stream_mode=["values", "messages-tuple", "updates"],
                    on_run_created=runs.append,
                )
            )
            run = runs[0]["run_id"]
            joined = await told(client.runs.join_stream(thread, run, last_event_id="-1"))
            assert joined == live
            for at, part in enumerate(live):
                again = await told(client.runs.join_stream(thread, run, last_event_id=part.id))
                assert again == live[at + 1 :]
            assert await told(client.runs.join_stream(thread, run)) == []
            tuples = await told(
                client.runs.join_stream(thread, run, last_event_id="-1", stream_mode=["messages-tuple", "custom"])
            )
            assert texts(tuples) == texts(live) != ""
            values = await client.runs.join(thread, run)
            assert values == [part.data for part in live if part.event == "values"][-1]

    use(server, scene)


def test_a_graph_run_can_be_joined_in_modes_that_it_was_not_made_with(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await thread_of(client)
        run = await run_of(client, thread, "agent", QUESTION, stream_mode="values")
        await client.runs.join(thread, run)
        parts = await told(
            client.runs.join_stream(thread, run, last_event_id="-1", stream_mode=["messages-tuple", "debug"])
        )
        assert {part.event for part in parts} == {"metadata", "messages"}
        assert "three" in texts(parts)

    use(server, scene)


def test_subgraphs_are_joined_with_their_namespaces(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await thread_of(client)
        run = await run_of(client, thread, "nested", QUESTION, stream_mode=["values"], stream_subgraphs=True)
        joined = await client.runs.join(thread, run)
        assert joined["__interrupt__"]
        parts = await told(client.runs.join_stream(thread, run, last_event_id="-1", stream_mode="values"))
        assert any(part.event.startswith("values|inner:") for part in parts)

    use(server, scene)


def test_who_joins_a_run_under_way_hears_it_to_its_end(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await thread_of(client)
        run = await run_of(
            client, thread, "actor", does("say a", "gate joined", "say b"), stream_mode=["messages-tuple"]
        )
        readers = [
            asyncio.create_task(told(client.runs.join_stream(thread, run, last_event_id="-1"))) for _ in range(5)
        ]
        waiter = asyncio.create_task(client.runs.join(thread, run))
        while (await client.runs.get(thread, run))["status"] != "running":
            await asyncio.sleep(0.01)
        await client.runs.wait(None, "actor", input=does("open joined"))
        for reader in readers:
            assert texts(await reader) == "ab"
        values: Any = await waiter
        assert values["messages"][-1]["content"] == "ab"
        assert (await client.runs.get(thread, run))["status"] == "success"

    use(server, scene)


def test_a_failure_and_a_question_reach_who_joins_late(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await thread_of(client)
        broken = await run_of(client, thread, "breaks", {"n": 1})
        fault = {"error": "ValueError", "message": "boom: x"}
        assert await client.runs.join(thread, broken) == {"__error__": fault}
        parts = await told(client.runs.join_stream(thread, broken, last_event_id="-1"))
        assert parts[-1].event == "error"
        assert parts[-1].data == fault
        thread = await thread_of(client)
        asking = await run_of(client, thread, "asks", {"draft": "d"})
        first: Any = await client.runs.join(thread, asking)
        assert first["__interrupt__"][0]["value"] == {"question": "ok?", "draft": "d!"}
        later: Any = await client.runs.join(thread, asking)
        assert later["__interrupt__"][0]["value"] == first["__interrupt__"][0]["value"]

    use(server, scene)


def test_runs_are_listed_read_and_deleted(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await thread_of(client)
        runs = [await run_of(client, thread, "actor", does("say a"), metadata={"n": n}) for n in range(3)]
        await client.runs.join(thread, runs[-1])
        listed: Any = await client.runs.list(thread)
        assert [run["run_id"] for run in listed] == runs[::-1]
        assert [run["metadata"]["n"] for run in listed] == [2, 1, 0]
        assert await client.runs.get(thread, runs[0]) == listed[-1]
        named: Any = await client.runs.list(thread, limit=1, offset=1, select=["run_id"])
        assert named == [{"run_id": runs[1]}]
        assert await client.runs.list(thread, status="error") == []
        assert len(await client.runs.list(thread, status="success")) == 3
        await client.runs.delete(thread, runs[1])
        assert [run["run_id"] for run in await client.runs.list(thread)] == [runs[2], runs[0]]
        with pytest.raises(NotFoundError):
            await client.runs.get(thread, runs[1])
        with pytest.raises(NotFoundError):
            await told(client.runs.join_stream(thread, runs[1]))
        with pytest.raises(NotFoundError):
            await client.runs.list("0193e000-0000-7000-8000-00000000dead")
        with pytest.raises(UnprocessableEntityError):
            await client.runs.get(thread, "nonsense")

    use(server, scene)


def test_runs_are_cancelled_in_both_ways(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await thread_of(client)
        kept = await run_of(client, thread, "actor", does("say a", "wait"))
        await until_said(client, thread, kept)
        await client.runs.cancel(thread, kept)
        await client.runs.join(thread, kept)
        assert (await client.runs.get(thread, kept))["status"] == "interrupted"
        assert (await client.threads.get(thread))["status"] == "interrupted"
        await client.runs.cancel(thread, kept, wait=True)
        before: Any = await client.threads.get_state(thread)
        gone = await run_of(client, thread, "actor", does("say b", "wait"))
        await until_said(client, thread, gone)
        await client.runs.cancel(thread, gone, wait=True, action="rollback")
        with pytest.raises(NotFoundError):
            await client.runs.get(thread, gone)
        assert (await client.threads.get_state(thread))["values"] == before["values"]
        assert (await client.threads.get(thread))["status"] == "interrupted"  # as the first run left it
        done = await run_of(client, thread, "actor", does("say c"))
        await client.runs.join(thread, done)
        with pytest.raises(NotFoundError):
            await client.runs.cancel(thread, done)

    use(server, scene)


def test_a_cancel_in_the_first_moments_of_a_run_leaves_its_thread_in_order(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        for moment in range(40):
            thread = await thread_of(client)
            run = await run_of(client, thread, "actor", does("say a", "wait"))
            await asyncio.sleep((moment % 10) / 2000)
            await client.runs.cancel(thread, run)
            await client.runs.join(thread, run)
            history: Any = await client.threads.get_history(thread)
            steps = [(state["metadata"]["step"], len(state["values"]["messages"])) for state in history]
            assert steps in ([], [(1, 1), (0, 1), (-1, 0)], [(1, 2), (0, 1), (-1, 0)])
            values: Any = await client.runs.wait(thread, "actor", input=does("say b"))
            assert values["messages"][-1]["content"] == "b"

    use(server, scene)


def test_many_runs_are_cancelled_at_once(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await thread_of(client)
        runs = [await run_of(client, thread, "actor", does("wait")) for _ in range(3)]
        await client.runs.cancel_many(thread_id=thread, run_ids=runs[:2])
        await client.runs.join(thread, runs[0])
        assert [run["status"] for run in await client.runs.list(thread)][1:] == ["interrupted"] * 2
        await client.runs.cancel_many(status="all")
        await client.runs.join(thread, runs[2])
        assert [run["status"] for run in await client.runs.list(thread)] == ["interrupted"] * 3
        with pytest.raises(NotFoundError):
            await client.runs.cancel_many(status="all")

    use(server, scene)


def test_a_reader_that_leaves_may_take_the_run_along(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await thread_of(client)
        run = await run_of(client, thread, "actor", does("say a", "wait"))
        parts = client.runs.join_stream(thread, run, cancel_on_disconnect=True, last_event_id="-1")
        await told(parts, 1)
        await parts.aclose()  # type: ignore[attr-defined]
        await client.runs.join(thread, run)
        assert (await client.runs.get(thread, run))["status"] == "interrupted"

    use(server, scene)


def test_a_thread_is_heard_over_all_its_runs(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await thread_of(client)
        parts = await client.threads.join_stream(thread, last_event_id="-")
        runs = [
            await run_of(client, thread, "actor", does(f"say {word}"), stream_mode="messages-tuple") for word in "ab"
        ]
        heard: list[StreamPart] = []
        async for part in parts:
            heard.append(part)
            if part.data == {"status": "run_done", "run_id": runs[1]}:
                break
        assert texts(heard) == "ab"
        again = await client.threads.join_stream(thread, last_event_id=heard[1].id)
        rest = await told(again, len(heard) - 2)
        assert [part[:2] for part in rest] == [part[:2] for part in heard[2:]]

    use(server, scene)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_runs_are_joined_over_a_restart(tmp_path: Path, sig: signal.Signals) -> None:
    ids: dict[str, str] = {}
    before: list[StreamPart] = []

    async def first(client: LangGraphClient) -> None:
        ids["thread"], ids["cut"] = await thread_of(client), await thread_of(client)
        ids["done"] = await run_of(client, ids["thread"], "agent", QUESTION, stream_mode=["values", "messages-tuple"])
        await client.runs.join(ids["thread"], ids["done"])
        before.extend(await told(client.runs.join_stream(ids["thread"], ids["done"], last_event_id="-1")))
        modes: Any = ["messages-tuple"]
        ids["run"] = await run_of(client, ids["cut"], "actor", does("say a b", "wait"), stream_mode=modes)
        heard = await told(client.runs.join_stream(ids["cut"], ids["run"], last_event_id="-1"), 3)
        assert texts(heard) == "ab"
        ids["place"] = heard[-1].id or ""
        ids["waiting"] = await run_of(client, ids["cut"], "actor", does("say c"), stream_mode=modes)

    async def second(client: LangGraphClient) -> None:
        assert await told(client.runs.join_stream(ids["thread"], ids["done"], last_event_id="-1")) == before
        middle = await told(client.runs.join_stream(ids["thread"], ids["done"], last_event_id=before[2].id))
        assert middle == before[3:]
        values = await client.runs.join(ids["thread"], ids["done"])
        assert values == [part.data for part in before if part.event == "values"][-1]
        rest = await told(client.runs.join_stream(ids["cut"], ids["run"], last_event_id=ids["place"]))
        assert [part.event for part in rest] == ["error"]
        assert (await client.runs.get(ids["cut"], ids["run"]))["status"] == "error"
        later = await told(client.runs.join_stream(ids["cut"], ids["waiting"], last_event_id="-1"))
        assert texts(later) == "c"

    config = {**CONFIG, "server": {**CONFIG["server"], "drain": 0}}
    with serving(tmp_path, config) as server:
        use(server, first)
        server.stop(sig)
    with serving(tmp_path, config) as server:
        use(server, second)


def test_who_joins_a_run_that_waits_gets_signs_of_life(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await thread_of(client)
        first = await run_of(client, thread, "actor", does("wait"))
        second = await run_of(client, thread, "actor", does("say b"))
        headers = {"authorization": "Bearer sk-test"}
        for path, sign in (("stream", b": heartbeat\r\n\r\n"), ("join", b"\n")):
            async with (
                httpx2.AsyncClient(base_url=server.url, headers=headers) as http,
                http.stream("GET", f"/threads/{thread}/runs/{second}/{path}") as answer,
            ):
                assert answer.status_code == 200
                pieces = answer.aiter_bytes()
                assert {await anext(pieces), await anext(pieces)} == {sign}
        await client.runs.cancel(thread, first)
        values: Any = await client.runs.join(thread, second)
        assert values["messages"][-1]["content"] == "b"

    use(server, scene)


def test_a_reader_whose_place_was_taken_over_is_told_of_the_gap(tmp_path: Path) -> None:
    thread, run_id, now = new_id(), new_id(), time.time()
    urls: list[str] = []

    async def prepare() -> None:
        store = SqliteStore(tmp_path / "runs.db")
        await store.open()
        run = Run(
            run_id=run_id, thread_id=thread, agent="actor", status=RunStatus.RUNNING, turn_id=run_id, created_at=now
        )
        await store.insert(run)
        lost = store.begin(run, inserted=True)
        lost.append(RunStarted(run_id=run_id, thread_id=thread, agent="actor"))
        for word in ("a", "b", "c"):
            lost.append(TextDelta(text=word))
        taken = store.begin(run, inserted=True, after=lost.last + 10_000)
        taken.append(RunStarted(run_id=run_id, thread_id=thread, agent="actor", attempt=2, resumes_after=2))
        taken.append(TextDelta(text="B"))
        await taken.settle(Completed(), msgspec.structs.replace(run, status=RunStatus.SUCCESS, updated_at=now))
        await store.close()

    async def scene(client: LangGraphClient) -> None:
        modes: Any = "messages-tuple"
        parts = await told(client.runs.join_stream(thread, run_id, last_event_id="4", stream_mode=modes))
        assert [part.event for part in parts] == ["gap", "metadata", "messages"]
        assert parts[0].data["requested_event_id"] == "4"
        assert parts[0].data["earliest_available_event_id"] == "10005"
        before = await told(client.runs.join_stream(thread, run_id, last_event_id="2", stream_mode=modes))
        assert "gap" not in [part.event for part in before]
        headers = {"authorization": "Bearer sk-test", "last-event-id": "4"}
        async with httpx2.AsyncClient(headers=headers) as http:
            answer = await http.get(f"{urls[0]}/api/threads/{thread}/runs/{run_id}/stream")
        assert answer.text.startswith("event: gap\n")
        assert answer.text.count("event: ") == 1

    asyncio.run(prepare())
    with serving(tmp_path, CONFIG) as house:
        urls.append(house.url)
        use(house, scene)

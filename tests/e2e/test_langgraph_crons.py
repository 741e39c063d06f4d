"""Crons by the official Python client: every method it has for them, and runs that are really made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

from tests.e2e.house import HERE, Server, serving
from tests.fakes.receiver import Call, Receiver, receiving

KEYS = ["sk-test", {"name": "team-b", "key": "sk-b", "tenant": "b"}]
GRAPHS = HERE.parent / "adapters" / "native_graphs.py"
AGENTS: dict[str, Any] = {
    "nested": {"adapter": "langgraph", "options": {"graph": f"{GRAPHS}:nested"}},
    "agent": {"adapter": "langgraph", "options": {"graph": f"{GRAPHS}:agent"}},
    "actor": {"adapter": "plain", "options": {"function": f"{HERE / 'agents.py'}:actor"}},
}
HELLO = {"messages": [{"role": "user", "content": "say hello"}]}
EACH_SECOND = "* * * * * *"
MISSING = "0193e000-0000-7000-8000-00000000dead"


def config(port: int) -> dict[str, Any]:
    webhooks = {"allow": [f"127.0.0.1:{port}"], "secret": "whsec"}
    return {"store": "sqlite:///runs.db", "server": {"api_keys": KEYS}, "agents": AGENTS, "webhooks": webhooks}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("crons"), config(9)) as running:
        yield running


@asynccontextmanager
async def client_of(server: Server, key: str = "sk-test") -> AsyncIterator[LangGraphClient]:
    async with asyncio.timeout(60), get_client(url=server.url, headers={"authorization": f"Bearer {key}"}) as client:
        yield client


async def calls(receiver: Receiver, count: int) -> list[Call]:
    """The first calls that arrive."""
    async with asyncio.timeout(30):
        while len(receiver.calls) < count:
            await asyncio.sleep(0.02)
    return receiver.calls[:count]


def test_a_cron_is_made_changed_found_and_deleted(server: Server) -> None:
    async def scene() -> None:
        async with client_of(server) as client:
            made: Any = await client.crons.create(
                "nested",
                schedule="0 9 * * MON-FRI",
                input=HELLO,
                metadata={"team": "a"},
                config={"tags": ["t"]},
                timezone=ZoneInfo("Europe/Berlin"),
                end_time=datetime.now(UTC) + timedelta(days=30),
                on_run_completed="keep",
                interrupt_before=["inner"],
                stream_mode=["values", "updates"],
                stream_subgraphs=True,
                durability="exit",
            )
            assert (made["schedule"], made["timezone"], made["enabled"]) == ("0 9 * * MON-FRI", "Europe/Berlin", True)
            assert (made["on_run_completed"], made["thread_id"]) == ("keep", None)
            assert made["payload"]["input"] == HELLO
            assert made["payload"]["interrupt_before"] == ["inner"]
            assert await client.crons.search(assistant_id="nested", metadata={"team": "a"}) == [made]
            assert await client.crons.count(assistant_id=made["assistant_id"]) == 1
            name = made["cron_id"]
            changed: Any = await client.crons.update(
                name,
                schedule="@hourly",
                timezone="UTC",
                end_time=None,
                metadata={"stage": 2},
                input=None,
                enabled=False,
            )
            assert (changed["schedule"], changed["timezone"], changed["end_time"]) == ("@hourly", "UTC", None)
            assert (changed["enabled"], changed["next_run_date"]) == (False, None)
            assert changed["metadata"] == {"team": "a", "stage": 2}
            assert await client.crons.search(enabled=True) == []
            picked = await client.crons.search(
                sort_by="next_run_date", sort_order="asc", select=["cron_id", "schedule"]
            )
            assert picked == [{"cron_id": name, "schedule": "@hourly"}]
            await client.crons.delete(name)
            assert await client.crons.count() == 0
            with pytest.raises(NotFoundError):
                await client.crons.delete(name)

    asyncio.run(scene())


def test_what_cannot_be_is_refused_with_its_field(server: Server) -> None:
    async def scene() -> None:
        async with client_of(server) as client:
            for fields, word in (
                ({"schedule": "often"}, "schedule"),
                ({"schedule": "@daily", "timezone": "Mars/Olympus"}, "timezone"),
                ({"schedule": "@daily", "webhook": "http://169.254.169.254/"}, "webhooks.allow"),
                ({"schedule": "@daily", "end_time": datetime(2020, 1, 1)}, "end_time"),
            ):
                with pytest.raises(UnprocessableEntityError, match=word):
                    await client.crons.create("nested", **fields)  # type: ignore[arg-type]
            with pytest.raises(NotFoundError):
                await client.crons.create_for_thread(MISSING, "nested", schedule="@daily")
            assert await client.crons.count() == 0

    asyncio.run(scene())


def test_no_key_reaches_anothers_crons_or_threads(server: Server) -> None:
    async def scene() -> None:
        async with client_of(server) as client, client_of(server, "sk-b") as other:
            thread = (await client.threads.create())["thread_id"]
            made: Any = await client.crons.create_for_thread(thread, "nested", schedule="@daily")
            with pytest.raises(NotFoundError):
                await other.crons.create_for_thread(thread, "nested", schedule="@daily")
            with pytest.raises(NotFoundError):
                await other.crons.update(made["cron_id"], enabled=False)
            with pytest.raises(NotFoundError):
                await other.crons.delete(made["cron_id"])
            assert await other.crons.search(thread_id=thread) == []
            assert await client.crons.search(thread_id=thread) == [made]
            await client.crons.delete(made["cron_id"])

    asyncio.run(scene())


def test_a_cron_on_a_thread_makes_run_after_run_there_until_it_is_disabled(tmp_path: Path) -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            with serving(tmp_path, config(receiver.port)) as server:
                async with client_of(server) as client:
                    thread = (await client.threads.create())["thread_id"]
                    cron: Any = await client.crons.create_for_thread(
                        thread,
                        "agent",
                        schedule=EACH_SECOND,
                        input=HELLO,
                        metadata={"by": "cron"},
                        webhook=f"http://127.0.0.1:{receiver.port}/hook",
                    )
                    first, second = [json.loads(call.body) for call in await calls(receiver, 2)]
                    await client.crons.update(cron["cron_id"], enabled=False)
                    assert {first["thread_id"], second["thread_id"]} == {thread}
                    assert first["run_id"] != second["run_id"]
                    assert (first["status"], first["metadata"]["by"]) == ("success", "cron")
                    assert first["assistant_id"] == cron["assistant_id"]
                    asked = [message["type"] for message in second["values"]["messages"]].count("human")
                    assert asked == 2, "the second run goes on where the first ended"
                    listed = {run["run_id"] for run in await client.runs.list(thread, limit=100)}
                    assert {first["run_id"], second["run_id"]} <= listed

    asyncio.run(scene())


@pytest.mark.parametrize("keep", [True, False])
def test_a_cron_without_a_thread_makes_each_run_on_one_of_its_own(tmp_path: Path, keep: bool) -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            with serving(tmp_path, config(receiver.port)) as server:
                async with client_of(server) as client:
                    await client.crons.create(
                        "actor",
                        schedule=EACH_SECOND,
                        input=HELLO,
                        on_run_completed="keep" if keep else "delete",
                        webhook=f"http://127.0.0.1:{receiver.port}/hook",
                    )
                    first, second = [json.loads(call.body) for call in await calls(receiver, 2)]
                    assert first["thread_id"] != second["thread_id"]
                    if keep:
                        thread: Any = await client.threads.get(first["thread_id"])
                        assert thread["values"]["messages"][-1]["content"] == "hello"
                    else:
                        with pytest.raises(NotFoundError):
                            await client.threads.get(first["thread_id"])

    asyncio.run(scene())


def test_a_cron_lives_through_a_restart_and_makes_up_for_missed_times_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            with serving(tmp_path, config(receiver.port)) as server:
                async with client_of(server) as client:
                    url = f"http://127.0.0.1:{receiver.port}/hook"
                    await client.crons.create("actor", schedule=EACH_SECOND, input=HELLO, webhook=url)
                    await calls(receiver, 1)
                    server.process.kill()
                    server.process.wait()
            before = len(receiver.calls)
            with serving(tmp_path, config(receiver.port)) as server:
                await calls(receiver, before + 2)
                ids = [call.headers["x-run-id"] for call in receiver.calls]
                assert len(set(ids[before:])) >= 2

    asyncio.run(scene())

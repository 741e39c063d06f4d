"""The routes of crons, with everything real behind them but the runs that are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec
import pytest
from litestar import Litestar

from proxy.api.auth import Caller
from proxy.api.errors import HANDLERS
from proxy.api.native import crons as room
from proxy.model import Cron, Run, Thread, new_id, system_id
from proxy.runs.agents import Agent, Agents
from proxy.runs.assistants import Assistants, Revision
from proxy.runs.crons import Crons
from proxy.runs.webhooks import Webhooks
from proxy.settings import Agent as AgentSettings
from proxy.settings import RequestLimits
from proxy.settings import Webhooks as WebhookSettings
from proxy.store.memory.store import MemoryStore
from proxy.testing import Script
from proxy.wire.runs_body import RunCreate
from tests.runs.house import SITE

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
UNKNOWN = "0193e000-0000-7000-8000-00000000dead"
ONE, TWO = ({"messages": [{"role": "user", "content": text}]} for text in ("one", "two"))
DAILY = {"assistant_id": "agent", "schedule": "0 9 * * *"}


class Desk:
    """The routes, and a client of the tenant `default`."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.fired: list[Cron] = []
        self.now = NOON
        self.user: str | None = None
        script = Script(Script.Options(), SITE)
        self.assistants = Assistants(
            self.store, Agents([Agent(name="agent", adapter=script, settings=AgentSettings(adapter="test"))])
        )
        self.crons = Crons(self.store, self.fire, clock=lambda: self.now)
        rooms = room.CronRooms(
            crons=self.crons,
            assistants=self.assistants,
            webhooks=Webhooks(WebhookSettings(allow=("hooks.example.com",)), self.body),
            limits=RequestLimits(),
        )
        self._inner = Litestar(room.routes(rooms), exception_handlers=HANDLERS, openapi_config=None)
        self.http: httpx2.AsyncClient

    async def fire(self, cron: Cron) -> None:
        self.fired.append(cron)

    async def body(self, run: Run) -> bytes:
        return b"{}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        tenant = dict(scope["headers"]).get(b"x-tenant", b"default").decode()
        scope["state"] = {"caller": Caller(tenant=tenant, user=self.user), "request_id": "r"}
        await self._inner(scope, receive, send)

    async def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        reply = await self.http.request(method, path, **options)
        assert reply.status_code == status, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    async def post(self, path: str, status: int = 200, **body: Any) -> Any:
        return await self.ask("POST", path, status, json=body)

    async def add(self, **fields: Any) -> Any:
        return await self.post("/runs/crons", **{**DAILY, **fields})

    async def thread(self, tenant: str = "default") -> str:
        return (await self.store.insert_thread(Thread(thread_id=new_id(), tenant=tenant))).thread_id


@asynccontextmanager
async def opened() -> AsyncIterator[Desk]:
    desk = Desk()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(desk), base_url="http://desk") as desk.http:
        yield desk


def visit(scene: Callable[[Desk], Awaitable[None]]) -> None:
    async def play() -> None:
        async with opened() as desk:
            await scene(desk)

    asyncio.run(asyncio.wait_for(play(), 30))


def test_a_cron_is_told_in_the_form_of_the_official_server() -> None:
    async def scene(desk: Desk) -> None:
        desk.user = "u"
        made = await desk.add(
            input=ONE,
            metadata={"a": 1},
            config={"tags": ["t"]},
            timezone="Europe/Berlin",
            end_time="2030-01-01T00:00:00",
            stream_mode=["values"],
            unknown=1,
        )
        times = "2026-11-21T12:00:00.000000+00:00"
        assert made == {
            "cron_id": made["cron_id"],
            "assistant_id": system_id("agent"),
            "thread_id": None,
            "schedule": "0 9 * * *",
            "timezone": "Europe/Berlin",
            "end_time": "2030-01-01T00:00:00.000000+00:00",
            "next_run_date": "2026-11-22T08:00:00.000000+00:00",
            "payload": {
                "assistant_id": system_id("agent"),
                "input": ONE,
                "metadata": {"a": 1},
                "config": {"tags": ["t"]},
                "stream_mode": ["values"],
            },
            "metadata": {"a": 1},
            "on_run_completed": "delete",
            "enabled": True,
            "user_id": "u",
            "created_at": times,
            "updated_at": times,
        }
        assert await desk.ask("GET", f"/runs/crons/{made['cron_id'].upper()}") == made
        assert await desk.post("/runs/crons/search") == [made]

    visit(scene)


def test_what_a_cron_fires_reads_as_the_body_of_a_run() -> None:
    async def scene(desk: Desk) -> None:
        asked = {
            "input": {"messages": [{"role": "user", "content": "ä"}]},
            "context": {"k": None},
            "durability": "exit",
        }
        await desk.add(**asked, webhook="https://hooks.example.com/x", multitask_strategy="reject")
        desk.now += 86400
        await desk.crons.fire_due()
        await desk.crons.close()
        [cron] = desk.fired
        run = msgspec.json.decode(cron.payload, type=RunCreate)
        assert run == msgspec.convert(
            {
                **asked,
                "assistant_id": system_id("agent"),
                "input": msgspec.Raw(msgspec.json.encode(asked["input"])),
                "webhook": "https://hooks.example.com/x",
                "multitask_strategy": "reject",
            },
            RunCreate,
        )

    visit(scene)


def test_an_input_of_null_is_not_the_same_as_none() -> None:
    async def scene(desk: Desk) -> None:
        assert (await desk.add(input=None))["payload"] == {"assistant_id": system_id("agent"), "input": None}
        assert (await desk.add())["payload"] == {"assistant_id": system_id("agent")}

    visit(scene)


def test_a_cron_on_a_thread_belongs_to_that_thread() -> None:
    async def scene(desk: Desk) -> None:
        thread, foreign = await desk.thread(), await desk.thread("b")
        made = await desk.post(f"/threads/{thread}/runs/crons", **DAILY, on_run_completed="keep", thread_id=foreign)
        assert (made["thread_id"], made["on_run_completed"]) == (thread, None)
        assert await desk.post("/runs/crons/search", thread_id=thread) == [made]
        assert await desk.post("/runs/crons/count", thread_id=UNKNOWN) == 0
        for missing in (UNKNOWN, foreign):
            assert missing in (await desk.post(f"/threads/{missing}/runs/crons", 404, **DAILY))["detail"]
        assert "thread is a UUID" in (await desk.post("/threads/x/runs/crons", 422, **DAILY))["detail"]

    visit(scene)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"schedule": "often"}, 422, ("`schedule`", "*/5 * * * *")),
        ({"schedule": ""}, 422, ("schedule",)),
        ({"schedule": None}, 422, ("schedule",)),
        ({"timezone": "Mars/Olympus"}, 422, ("`timezone`", "Europe/Berlin")),
        ({"end_time": "soon"}, 422, ("end_time",)),
        ({"end_time": "2020-01-01T00:00:00Z"}, 422, ("`end_time`",)),
        ({"end_time": "0001-01-01T00:00:00+14:00"}, 422, ("`end_time`",)),
        ({"assistant_id": "agnet"}, 422, ("agnet",)),
        ({"assistant_id": UNKNOWN}, 404, (UNKNOWN,)),
        ({"webhook": "https://evil.example.com/"}, 422, ("`webhooks.allow`",)),
        ({"webhook": "/relative"}, 422, ("`webhook`",)),
        ({"on_run_completed": "explode"}, 422, ("on_run_completed",)),
        ({"stream_mode": "debug"}, 422, ("`stream_mode`", "agent")),
        ({"interrupt_before": ["node"]}, 422, ("`interrupt_before`", "agent")),
        ({"metadata": [1]}, 422, ("metadata",)),
        ({"input": "\0"}, 422, ("NUL",)),
    ],
)
def test_what_is_wrong_with_a_cron_is_said_with_its_field(
    fields: dict[str, Any], status: int, words: tuple[str, ...]
) -> None:
    async def scene(desk: Desk) -> None:
        reply = await desk.post("/runs/crons", status, **{**DAILY, **fields})
        assert list(reply) == ["detail"]
        assert all(word in reply["detail"] for word in words), reply
        assert await desk.post("/runs/crons/count") == 0

    visit(scene)


def test_an_end_beyond_all_time_is_kept_within_it() -> None:
    async def scene(desk: Desk) -> None:
        made = await desk.add(end_time="9999-12-31T23:59:59-14:00")
        assert made["end_time"] == "9999-12-31T23:59:59.000000+00:00"

    visit(scene)


def test_a_patch_changes_what_it_names_and_nothing_else() -> None:
    async def scene(desk: Desk) -> None:
        made = await desk.add(
            input=ONE, metadata={"a": 1}, webhook="https://hooks.example.com/", end_time="2027-01-01T00:00:00Z"
        )
        path, desk.now = f"/runs/crons/{made['cron_id']}", NOON + 10
        later = {"updated_at": "2026-11-21T12:00:10.000000+00:00"}
        assert await desk.ask("PATCH", path, json={"unknown": 1}) == made | later
        changed = await desk.ask("PATCH", path, json={"metadata": {"b": 2}, "input": TWO, "webhook": None})
        payload = {"assistant_id": system_id("agent"), "input": TWO, "metadata": {"a": 1, "b": 2}}
        assert changed == made | later | {"metadata": {"a": 1, "b": 2}, "payload": payload}
        for body, expected in (
            ({"schedule": "30 9 * * *"}, {"next_run_date": "2026-11-22T09:30:00.000000+00:00"}),
            ({"timezone": "Asia/Kolkata"}, {"next_run_date": "2026-11-22T04:00:00.000000+00:00"}),
            ({"timezone": None}, {"timezone": None, "next_run_date": "2026-11-22T09:30:00.000000+00:00"}),
            ({"enabled": False}, {"enabled": False, "next_run_date": None}),
            ({"enabled": True}, {"next_run_date": "2026-11-22T09:30:00.000000+00:00"}),
            ({"end_time": "2026-11-21T13:00:00+01:00"}, {"next_run_date": None}),
            ({"end_time": None}, {"end_time": None, "next_run_date": "2026-11-22T09:30:00.000000+00:00"}),
            ({"on_run_completed": "keep"}, {"on_run_completed": "keep"}),
        ):
            changed = changed | body | expected
            if body.get("end_time"):
                changed["end_time"] = "2026-11-21T12:00:00.000000+00:00"
            assert await desk.ask("PATCH", path, json=body) == changed, body
        assert await desk.ask("GET", path) == changed

    visit(scene)


@pytest.mark.parametrize(
    "body",
    [
        {"schedule": "often"},
        {"schedule": None},
        {"timezone": "Mars/Olympus"},
        {"webhook": "http://127.0.0.1/"},
        {"stream_mode": "tasks"},
        {"enabled": "yes"},
    ],
)
def test_a_bad_patch_changes_nothing(body: dict[str, Any]) -> None:
    async def scene(desk: Desk) -> None:
        made = await desk.add()
        reply = await desk.ask("PATCH", f"/runs/crons/{made['cron_id']}", 422, json={"metadata": {"x": 1}, **body})
        assert next(iter(body)) in reply["detail"]
        assert await desk.post("/runs/crons/search") == [made]

    visit(scene)


def test_a_cron_whose_assistant_is_gone_can_still_be_stopped_and_found() -> None:
    async def scene(desk: Desk) -> None:
        own = (await desk.assistants.create("default", "agent", Revision(name="mine"))).assistant_id
        made = await desk.add(assistant_id=own)
        await desk.assistants.delete("default", own)
        path = f"/runs/crons/{made['cron_id']}"
        assert (await desk.ask("PATCH", path, json={"enabled": False}))["enabled"] is False
        assert len(await desk.post("/runs/crons/search", assistant_id=own)) == 1
        await desk.ask("PATCH", path, 404, json={"input": {"messages": []}})
        await desk.ask("DELETE", path, 204)

    visit(scene)


def test_crons_are_searched_sorted_counted_and_paged() -> None:
    async def scene(desk: Desk) -> None:
        made = []
        for number in range(5):
            desk.now = NOON + number
            made.append(await desk.add(metadata={"odd": number % 2 == 1}, enabled=number != 4))
        ids = [cron["cron_id"] for cron in made]

        async def found(**query: Any) -> list[str]:
            return [cron["cron_id"] for cron in await desk.post("/runs/crons/search", **query)]

        assert await found() == ids[::-1]
        assert await found(assistant_id="agent", sort_order="asc") == ids
        assert await found(metadata={"odd": True}) == [ids[3], ids[1]]
        assert await found(enabled=False) == [ids[4]]
        assert await found(sort_by="next_run_date", sort_order="asc", limit=1) == [ids[4]]
        assert await desk.post("/runs/crons/count", metadata={"odd": False}, assistant_id=system_id("agent")) == 3
        assert await desk.post("/runs/crons/count", assistant_id=UNKNOWN) == 0
        page = await desk.http.post(
            "/runs/crons/search", json={"limit": 2, "offset": 2, "select": ["cron_id", "schedule"]}
        )
        assert page.json() == [{"cron_id": id, "schedule": "0 9 * * *"} for id in (ids[2], ids[1])]
        assert (page.headers["x-pagination-total"], page.headers["x-pagination-next"]) == ("5", "4")
        last = await desk.http.post("/runs/crons/search", json={"offset": 4})
        assert (last.headers["x-pagination-total"], "x-pagination-next" in last.headers) == ("5", False)
        for wrong in ({"limit": 0}, {"limit": 1001}, {"sort_by": "payload"}, {"thread_id": "x"}):
            assert next(iter(wrong)) in (await desk.post("/runs/crons/search", 422, **wrong))["detail"]

    visit(scene)


def test_no_route_tells_a_foreign_cron_from_a_missing_one() -> None:
    async def scene(desk: Desk) -> None:
        made = await desk.add()
        name, foreign = made["cron_id"], {"x-tenant": "b"}
        for method, body in (("GET", None), ("PATCH", {"enabled": False}), ("DELETE", None)):
            theirs = await desk.ask(method, f"/runs/crons/{name}", 404, headers=foreign, json=body)
            missing = await desk.ask(method, f"/runs/crons/{UNKNOWN}", 404, json=body)
            assert theirs == {"detail": missing["detail"].replace(UNKNOWN, name)}
            assert "UUID" in (await desk.ask(method, "/runs/crons/x", 422, json=body))["detail"]
        assert await desk.ask("POST", "/runs/crons/search", headers=foreign, json={}) == []
        assert await desk.ask("POST", "/runs/crons/count", headers=foreign, json={}) == 0
        assert await desk.ask("GET", f"/runs/crons/{name}") == made
        await desk.ask("DELETE", f"/runs/crons/{name}", 204)
        await desk.ask("DELETE", f"/runs/crons/{name}", 404)

    visit(scene)

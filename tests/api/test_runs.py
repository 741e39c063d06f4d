from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import msgspec
import pytest
from litestar import Litestar

from proxy.api import runs
from proxy.api.errors import HANDLERS
from proxy.events import Completed, TextDelta, Usage
from proxy.model import new_id, system_id
from tests.api.scripted import OTHER, House, visit

UNKNOWN = new_id()
ROUTES = [
    ("GET", "/runs/{}"),
    ("DELETE", "/runs/{}"),
    ("GET", "/runs/{}/events"),
    ("GET", "/runs/{}/events?wait=1"),
    ("POST", "/runs/{}/cancel"),
    ("POST", "/runs/{}/cancel?wait=1"),
]


def entries(body: bytes) -> list[Any]:
    return [msgspec.json.decode(line) for line in body.split(b"\n") if line]


def seqs(body: bytes) -> list[int]:
    return [entry["seq"] for entry in entries(body)]


def test_the_record_of_a_chat_run_can_be_read_by_its_id() -> None:
    async def scene(house: House) -> None:
        asked = house.ask(metadata={"k": "v"})
        run = await house.started()
        name = run.given.run_id
        before = (await house.http.get(f"/runs/{name}")).json()
        assert (before["status"], before["state"], before["usage"]) == ("running", "running", None)
        await run.say("Hello", Usage(input_tokens=3, output_tokens=2))
        await run.end()
        assert (await asked).headers["x-run-id"] == name
        answer = await house.http.get(f"/runs/{name}")
        record = answer.json()
        assert (answer.headers["x-run-id"], record["run_id"]) == (name, name)
        assert (record["status"], record["state"], record["stop_reason"]) == ("success", "success", "end_turn")
        assert (record["assistant_id"], record["agent"]) == (system_id("script"), "script")
        about = {"created_by": "system", "graph_id": "script", "assistant_id": system_id("script")}
        assert record["metadata"] == {"k": "v", **about}
        assert (record["usage"]["total_tokens"], record["usage"]["model_calls"]) == (5, 1)

    visit(scene)


def test_the_id_of_a_completion_names_its_run_too() -> None:
    async def scene(house: House) -> None:
        name = await house.ended_run("x")
        assert (await house.http.get(f"/runs/chatcmpl-{name.upper()}")).json()["run_id"] == name

    visit(scene)


def test_cancelling_stops_the_agent_and_ends_the_stream_in_order() -> None:
    async def scene(house: House) -> None:
        asked = house.ask(stream=True)
        run = await house.started()
        await run.say("Half")
        answer = await house.http.post(f"/runs/{run.given.run_id}/cancel")
        assert answer.status_code == 202
        assert answer.json() == {"run_id": run.given.run_id, "status": "running", "state": "running"}
        await run.cancelled.wait()
        body = (await asked).content
        assert b'"Half"' in body
        assert body.endswith(b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        record = (await house.http.get(f"/runs/{run.given.run_id}")).json()
        assert (record["status"], record["state"], record["stop_reason"]) == ("interrupted", "cancelled", "cancelled")

    visit(scene)


def test_cancelling_can_wait_for_the_end() -> None:
    async def scene(house: House) -> None:
        asked = house.ask()
        run = await house.started()
        answer = await house.http.post(f"/runs/{run.given.run_id}/cancel?wait=1")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        assert run.closed.is_set()
        await asked

    visit(scene)


@pytest.mark.parametrize("query", ["", "?wait=1"])
def test_cancelling_a_finished_run_is_harmless(query: str) -> None:
    async def scene(house: House) -> None:
        name = await house.ended_run("x")
        for _ in range(2):
            answer = await house.http.post(f"/runs/{name}/cancel{query}")
            assert (answer.status_code, answer.json()["run_id"], answer.json()["state"]) == (200, name, "success")

    visit(scene)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_tells_a_foreign_run_from_a_missing_one(method: str, path: str) -> None:
    async def scene(house: House) -> None:
        name = await house.ended_run("x")
        foreign = await house.http.request(method, path.format(name), headers=OTHER)
        missing = await house.http.request(method, path.format(UNKNOWN))
        assert (foreign.status_code, missing.status_code) == (404, 404)
        assert foreign.json() == {"detail": missing.json()["detail"].replace(UNKNOWN, name)}
        assert (await house.http.get(f"/runs/{name}")).status_code == 200

    visit(scene)


def test_a_malformed_id_is_refused_everywhere() -> None:
    async def scene(house: House) -> None:
        for method, path in ROUTES:
            for bad in ("x", "1", UNKNOWN[:-1], f"{{{UNKNOWN}}}", "chatcmpl-"):
                answer = await house.http.request(method, path.format(bad))
                assert (answer.status_code, answer.json()) == (422, {"detail": "The id of a run is a UUID."})

    visit(scene)


def test_wrong_methods_are_refused() -> None:
    async def scene(house: House) -> None:
        for method, path in [("POST", "/runs/{}"), ("DELETE", "/runs/{}/events"), ("GET", "/runs/{}/cancel")]:
            answer = await house.http.request(method, path.format(UNKNOWN))
            assert (answer.status_code, list(answer.json())) == (405, ["detail"])

    visit(scene)


def test_a_log_reads_as_lines_from_any_position() -> None:
    async def scene(house: House) -> None:
        name = await house.ended_run("a", "b", "c")
        answer = await house.http.get(f"/runs/{name}/events")
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.headers["x-run-id"] == name
        assert [entry["event"]["type"] for entry in entries(answer.content)] == [
            "run_started",
            "text_delta",
            "text_delta",
            "text_delta",
            "completed",
        ]
        for query, expected in {
            "after_seq=2": [3, 4, 5],
            "limit=2": [1, 2],
            "after_seq=1&limit=3": [2, 3, 4],
            "after_seq=5": [],
            "after_seq=99": [],
            "after_seq=3&wait=1": [4, 5],
            "after_seq=5&wait=1": [],
            "after_seq=99&wait=true": [],
            "limit=1&wait=1": [1],
            "limit=5&wait=1": [1, 2, 3, 4, 5],
            "wait=0&unknown=1": [1, 2, 3, 4, 5],
        }.items():
            got = await house.http.get(f"/runs/{name}/events?{query}")
            assert (got.status_code, seqs(got.content)) == (200, expected), query

    visit(scene)


@pytest.mark.parametrize(
    "query", ["after_seq=-1", "after_seq=x", "limit=0", "limit=1.5", "wait=maybe", "limit=" + "9" * 40]
)
def test_a_wrong_query_is_refused_with_its_place(query: str) -> None:
    async def scene(house: House) -> None:
        answer = await house.http.get(f"/runs/{UNKNOWN}/events?{query}")
        assert answer.status_code == 422
        assert f"`$.{query.split('=')[0]}`" in answer.json()["detail"]

    visit(scene)


def test_a_live_log_without_wait_ends_where_it_is() -> None:
    async def scene(house: House) -> None:
        asked = house.ask()
        run = await house.started()
        await run.say("a")
        assert seqs((await house.http.get(f"/runs/{run.given.run_id}/events")).content) == [1, 2]
        await run.end()
        await asked

    visit(scene)


def test_a_follower_gets_entries_as_they_come_until_the_final_one() -> None:
    async def scene(house: House) -> None:
        asked = house.ask()
        run = await house.started()
        async with house.http.stream("GET", f"/runs/{run.given.run_id}/events?wait=1") as answer:
            lines = answer.aiter_lines()
            assert '"run_started"' in await anext(lines)
            for word in ("a", "b"):
                await run.say(word)
                assert f'"text":"{word}"' in await anext(lines)
            await run.end(Completed(finish_reason="length"))
            assert [msgspec.json.decode(line)["event"]["finish_reason"] async for line in lines if line] == ["length"]
        assert (await asked).json()["choices"][0]["finish_reason"] == "length"

    visit(scene)


def test_a_follower_that_leaves_does_not_touch_the_run() -> None:
    async def scene(house: House) -> None:
        asked = house.ask()
        run = await house.started()
        async with house.http.stream("GET", f"/runs/{run.given.run_id}/events?wait=1") as answer:
            await anext(answer.aiter_lines())
        await run.say("still here")
        await run.end()
        assert (await asked).json()["choices"][0]["message"]["content"] == "still here"

    visit(scene)


def test_a_silent_log_sends_blank_lines() -> None:
    async def scene(house: House) -> None:
        inner = Litestar(
            runs.routes(house.app.manager, keepalive=0.01), exception_handlers=HANDLERS, openapi_config=None
        )
        asked = house.ask()
        run = await house.started()
        caller, pieces = {"caller": type("", (), {"tenant": "default"}), "request_id": "r"}, asyncio.Queue[bytes]()

        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            pieces.put_nowait(message.get("body", b""))

        path = f"/runs/{run.given.run_id}/events"
        scope: Any = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"wait=1",
            "headers": [],
            "state": caller,
        }
        reading = asyncio.create_task(inner(scope, receive, send))
        while await pieces.get() != b"\n":
            pass
        await run.end()
        await reading
        await asked

    visit(scene)


def test_deleting_leaves_nothing() -> None:
    async def scene(house: House) -> None:
        name = await house.ended_run("x")
        gone = await house.http.delete(f"/runs/{name}")
        assert (gone.status_code, gone.content) == (204, b"")
        for method, path in ROUTES:
            assert (await house.http.request(method, path.format(name))).status_code == 404

    visit(scene)


def test_deleting_a_run_under_way_stops_it_first() -> None:
    async def scene(house: House) -> None:
        asked = house.ask()
        run = await house.started()
        assert (await house.http.delete(f"/runs/{run.given.run_id}")).status_code == 204
        assert run.closed.is_set()
        await asked

    visit(scene)


def test_the_id_of_a_group_stands_for_all_its_runs() -> None:
    async def scene(house: House) -> None:
        asked = house.ask(n=2, stream=True)
        members = [await house.started(), await house.started()]
        await members[0].say("x")
        await members[0].end()
        await members[1].say("y")
        name = (await house.http.get(f"/runs/{members[0].given.run_id}")).json()["group"]
        told = (await house.http.get(f"/runs/{name}")).json()
        assert (told["run_id"], told["state"]) == (name, "running")
        assert [run["run_id"] for run in told["runs"]] == [run.given.run_id for run in members]
        answer = await house.http.post(f"/runs/{name}/cancel?wait=1")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        assert [run["state"] for run in answer.json()["runs"]] == ["success", "cancelled"]
        streamed = await asked
        assert streamed.headers["x-run-id"] == name
        assert streamed.content.endswith(b"data: [DONE]\n\n")
        again = await house.http.post(f"/runs/{name}/cancel")
        assert (again.status_code, [run["state"] for run in again.json()["runs"]]) == (200, ["success", "cancelled"])
        assert (await house.http.delete(f"/runs/{name}")).status_code == 204
        assert (await house.http.get(f"/runs/{name}")).status_code == 404

    visit(scene)


def test_long_logs_are_read_whole() -> None:
    async def scene(house: House) -> None:
        asked = house.ask()
        run = await house.started()
        await run.say(*(TextDelta(text=str(i)) for i in range(2500)))
        await run.end()
        name = (await asked).headers["x-run-id"]
        answer: httpx2.Response = await house.http.get(f"/runs/{name}/events")
        assert seqs(answer.content) == list(range(1, 2503))
        part = await house.http.get(f"/runs/{name}/events?after_seq=500&limit=1500")
        assert seqs(part.content) == list(range(501, 2001))

    visit(scene)

from __future__ import annotations

import asyncio

import msgspec
import pytest

from proxy.events import Custom
from proxy.model import new_id, system_id
from tests.api.native.callers import HI, MOUNTS, asked, ended, hearing, made
from tests.api.scripted import OTHER, House, visit

RUNS = [
    ("GET", "/threads/{t}/runs/{r}"),
    ("DELETE", "/threads/{t}/runs/{r}"),
    ("GET", "/threads/{t}/runs/{r}/events"),
    ("POST", "/threads/{t}/runs/{r}/cancel"),
    ("GET", "/runs/{r}"),
    ("DELETE", "/runs/{r}"),
    ("GET", "/runs/{r}/events"),
    ("GET", "/runs/{r}/stream"),
    ("POST", "/runs/{r}/cancel"),
]


def test_a_run_is_told_in_the_official_form() -> None:
    async def scene(house: House) -> None:
        one = await made(house, config={"tags": ["x"], "recursion_limit": 9}, metadata={"k": 1}, durability="exit")
        for mount in MOUNTS:
            told = (await house.http.get(f"{mount}{one.path}")).json()
            assert (told["run_id"], told["thread_id"], told["status"]) == (one.id, one.thread, "running")
            assert told["assistant_id"] == system_id("script")
            about = {"created_by": "system", "graph_id": "script", "assistant_id": system_id("script")}
            assert told["metadata"] == {"k": 1, **about}
            kwargs = told["kwargs"]
            assert (kwargs["input"], kwargs["command"], kwargs["stream_mode"]) == (HI, None, ["values"])
            assert (kwargs["config"]["tags"], kwargs["config"]["recursion_limit"]) == (["x"], 9)
            assert (kwargs["durability"], kwargs["checkpoint_during"]) == ("exit", False)
            assert told["multitask_strategy"] == "enqueue"
        await one.run.end()

    visit(scene)


def test_the_runs_of_a_thread_are_listed_newest_first() -> None:
    async def scene(house: House) -> None:
        first = await made(house)
        ids = [first.id, *[(await asked(house, first.thread))[1] for _ in range(11)]]

        async def listed(query: str = "") -> list[str]:
            answer = await house.http.get(f"/threads/{first.thread}/runs?{query}")
            assert answer.status_code == 200, answer.text
            return [run["run_id"] for run in answer.json()]

        assert await listed() == ids[::-1][:10]
        assert await listed("limit=2&offset=3") == ids[::-1][3:5]
        assert await listed("offset=12") == []
        assert await listed("status=running") == ids[:1]
        assert await listed("status=pending&limit=1000") == ids[:0:-1]
        assert await listed("status=success") == []
        answer = await house.http.get(f"/threads/{first.thread}/runs?select=run_id&select=status&limit=1")
        assert answer.json() == [{"run_id": ids[-1], "status": "pending"}]

    visit(scene)


def test_failures_and_timeouts_are_told_apart_in_lists() -> None:
    async def scene(house: House) -> None:
        thread, broken = new_id(), list[str]()
        for _ in range(3):
            one = await made(house, thread)
            await one.run.fail(ValueError("x"))
            await house.http.get(f"{one.path}/join")
            broken.append(one.id)
        for query, expected in {"error": broken[::-1], "timeout": [], "error&limit=1&offset=1": [broken[1]]}.items():
            answer = await house.http.get(f"/threads/{thread}/runs?status={query}")
            assert [run["run_id"] for run in answer.json()] == expected

    visit(scene)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "offset=-1", "offset=" + "9" * 30, "status=done", "select=secret"]
)
def test_a_wrong_query_is_refused(query: str) -> None:
    async def scene(house: House) -> None:
        one = await ended(house)
        answer = await house.http.get(f"/threads/{one.thread}/runs?{query}")
        assert (answer.status_code, type(answer.json()["detail"])) == (422, str)
        assert query.split("=")[0] in answer.json()["detail"]

    visit(scene)


def test_the_list_of_a_thread_that_is_not_there_is_no_empty_list() -> None:
    async def scene(house: House) -> None:
        thread = new_id()
        assert (await house.http.get(f"/threads/{thread}/runs")).status_code == 404
        await house.http.post("/threads", json={"thread_id": thread})
        assert (await house.http.get(f"/threads/{thread}/runs")).json() == []
        assert (await house.http.get(f"/threads/{thread}/runs", headers=OTHER)).status_code == 404
        assert (await house.http.get("/threads/x/runs")).status_code == 422

    visit(scene)


def test_runs_of_chat_requests_are_listed() -> None:
    async def scene(house: House) -> None:
        run_id = await house.ended_run("a", headers={"x-thread-id": "chat 1".replace(" ", "-")})
        assert [run["run_id"] for run in (await house.http.get("/threads/chat-1/runs")).json()] == [run_id]
        assert (await house.http.get(f"/threads/chat-1/runs/{run_id}")).json()["run_id"] == run_id

    visit(scene)


@pytest.mark.parametrize("mount", MOUNTS)
def test_a06_a_run_is_found_only_by_its_tenant_and_on_its_thread(mount: str) -> None:
    async def scene(house: House) -> None:
        one, other = await ended(house, "a"), await ended(house, "b")
        for method, path in RUNS:
            foreign = await house.http.request(method, mount + path.format(t=one.thread, r=one.id), headers=OTHER)
            assert foreign.status_code == 404, path
            elsewhere = await house.http.request(method, mount + path.format(t=other.thread, r=new_id()))
            assert elsewhere.status_code == 404, path
            wrong = await house.http.request(method, mount + path.format(t=one.thread, r="x"))
            assert wrong.status_code == 422, path
            if "{t}" in path:
                crossed = await house.http.request(method, mount + path.format(t=other.thread, r=one.id))
                assert crossed.status_code == 404, path
        assert (await house.http.get(one.path)).status_code == 200

    visit(scene)


@pytest.mark.parametrize("mount", MOUNTS)
def test_deleting_a_run_under_way_stops_it_and_ends_its_readers(mount: str) -> None:
    async def scene(house: House) -> None:
        one = await made(house, mount=mount)
        async with hearing(house, f"{mount}{one.path}/stream", "-1") as ear:
            gone = await house.http.delete(f"{mount}{one.path}")
            assert (gone.status_code, gone.content) == (204, b"")
            assert one.run.closed.is_set()
            assert [event.event for event in await ear.rest()] == ["metadata", "values"] + ["end"] * bool(mount)
        assert (await house.http.get(f"{mount}{one.path}")).status_code == 404
        assert (await house.http.get(f"/threads/{one.thread}/runs")).json() == []

    visit(scene)


def test_deleting_a_run_that_waits_lets_it_never_start() -> None:
    async def scene(house: House) -> None:
        first = await made(house)
        _, second = await asked(house, first.thread)
        _, third = await asked(house, first.thread)
        assert (await house.http.delete(f"/threads/{first.thread}/runs/{second}")).status_code == 204
        await first.run.end()
        assert (await house.started()).given.run_id == third

    visit(scene)


def test_r07_deleting_the_thread_of_a_run_ends_it_and_its_readers() -> None:
    async def scene(house: House) -> None:
        one = await made(house)
        async with hearing(house, f"{one.path}/stream", "-1") as ear:
            assert (await house.http.delete(f"/threads/{one.thread}")).status_code == 204
            assert one.run.closed.is_set()
            assert [event.event for event in await ear.rest()] == ["metadata", "values"]
        for path in (one.path, f"/runs/{one.id}", f"/runs/{one.id}/events", f"/threads/{one.thread}/runs"):
            assert (await house.http.get(path)).status_code == 404

    visit(scene)


@pytest.mark.parametrize("path", ["/runs/{r}", "/threads/{t}/runs/{r}", "/api/runs/{r}", "/api/threads/{t}/runs/{r}"])
def test_a_log_can_be_read_by_types_of_events(path: str) -> None:
    async def scene(house: House) -> None:
        one = await ended(house, "a", Custom(name="n"), "b")
        path_ = path.format(t=one.thread, r=one.id) + "/events"

        async def seqs(query: str) -> list[int]:
            answer = await house.http.get(f"{path_}?{query}")
            assert answer.headers["content-type"] == "application/x-ndjson"
            return [msgspec.json.decode(line)["seq"] for line in answer.content.split(b"\n") if line]

        assert await seqs("") == [1, 2, 3, 4, 5]
        for wait in ("0", "1"):
            assert await seqs(f"types=text_delta&wait={wait}") == [2, 4]
            assert await seqs(f"types=text_delta,completed&types=custom&wait={wait}") == [2, 3, 4, 5]
            assert await seqs(f"types=text_delta&limit=1&after_seq=2&wait={wait}") == [4]
        wrong = await house.http.get(f"{path_}?types=text_delta,nothing")
        assert (wrong.status_code, "`nothing`" in wrong.json()["detail"]) == (422, True)

    visit(scene)


def test_a_log_by_types_can_be_followed() -> None:
    async def scene(house: House) -> None:
        one = await made(house)
        reading = asyncio.create_task(house.http.get(f"{one.path}/events?types=custom&wait=1"))
        await one.run.say("a", Custom(name="n"), "b")
        await one.run.end()
        lines = [line for line in (await reading).content.split(b"\n") if line]
        assert [msgspec.json.decode(line)["event"]["type"] for line in lines] == ["custom"]

    visit(scene)


WEIRD = ["%00", "%2e%2e", "a" * 5000, "%F0%9F%8D%92", "null", "-1", "{}", "%27%20OR%201=1", "%ff"]


@pytest.mark.parametrize("weird", WEIRD)
def test_a_weird_path_is_never_a_failure_of_the_server(weird: str) -> None:
    async def scene(house: House) -> None:
        one = await ended(house, "a")
        for mount in MOUNTS:
            for method, path in RUNS:
                for t, r in ((weird, one.id), (one.thread, weird)):
                    answer = await house.http.request(method, mount + path.format(t=t, r=r))
                    assert answer.status_code < 500, (method, path)
                    if "{t}" in path or r == weird:
                        assert answer.status_code >= 400, (method, path)
                    if answer.status_code == 204:
                        one = await ended(house, "a")

    visit(scene)

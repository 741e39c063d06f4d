from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from proxy.events import TextDelta, Usage
from proxy.model import new_id
from proxy.testing import ScriptedRun
from proxy.testing.script import RunOver
from tests.api.native.callers import HI, MOUNTS, Made, asked, ended, heard, hearing, made
from tests.api.scripted import OTHER, House, visit

FINAL = {"completed", "failed", "cancelled", "paused"}
WAITED = {"": (200, b"{}"), "/api": (204, b"")}


async def cancel(house: House, one: Made, query: str = "", mount: str = "") -> tuple[int, bytes]:
    answer = await house.http.post(f"{mount}{one.path}/cancel?{query}")
    return answer.status_code, answer.content


async def log(house: House, run_id: str) -> list[str]:
    """The types of all events of a run, to its end."""
    answer = await house.http.get(f"/runs/{run_id}/events?wait=1")
    return [msgspec.json.decode(line)["event"]["type"] for line in answer.content.split(b"\n") if line]


async def state(house: House, one: Made) -> str:
    return str((await house.http.get(f"/api/runs/{one.id}")).json()["state"])


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_a_cancel_is_taken_at_once(mount: str, action: str) -> None:
    async def scene(house: House) -> None:
        one = await made(house, mount=mount)
        assert await cancel(house, one, f"action={action}", mount) == (202, b"")
        assert await log(house, one.id) == ["run_started", "cancelled"]
        assert one.run.cancelled.is_set()

    visit(scene)


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_a_cancel_can_be_waited_for(mount: str, action: str) -> None:
    async def scene(house: House) -> None:
        one = await made(house, mount=mount)
        await one.run.say("a")
        assert await cancel(house, one, f"wait=1&action={action}", mount) == WAITED[mount]
        assert one.run.closed.is_set()
        shown = await house.http.get(f"{mount}{one.path}")
        if action == "rollback" and not mount:
            assert shown.status_code == 404
            assert (await house.http.get(f"/runs/{one.id}")).status_code == 404
            assert (await house.http.delete(f"/runs/{one.id}")).status_code == 404
        else:
            assert shown.json()["status"] == "interrupted"
        listed = (await house.http.get(f"{mount}/threads/{one.thread}/runs")).json()
        assert len(listed) == (action == "interrupt")
        assert await log(house, one.id) == ["run_started", "text_delta", "cancelled"]

    visit(scene)


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_a_repeated_cancel_is_harmless(mount: str, action: str) -> None:
    async def scene(house: House) -> None:
        one = await made(house, mount=mount)
        await cancel(house, one, f"wait=1&action={action}", mount)
        for _ in range(2):
            assert await cancel(house, one, "", mount) == (202, b"")
            assert await cancel(house, one, "wait=1", mount) == WAITED[mount]
        assert await log(house, one.id) == ["run_started", "cancelled"]

    visit(scene)


@pytest.mark.parametrize(("mount", "status"), [("", 404), ("/api", 409)])
@pytest.mark.parametrize("query", ["", "wait=1", "action=rollback", "wait=1&action=rollback"])
def test_a_run_that_has_ended_otherwise_cannot_be_cancelled(mount: str, status: int, query: str) -> None:
    async def scene(house: House) -> None:
        done, broken = await ended(house, "a"), await made(house)
        await broken.run.fail(ValueError("x"))
        await house.http.get(f"{broken.path}/join")
        for one in (done, broken):
            assert (await cancel(house, one, query, mount))[0] == status
            assert (await house.http.get(one.path)).status_code == 200

    visit(scene)


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("query", ["", "wait=1", "wait=1&action=rollback"])
def test_runs_that_wait_are_cancelled_before_they_start(mount: str, query: str) -> None:
    async def scene(house: House) -> None:
        first = await made(house, mount=mount)
        strategy = {"multitask_strategy": "enqueue"} if not mount else {}
        delayed = await asked(house, after_seconds=3600)
        queued = await asked(house, first.thread, **strategy) if not mount else delayed
        for thread, run_id in {queued, delayed}:
            one = Made(thread, run_id, first.run)
            expected = WAITED[mount] if "wait" in query else (202, b"")
            assert await cancel(house, one, query, mount) == expected
            assert await log(house, run_id) == ["cancelled"]
        await first.run.end()
        assert house.script()._runs.empty()

    visit(scene)


@pytest.mark.parametrize("query", ["wait=2", "wait=maybe", "action=stop", "action="])
def test_a_wrong_query_is_refused(query: str) -> None:
    async def scene(house: House) -> None:
        one = await made(house)
        answer = await house.http.post(f"{one.path}/cancel?{query}")
        assert (answer.status_code, type(answer.json()["detail"])) == (422, str)
        assert not one.run.cancelled.is_set()

    visit(scene)


def test_a_wrong_action_is_told_which_there_are() -> None:
    async def scene(house: House) -> None:
        one = await made(house)
        answer = await house.http.post(f"{one.path}/cancel?action=stop")
        told = "The query is wrong: 'stop' is not one of `interrupt`, `rollback` - at `$.action`."
        assert answer.json() == {"detail": told}

    visit(scene)


def test_u10_nothing_is_said_after_a_cancel() -> None:
    async def scene(house: House) -> None:
        one = await made(house, stream_mode=["messages-tuple"])
        await one.run.say("a")
        async with hearing(house, f"{one.path}/stream", "-1") as ear:
            assert await cancel(house, one) == (202, b"")
            with pytest.raises(RunOver):
                await one.run.say(*["too late"] * 100)
            assert [event.event for event in await ear.rest()] == ["metadata", "messages"]
        assert await log(house, one.id) == ["run_started", "text_delta", "cancelled"]

    visit(scene)


async def speak(run: ScriptedRun) -> None:
    """All of a run's life, as far as it gets."""
    try:
        await run.say("a", Usage(input_tokens=1), "b", TextDelta(text="c"))
        await run.end()
    except RunOver:
        pass


@pytest.mark.parametrize("point", range(20))
def test_r01_a_cancel_that_was_taken_is_how_the_run_ends(point: int) -> None:
    async def scene(house: House) -> None:
        for again in range(20):
            one = await made(house)
            speaking = asyncio.create_task(speak(one.run))
            for _ in range(point):
                await asyncio.sleep(0)
            status, _ = await cancel(house, one, f"wait={again % 2}&action={('interrupt', 'rollback')[again // 2 % 2]}")
            await speaking
            events = await log(house, one.id)
            assert [event for event in events if event in FINAL] == [events[-1]]
            taken = 202 if again % 2 == 0 else 200
            assert status == (taken if events[-1] == "cancelled" else 404)

    visit(scene)


def test_r02_many_cancels_and_the_end_at_once_have_one_outcome() -> None:
    async def scene(house: House) -> None:
        for again in range(30):
            one = await made(house)
            cancels = [cancel(house, one, "wait=1") for _ in range(10)]
            answers: Any = await asyncio.gather(*cancels, *([one.run.end()] if again % 2 else []))
            statuses = {answer[0] for answer in answers[:10]}
            assert len(statuses) == 1
            assert statuses == ({200} if await state(house, one) == "cancelled" else {404})

    visit(scene)


def test_r03_a_run_can_be_cancelled_by_its_key_before_it_is_there() -> None:
    async def scene(house: House) -> None:
        early = await house.http.post("/runs/cancel", json={"idempotency_key": "k-1"})
        assert (early.status_code, early.content) == (202, b"")
        body = {"assistant_id": "script", "input": HI, "if_not_exists": "create"}
        path = f"/threads/{new_id()}/runs"
        made_ = await house.http.post(path, json=body, headers={"idempotency-key": "k-1"})
        assert made_.status_code == 200
        assert await log(house, made_.json()["run_id"]) == ["cancelled"]
        assert house.script()._runs.empty()
        mine = asyncio.create_task(house.http.post(path, json=body, headers={"idempotency-key": "k-2"}))
        run = await house.started()
        foreign = await house.http.post("/runs/cancel", json={"idempotency_key": "k-2"}, headers=OTHER)
        assert foreign.status_code == 202
        assert not run.cancelled.is_set()
        assert (await house.http.post("/api/runs/cancel", json={"idempotency_key": "k-2"})).status_code == 202
        await asyncio.wait_for(run.closed.wait(), 5)
        assert await log(house, (await mine).json()["run_id"]) == ["run_started", "cancelled"]

    visit(scene)


def test_several_runs_of_a_thread_are_cancelled_at_once() -> None:
    async def scene(house: House) -> None:
        first, other = await made(house), await made(house)
        waiting = [(await asked(house, first.thread))[1] for _ in range(2)]
        body = {"thread_id": first.thread, "run_ids": [first.id, waiting[0], other.id, new_id()]}
        answer = await house.http.post("/runs/cancel?action=rollback", json=body)
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await house.started()).given.run_id == waiting[1]
        assert not other.run.cancelled.is_set()
        assert (await house.http.get(first.path)).status_code == 404
        assert (await house.http.post("/runs/cancel", json=body)).status_code == 204

    visit(scene)


@pytest.mark.parametrize(("status", "left"), [("pending", {"running"}), ("running", {"pending"}), ("all", set())])
def test_all_runs_in_a_status_are_cancelled_at_once(status: str, left: set[str]) -> None:
    async def scene(house: House) -> None:
        one = await made(house)
        _, two = await asked(house, after_seconds=3600)
        foreign = house.ask(headers=OTHER)
        theirs = await house.started()
        assert (await house.http.post("/runs/cancel", json={"status": status})).status_code == 204
        states = set()
        for run_id in (one.id, two):
            told = (await house.http.get(f"/runs/{run_id}")).json()["state"]
            states.add("cancelled" if told != "cancelled" and one.run.cancelled.is_set() and run_id == one.id else told)
        assert states - {"cancelled"} == left
        assert not theirs.cancelled.is_set()
        await theirs.end()
        await foreign

    visit(scene)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"status": "all", "idempotency_key": "k"}, 422),
        ({"thread_id": new_id()}, 422),
        ({"run_ids": [new_id()]}, 422),
        ({"thread_id": new_id(), "run_ids": [new_id()], "status": "all"}, 422),
        ({"thread_id": "x", "run_ids": []}, 422),
        ({"status": "done"}, 422),
        ({"idempotency_key": ""}, 422),
        ([], 422),
        ({"thread_id": new_id(), "run_ids": []}, 404),
        ({"thread_id": new_id(), "run_ids": [new_id()]}, 404),
        ({"status": "all"}, 404),
    ],
)
def test_a_bulk_cancel_says_clearly_what_it_is_about(body: Any, status: int) -> None:
    async def scene(house: House) -> None:
        one = await ended(house, "a")
        if isinstance(body, dict) and body.get("run_ids"):
            assert (await house.http.post("/runs/cancel", json={**body, "run_ids": [one.id]})).status_code == status
        answer = await house.http.post("/runs/cancel", json=body)
        assert (answer.status_code, type(answer.json()["detail"])) == (status, str)

    visit(scene)


def test_a_rolled_back_run_can_still_be_heard_for_a_while() -> None:
    async def scene(house: House) -> None:
        one = await made(house, stream_mode=["messages-tuple"])
        await one.run.say("a")
        await cancel(house, one, "wait=1&action=rollback")
        assert [event.event for event in await heard(house, f"{one.path}/stream", "-1")] == ["metadata", "messages"]
        assert (await house.http.get(f"{one.path}/join")).status_code == 404

    visit(scene)

"""Runs that find their thread busy, or come later: refused, in turn, in place of another, delayed."""

from __future__ import annotations

import pytest

from proxy.settings import Dialects, NativeDialect
from tests.api.native.wire import CREATING, HI, STARTS, ask, events, lines, names, new_thread, on, said
from tests.api.scripted import House, visit


@pytest.mark.parametrize("what", CREATING)
def test_u61_a_refused_run_is_told_which_one_is_in_its_way(what: str) -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        first = (await ask(house, on(thread))).json()["run_id"]
        refused = await ask(house, on(thread, what), multitask_strategy="reject")
        assert (refused.status_code, refused.headers["x-run-id"]) == (409, first)
        assert first in refused.json()["detail"]
        assert (await ask(house, on(thread, mount="/api"))).status_code == 409

    visit(scene)


def test_u60_runs_wait_for_their_turn_in_order() -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        asked = ask(house, on(thread, "/wait"), input={"messages": "1"})
        runs = [await house.started()]
        later = []
        for number in ("2", "3"):
            later.append((await ask(house, on(thread), input={"messages": number})).json())
        assert [record["status"] for record in later] == ["pending", "pending"]
        for number in ("1", "2", "3"):
            run = runs[0] if number == "1" else await house.started()
            assert run.given.messages[-1].text == number
            await run.say(f"to {number}")
            await run.end()
        assert said((await asked).json()) == ["1", "to 1"]
        last = await ask(house, on(thread, "/stream"), input=None)
        assert said(events(last.text)[-1][1]) == ["1", "to 1", "2", "to 2", "3", "to 3"]

    visit(scene)


def test_the_stream_of_a_run_that_waits_is_kept_alive_until_it_runs() -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        await ask(house, on(thread))
        first = await house.started()
        async with house.http.stream("POST", on(thread, "/stream"), json={**STARTS, "input": HI}) as answer:
            read = lines(answer)
            for _ in range(3):
                assert await anext(read) == ": heartbeat"
            await first.end()
            second = await house.started()
            assert answer.headers["x-run-id"] == second.given.run_id
            await second.end()
            assert "event: metadata" in [line async for line in read]

    visit(scene, dialects=Dialects(langgraph=NativeDialect(keepalive=0.02)))


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_a_run_may_push_another_aside(action: str) -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        asked = ask(house, on(thread, "/stream"), input={"messages": "old"})
        old = await house.started()
        await old.say("half")
        new = ask(house, on(thread, "/wait"), input={"messages": "new"}, multitask_strategy=action)
        run = await house.started()
        assert old.cancelled.is_set()
        left = ["old"] if action == "interrupt" else []
        assert [message.text for message in run.given.messages] == [*left, "new"]
        await run.end()
        assert said((await new).json()) == [*left, "new"]
        assert "error" not in names((await asked).text)
        record = await house.http.get(f"/threads/{thread}/runs/{old.given.run_id}")
        assert record.status_code == (200 if action == "interrupt" else 404)

    visit(scene)


def test_a_run_may_be_delayed() -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        later = (await ask(house, on(thread), after_seconds=3600)).json()
        assert later["status"] == "pending"
        now = ask(house, on(thread, "/wait"))
        run = await house.started()
        assert run.given.run_id != later["run_id"]
        await run.end()
        await now
        soon = ask(house, "/runs/wait", after_seconds=0.01)
        run = await house.started()
        await run.say("late")
        await run.end()
        assert said((await soon).json()) == ["Hi", "late"]

    visit(scene)

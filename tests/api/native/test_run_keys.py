"""Idempotency keys: one request makes one run, however often it comes."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.native.wire import ask, new_thread, on, paused, said
from tests.api.scripted import OTHER, House, visit


@pytest.mark.parametrize("path", ["/threads/{}/runs", "/threads/{}/runs/stream", "/threads/{}/runs/wait", "/runs"])
def test_r04_one_key_at_the_same_time_makes_one_run(path: str) -> None:
    async def scene(house: House) -> None:
        url, key = path.format(new_thread()), {"idempotency-key": "k"}
        asked = [ask(house, url, headers=key) for _ in range(50)]
        run = await house.started()
        await run.say("Hello")
        await run.end()
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-run-id"] for answer in answers} == {run.given.run_id}
        if path.endswith(("stream", "wait")):
            assert len({answer.content for answer in answers}) == 1
            assert b"Hello" in answers[0].content
        assert house.script()._runs.empty()

    visit(scene)


def test_r05_a_key_stands_for_one_request_of_one_tenant() -> None:
    async def scene(house: House) -> None:
        key = {"idempotency-key": "k"}
        first = await ask(house, "/runs", headers=key)
        for path, fields in (("/runs", {"metadata": {"other": 1}}), ("/runs/stream", {})):
            other = await ask(house, path, headers=key, **fields)
            detail = {"detail": "This idempotency key was used for another request."}
            assert (other.status_code, other.json()) == (409, detail)
        foreign = await ask(house, "/runs", headers={**key, **OTHER})
        assert foreign.json()["run_id"] != first.json()["run_id"]
        await (await house.started()).end()
        again = await ask(house, "/runs", headers=key)
        assert again.json()["run_id"] == first.json()["run_id"]

    visit(scene)


def test_the_items_of_a_batch_have_keys_of_their_own() -> None:
    async def scene(house: House) -> None:
        items = [{"assistant_id": "script"}] * 2
        answers = [
            (await house.http.post("/runs/batch", json=items, headers={"idempotency-key": "k"})).json()
            for _ in range(2)
        ]
        ids = [[record["run_id"] for record in records] for records in answers]
        assert ids[0] == ids[1]
        assert len(set(ids[0])) == 2

    visit(scene)


def test_a_repeated_answer_joins_the_run_that_it_resumed() -> None:
    async def scene(house: House) -> None:
        thread = await paused(house)
        key = {"idempotency-key": "k"}
        bodies = []
        for _ in range(2):
            asked = house.ask(on(thread, "/wait"), assistant_id="script", command={"resume": "yes"}, headers=key)
            if not bodies:
                run = await house.started()
                await run.say("Good")
                await run.end()
            bodies.append((await asked).json())
        assert said(bodies[0])[-1] == "Good"
        assert bodies[0] == bodies[1]

    visit(scene)

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from proxy.api.native.thread_stream import follow_thread
from proxy.errors import Unavailable
from proxy.events import Entry
from proxy.model import Run, new_id
from proxy.wire.thread_stream import Told
from tests.api.native.callers import MOUNTS, Ear, Heard, asked, ended, hearing, made, texts
from tests.api.scripted import OTHER, House, open_house, visit

TUPLES: dict[str, Any] = {"stream_mode": ["messages-tuple"]}


def done(event: Heard) -> bool:
    return event.event == "metadata" and event.data.get("status") == "run_done"


async def until_done(ear: Ear, runs: int = 1) -> list[Heard]:
    """What is heard until so many runs are over."""
    events: list[Heard] = []
    while runs:
        event = await asyncio.wait_for(ear.next(), 5)
        assert event is not None, "the stream of a thread does not end by itself"
        events.append(event)
        runs -= done(event)
    return events


async def empty_thread(house: House) -> str:
    thread = new_id()
    assert (await house.http.post("/threads", json={"thread_id": thread})).status_code == 200
    return thread


@pytest.mark.parametrize("mount", MOUNTS)
def test_every_run_of_a_thread_is_heard_one_after_the_other(mount: str) -> None:
    async def scene(house: House) -> None:
        thread = await empty_thread(house)
        async with hearing(house, f"{mount}/threads/{thread}/stream") as ear:
            ids = [(await asked(house, thread, **TUPLES))[1] for _ in range(3)]
            for number in range(3):
                run = await house.started()
                await run.say(f"{number}a", f"{number}b")
                await run.end()
            events = await until_done(ear, 3)
        assert [event.data["run_id"] for event in events if done(event)] == ids
        assert texts(events) == ["0a", "0b", "1a", "1b", "2a", "2b"]
        assert [event.event for event in events[:4]] == ["metadata", "messages", "messages", "metadata"]
        assert all(
            event.id and event.id.startswith(f"{id}:") for event, id in zip(events[:3], ids[:1] * 3, strict=True)
        )

    visit(scene)


def test_what_was_is_heard_where_it_is_asked_for() -> None:
    async def scene(house: House) -> None:
        thread = new_id()
        for number in range(4):
            one = await made(house, thread, **TUPLES)
            await one.run.say(f"{number}a", f"{number}b")
            await one.run.end()
        path = f"/threads/{thread}/stream"
        for all_of_it in ("-", "-1", "0"):
            async with hearing(house, path, all_of_it) as ear:
                events = await until_done(ear, 4)
            assert texts(events) == [f"{number}{word}" for number in range(4) for word in "ab"]
        for at, event in enumerate(events):
            if not done(event) and event.id and at < len(events) - 1:
                async with hearing(house, path, event.id) as ear:
                    rest = await until_done(ear, sum(map(done, events[at + 1 :])))
                assert [each[:2] for each in rest] == [each[:2] for each in events[at + 1 :]]

    visit(scene)


def test_what_comes_follows_what_was_without_a_gap() -> None:
    async def scene(house: House) -> None:
        one = await made(house, **TUPLES)
        await one.run.say("a")
        async with (
            hearing(house, f"/threads/{one.thread}/stream", "-") as whole,
            hearing(house, f"/threads/{one.thread}/stream") as late,
        ):
            await one.run.say("b")
            await one.run.end()
            await asked(house, one.thread, **TUPLES)
            run = await house.started()
            await run.say("c")
            await run.end()
            assert texts(await until_done(whole, 2)) == ["a", "b", "c"]
            assert texts(await until_done(late, 2)) == ["b", "c"]

    visit(scene)


def test_runs_are_heard_in_the_order_in_which_they_begin() -> None:
    async def scene(house: House) -> None:
        thread = await empty_thread(house)
        path = f"/threads/{thread}/stream"
        async with hearing(house, path) as ear:
            _, delayed = await asked(house, thread, after_seconds=3600)
            first = await made(house, thread)
            _, waiting = await asked(house, thread)
            await house.http.post(f"/threads/{thread}/runs/{delayed}/cancel?wait=1")
            await first.run.end()
            await (await house.started()).end()
            expected = [first.id, delayed, waiting]
            assert [event.data["run_id"] for event in await until_done(ear, 3) if done(event)] == expected
        async with hearing(house, path, "-") as ear:
            assert [event.data["run_id"] for event in await until_done(ear, 3) if done(event)] == expected

    visit(scene)


def test_only_lives_can_be_heard() -> None:
    async def scene(house: House) -> None:
        one = await made(house)
        async with hearing(house, f"/threads/{one.thread}/stream?stream_mode=lifecycle", "-") as ear:
            await one.run.say("a")
            await one.run.fail(ValueError("x"))
            events = await until_done(ear)
        assert [event.event for event in events] == ["metadata", "error", "metadata"]

    visit(scene)


def test_a_run_that_goes_is_over_for_who_hears_the_thread() -> None:
    async def scene(house: House) -> None:
        one = await made(house, **TUPLES)
        async with hearing(house, f"/threads/{one.thread}/stream", "-") as ear:
            await one.run.say("a")
            await house.http.post(f"{one.path}/cancel?action=rollback&wait=1")
            assert texts(await until_done(ear)) == ["a"]
            two = await made(house, one.thread, **TUPLES)
            await two.run.say("b")
            await house.http.delete(two.path)
            assert texts(await until_done(ear)) == ["b"]
        async with hearing(house, f"/threads/{one.thread}/stream", f"{one.id}:1") as ear:
            assert texts(await until_done(ear)) == ["a"]

    visit(scene)


def test_a_chat_thread_can_be_heard() -> None:
    async def scene(house: House) -> None:
        await house.ended_run("a", headers={"x-thread-id": "chat-1"})
        async with hearing(house, "/threads/chat-1/stream", "-") as ear:
            values = [event.data for event in await until_done(ear) if event.event == "values"]
        assert [message["content"] for message in values[-1]["messages"]] == ["Hi", "a"]

    visit(scene)


@pytest.mark.parametrize(
    "place", ["x", "1", "-2", "x:1", "01890000-0000-7000-8000-000000000000:1", "RUN:999", "RUN:", "RUN:x", "OTHER:1"]
)
def test_c14_a_place_that_is_not_there_is_refused(place: str) -> None:
    async def scene(house: House) -> None:
        one, other = await made(house), await ended(house)
        at = place.replace("RUN", one.id).replace("OTHER", other.id)
        answer = await house.http.get(f"/threads/{one.thread}/stream", headers={"last-event-id": at})
        assert (answer.status_code, "Last-Event-ID" in answer.json()["detail"]) == (422, True)

    visit(scene)


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_thread_that_is_not_there_cannot_be_heard(mount: str) -> None:
    async def scene(house: House) -> None:
        thread = await empty_thread(house)
        for path, headers, status in (
            (new_id(), {}, 404),
            (thread, OTHER, 404),
            ("x", {}, 422),
            (f"{thread}?", {}, 422),
        ):
            query = "stream_mode=values" if path.endswith("?") else ""
            answer = await house.http.get(f"{mount}/threads/{path.strip('?')}/stream?{query}", headers=headers)
            assert (answer.status_code, type(answer.json()["detail"])) == (status, str)

    visit(scene)


def test_a_silence_brings_signs_of_life() -> None:
    async def scene(house: House) -> None:
        thread = await empty_thread(house)
        batches = follow_thread(house.app.manager, "default", thread, None, idle=0.01)
        assert await anext(batches) == []
        one = await made(house, thread)
        heard: list[Told] = []
        while not heard:
            heard = await anext(batches)
        assert (heard[0].run.run_id, heard[0].entry.seq) == (one.id, 1)
        await batches.aclose()
        await one.run.end()

    visit(scene)


def test_a_run_that_waits_is_heard_although_the_store_was_away_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.api.native.thread_stream.AGAIN", 0.0)

    async def scene(house: House) -> None:
        manager = house.app.manager
        one = await made(house)
        _, waiting = await asked(house, one.thread)
        follow, refusals = manager.follow, [Unavailable(), Unavailable()]

        async def unsure(run: Run, **more: Any) -> AsyncGenerator[list[Entry]]:
            if run.run_id == waiting and refusals:
                raise refusals.pop()
            async with aclosing(follow(run, **more)) as batches:
                async for batch in batches:
                    yield batch

        monkeypatch.setattr(manager, "follow", unsure)
        async with hearing(house, f"/threads/{one.thread}/stream", "-") as ear:
            while refusals:
                await asyncio.sleep(0)
            await one.run.end()
            await (await house.started()).end()
            events = await until_done(ear, 2)
        assert [event.data["run_id"] for event in events if done(event)] == [one.id, waiting]

    visit(scene)


def test_the_end_of_the_server_is_the_end_of_the_stream() -> None:
    async def play() -> None:
        async with open_house() as house:
            one = await made(house)
            _, waiting = await asked(house, one.thread)
            async with hearing(house, f"/threads/{one.thread}/stream", "-") as ear:
                house.app.manager.abort()
                events = await asyncio.wait_for(ear.rest(), 5)
            assert [event.event for event in events] == ["metadata", "values", "error", "metadata"]
            assert waiting not in str(events)

    asyncio.run(asyncio.wait_for(play(), 20))


def test_nobody_is_left_listening() -> None:
    async def scene(house: House) -> None:
        thread = await empty_thread(house)
        async with hearing(house, f"/threads/{thread}/stream") as ear:
            assert len(house.app.manager.watch)
            one = await made(house, thread)
            await one.run.end()
            await until_done(ear)
        while len(house.app.manager.watch):
            await asyncio.sleep(0)

    visit(scene)

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import Any

import pytest

from proxy.events import Custom, Failed, Interrupt, Paused
from proxy.model import new_id
from tests.api.native.callers import MOUNTS, Heard, Made, asked, ended, heard, hearing, made, texts
from tests.api.scripted import OTHER, House, visit
from tests.wire.entries import raw

ALL = ["values", "updates", "messages-tuple", "custom"]
TUPLES: dict[str, Any] = {"stream_mode": ["messages-tuple"]}


def names(events: list[Heard]) -> list[str]:
    return [event.event for event in events]


def test_who_joins_at_the_root_hears_what_comes_from_now_on() -> None:
    async def scene(house: House) -> None:
        one = await made(house, **TUPLES)
        await one.run.say("a")
        async with hearing(house, f"{one.path}/stream") as ear:
            await one.run.say("b")
            await one.run.end()
            assert [(event.event, event.data[0]["content"]) for event in await ear.rest()] == [("messages", "b")]

    visit(scene)


def test_who_joins_under_api_hears_all() -> None:
    async def scene(house: House) -> None:
        one = await made(house, mount="/api", **TUPLES)
        await one.run.say("a")
        async with hearing(house, f"/api{one.path}/stream") as ear:
            await one.run.say("b")
            await one.run.end()
            events = await ear.rest()
        assert names(events) == ["metadata", "messages", "messages", "end"]
        assert texts(events) == ["a", "b"]
        assert all(event.id for event in events)
        assert await heard(house, f"/api{one.path}/join") == events

    visit(scene)


@pytest.mark.parametrize("place", ["-1", "-", "0"])
def test_everything_can_be_asked_for(place: str) -> None:
    async def scene(house: House) -> None:
        one = await made(house, **TUPLES)
        await one.run.say("a")
        async with hearing(house, f"{one.path}/stream", place) as ear:
            await one.run.say("b")
            await one.run.end()
            events = await ear.rest()
        assert (names(events), texts(events)) == (["metadata", "messages", "messages"], ["a", "b"])
        assert await heard(house, f"{one.path}/stream", place) == events

    visit(scene)


def test_a_finished_run_has_nothing_more_to_say_at_the_root() -> None:
    async def scene(house: House) -> None:
        one = await ended(house, "a")
        assert await heard(house, f"{one.path}/stream") == []
        assert names(await heard(house, f"/api{one.path}/stream")) == ["metadata", "values", "values", "end"]

    visit(scene)


def test_a_run_that_waits_is_heard_from_its_first_word() -> None:
    async def scene(house: House) -> None:
        first = await made(house)
        _, second = await asked(house, first.thread, **TUPLES)
        async with hearing(house, f"/threads/{first.thread}/runs/{second}/stream") as ear:
            await first.run.end()
            run = await house.started()
            await run.say("mine")
            await run.end()
            events = await ear.rest()
        assert events[0].data["run_id"] == second
        assert texts(events) == ["mine"]

    visit(scene)


def test_the_end_of_the_server_lets_go_of_who_joined_a_run_that_waits() -> None:
    async def scene(house: House) -> None:
        first = await made(house)
        _, second = await asked(house, first.thread)
        async with hearing(house, f"/threads/{first.thread}/runs/{second}/stream") as ear:
            house.app.manager.abort()
            assert await asyncio.wait_for(ear.rest(), 5) == []

    visit(scene)


@pytest.mark.parametrize(
    "query",
    [
        "stream_mode=updates&stream_mode=custom",
        "stream_mode=%5B%22updates%22%2C%22custom%22%5D",
        "stream_mode=&stream_mode=custom&stream_mode=updates",
    ],
)
def test_modes_may_be_repeated_or_stand_in_a_list(query: str) -> None:
    async def scene(house: House) -> None:
        one = await made(house, stream_mode=ALL)
        await one.run.say("a", Custom(name="n", data=raw({"n": 1})))
        await one.run.end()
        await house.http.get(f"{one.path}/join")
        events = await heard(house, f"{one.path}/stream?{query}", "-1")
        assert names(events) == ["metadata", "custom", "updates"]

    visit(scene)


def test_no_mode_is_the_modes_of_the_run() -> None:
    async def scene(house: House) -> None:
        one = await ended(house, "a", **TUPLES)
        assert names(await heard(house, f"{one.path}/stream?stream_mode=", "-1")) == ["metadata", "messages"]

    visit(scene)


@pytest.mark.parametrize("mode", ["tools", "[1]", "[", "lifecycle", "Values", "values,updates"])
def test_an_unknown_mode_is_refused(mode: str) -> None:
    async def scene(house: House) -> None:
        one = await ended(house, "a")
        answer = await house.http.get(f"{one.path}/stream", params={"stream_mode": mode})
        assert (answer.status_code, type(answer.json()["detail"])) == (422, str)

    visit(scene)


def test_a_mode_that_the_run_was_not_made_with_is_made() -> None:
    async def scene(house: House) -> None:
        one = await ended(house, "a", stream_mode=["values"])
        events = await heard(house, f"{one.path}/stream?stream_mode=messages-tuple&stream_mode=debug", "-1")
        assert (names(events), texts(events)) == (["metadata", "messages"], ["a"])

    visit(scene)


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_run_that_a_chat_request_started_is_joined_like_any_other(mount: str) -> None:
    async def scene(house: House) -> None:
        chat = house.ask(headers={"x-thread-id": "chat-1"})
        run = await house.started()
        await run.say("a")
        path = f"{mount}/threads/chat-1/runs/{run.given.run_id}/stream"
        async with (
            hearing(house, f"{path}?stream_mode=messages-tuple", "-1") as tuples,
            hearing(house, f"{mount}/runs/{run.given.run_id}/stream", "-1") as plain,
        ):
            await run.say("b")
            await run.end()
            assert texts(await tuples.rest()) == ["a", "b"]
            values = [event.data["messages"] for event in await plain.rest() if event.event == "values"]
        assert [[message["content"] for message in messages] for messages in values] == [["Hi"], ["Hi", "ab"]]
        assert (await chat).status_code == 200

    visit(scene)


def test_ids_grow_and_each_stands_once() -> None:
    async def scene(house: House) -> None:
        one = await made(house, stream_mode=ALL)
        for number in range(20):
            await one.run.say(f"{number} ", Custom(name="n", data=raw(number)))
        await one.run.end()
        await house.http.get(f"{one.path}/join")
        ids = [event.id for event in await heard(house, f"{one.path}/stream", "-1")]
        places = [tuple(map(int, id.split("."))) for id in ids if id]
        order = [(place[0], 0) if len(place) == 1 else place for place in places]
        assert len(order) == len(ids) > 40
        assert all(before < after for before, after in pairwise(order))

    visit(scene)


@pytest.mark.parametrize("mount", MOUNTS)
def test_c13_a_reader_that_is_cut_off_a_hundred_times_misses_and_doubles_nothing(mount: str) -> None:
    async def scene(house: House) -> None:
        chance = random.Random(13)
        one = await made(house, mount=mount, stream_mode=ALL)
        path, got, place = f"{mount}{one.path}/stream", list[Heard](), "-1"
        for number in range(100):
            await one.run.say(*(f"{number}.{piece} " for piece in range(chance.randrange(4))))
            await one.run.say(Custom(name="n", data=raw(number)))
            async with hearing(house, path, place) as ear:
                for _ in range(chance.randrange(1, 6)):
                    if (event := await asyncio.wait_for(ear.next(), 5)) is None:
                        break
                    got.append(event)
                    place = event.id or place
                    if event.event == "custom" and event.data == number:
                        break
        await one.run.end()
        got += await heard(house, path, place)
        assert got == await heard(house, path, "-1")
        assert [event.data for event in got if event.event == "custom"] == list(range(100))

    visit(scene)


ANOTHER = "01890000-0000-7000-8000-000000000000"
PLACES = ["999999", "-2", "-1.5", "abc", "1.2.3", "1:2", "9" * 40, f"{ANOTHER}:1", "\u00e9", "0x1", "1e3"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mount", MOUNTS)
def test_c14_a_place_that_is_not_there_is_refused_or_the_end(mount: str, place: str) -> None:
    async def scene(house: House) -> None:
        one = await made(house, mount=mount)
        path, header = f"{mount}{one.path}/stream", {b"last-event-id": place.encode()}
        live = await house.http.get(path, headers=header)
        assert live.status_code == 422
        assert "Last-Event-ID" in live.json()["detail"]
        await one.run.end()
        await house.http.get(f"{one.path}/join")
        over = await house.http.get(path, headers=header)
        assert over.status_code in (200, 422)
        if over.status_code == 200:
            assert b"event: values" not in over.content

    visit(scene)


def test_c12_one_reader_that_takes_nothing_holds_up_nobody() -> None:
    async def scene(house: House) -> None:
        one = await made(house, **TUPLES)
        async with hearing(house, f"{one.path}/stream", "-1"):  # reads nothing

            async def listen() -> str:
                return "".join(texts(await heard(house, f"{one.path}/stream", "-1")))

            others = [asyncio.create_task(listen()) for _ in range(9)]
            pieces = [f"{number} " * 50 for number in range(500)]
            await one.run.say(*pieces)
            await one.run.end()
            assert await asyncio.wait_for(asyncio.gather(*others), 20) == ["".join(pieces)] * 9

    visit(scene)


def test_r09_joining_at_the_very_moment_of_the_end_brings_the_end_a_thousand_times() -> None:
    async def scene(house: House) -> None:
        async def once(number: int, one: Made) -> None:
            async def finish() -> None:
                for _ in range(number % 23):
                    await asyncio.sleep(0)
                await one.run.end()

            finishing = asyncio.create_task(finish())
            stream = heard(house, f"{one.path}/stream", "-1")
            answers: Any = await asyncio.gather(stream, house.http.get(f"{one.path}/join"), finishing)
            events, whole, _ = answers
            assert [message["content"] for message in events[-1].data["messages"]] == ["Hi", "x"]
            assert whole.json() == events[-1].data

        for number in range(0, 1000, 10):
            runs = [await made(house) for _ in range(10)]
            await asyncio.gather(*(one.run.say("x") for one in runs))
            await asyncio.gather(*(once(number + at, one) for at, one in enumerate(runs)))

    visit(scene)


def test_a_failure_is_kept_for_who_comes_later() -> None:
    async def scene(house: House) -> None:
        one = await made(house)
        await one.run.fail(ValueError("boom: x"))
        await house.http.get(f"{one.path}/join")
        expected = {"error": "ValueError", "message": "boom: x"}
        last = (await heard(house, f"{one.path}/stream", "-1"))[-1]
        assert (last.event, last.data) == ("error", expected)
        assert last.id
        assert (await house.http.get(f"{one.path}/join")).json() == {"__error__": expected}
        under_api = await heard(house, f"/api{one.path}/stream")
        assert [event.event for event in under_api[-2:]] == ["error", "end"]

    visit(scene)


def test_what_is_not_kept_is_announced_as_a_gap() -> None:
    async def scene(house: House) -> None:
        chat = house.ask(headers={"x-thread-id": "private"}, store=False)
        run = await house.started()
        await run.say("secret")
        await run.end()
        await chat
        path = f"/threads/private/runs/{run.given.run_id}/stream"
        root = await heard(house, path, "-1")
        assert names(root)[0] == "gap"
        assert root[0].data["requested_event_id"] == "0"
        assert root[0].data["earliest_available_event_id"] == "3"
        assert root[0].data["recovery"] == "reload_durable_state"
        assert "secret" not in str(root)
        assert names(await heard(house, f"/api{path}")) == ["gap"]

    visit(scene)


@pytest.mark.parametrize(
    ("word", "state"), [("1", "cancelled"), ("true", "cancelled"), ("0", "success"), ("", "success")]
)
def test_a_reader_may_take_the_run_along_when_it_goes(word: str, state: str) -> None:
    async def scene(house: House) -> None:
        one = await made(house)
        async with hearing(house, f"{one.path}/stream?cancel_on_disconnect={word}"):
            pass
        if state == "cancelled":
            await asyncio.wait_for(one.run.closed.wait(), 5)
        await one.run.end()
        await house.http.get(f"{one.path}/join")
        assert (await house.http.get(f"/runs/{one.id}")).json()["state"] == state

    visit(scene)


@pytest.mark.parametrize("wait", ["0", "1"])
@pytest.mark.parametrize("mount", MOUNTS)
def test_a_cancel_can_be_followed_by_the_rest_of_the_stream(mount: str, wait: str) -> None:
    async def scene(house: House) -> None:
        one = await made(house, mount=mount, **TUPLES)
        await one.run.say("a")
        events = await heard(house, f"{mount}{one.path}/stream?action=interrupt&wait={wait}", method="POST")
        assert names(events) == (["metadata", "messages", "end"] if mount else [])
        assert one.run.cancelled.is_set()
        assert (await house.http.get(f"{mount}/runs/{one.id}")).json()["status"] == "interrupted"

    visit(scene)


def test_posting_to_a_stream_without_an_action_only_joins() -> None:
    async def scene(house: House) -> None:
        one = await made(house, **TUPLES)
        async with hearing(house, f"{one.path}/stream", "-1", "POST") as ear:
            await one.run.say("a")
            await one.run.end()
            assert texts(await ear.rest()) == ["a"]

    visit(scene)


def test_answers_say_where_to_go_on() -> None:
    async def scene(house: House) -> None:
        one = await ended(house, "a")
        for path, location in {
            f"{one.path}/stream": f"{one.path}/stream",
            f"/runs/{one.id}/stream": f"/runs/{one.id}/stream",
            f"{one.path}/join": f"{one.path}/join",
        }.items():
            headers = (await house.http.get(path)).headers
            assert headers["content-location"] == location.rpartition("/")[0]
            assert headers["location"] == location
            under_api = (await house.http.get(f"/api{path}")).headers
            assert under_api["content-location"] == f"/api{location.rpartition('/')[0]}"
            assert under_api["location"] == location.replace("/join", "/stream")

    visit(scene)


def test_who_waits_gets_the_values_at_the_end() -> None:
    async def scene(house: House) -> None:
        one = await made(house, stream_mode=["updates"])
        waiting = asyncio.create_task(house.http.get(f"{one.path}/join"))
        await one.run.say("a")
        await one.run.end()
        live = await waiting
        assert [message["content"] for message in live.json()["messages"]] == ["Hi", "a"]
        assert (await house.http.get(f"{one.path}/join")).json() == live.json()

    visit(scene)


def test_who_waits_for_a_run_without_a_thread_gets_what_it_said() -> None:
    async def scene(house: House) -> None:
        run_id = await house.ended_run("a")
        answer = await house.http.get(f"/threads/{run_id}/runs/{run_id}/join")
        assert [message["content"] for message in answer.json()["messages"]] == ["Hi", "a"]

    visit(scene)


def test_who_waits_for_a_run_that_asks_gets_the_question() -> None:
    async def scene(house: House) -> None:
        one = await made(house)
        waiting = asyncio.create_task(house.http.get(f"{one.path}/join"))
        await one.run.end(Paused(interrupts=(Interrupt(id="i-1", value=raw("Sure?")),)))
        live = (await waiting).json()
        assert [question["value"] for question in live["__interrupt__"]] == ["Sure?"]
        later = (await house.http.get(f"{one.path}/join")).json()
        assert later == {"__interrupt__": [{"id": "i-1", "value": "Sure?"}]}

    visit(scene)


def test_a_run_that_breaks_is_an_answer_to_who_waits() -> None:
    async def scene(house: House) -> None:
        one = await made(house)
        waiting = asyncio.create_task(house.http.get(f"{one.path}/join"))
        await one.run.end(Failed(code="llm_timeout", message="Slow."))
        answer = await waiting
        assert (answer.status_code, answer.json()) == (200, {"__error__": {"error": "LlmTimeout", "message": "Slow."}})

    visit(scene)


JOINS = [("GET", "/stream"), ("POST", "/stream"), ("GET", "/join")]


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize(("method", "end"), JOINS)
def test_a06_no_run_is_found_under_another_thread_or_tenant_or_a_wrong_id(mount: str, method: str, end: str) -> None:
    async def scene(house: House) -> None:
        one, other = await ended(house, "a"), await ended(house, "b")
        for path, expected in {
            f"/threads/{other.thread}/runs/{one.id}": 404,
            f"/threads/{one.thread}/runs/{new_id()}": 404,
            f"/threads/{new_id()}/runs/{one.id}": 404,
            f"/threads/x/runs/{one.id}": 422,
            f"/threads/{one.thread}/runs/x": 422,
            f"/threads/{one.thread}/runs/%00": 422,
        }.items():
            answer = await house.http.request(method, f"{mount}{path}{end}")
            assert (answer.status_code, type(answer.json()["detail"])) == (expected, str), path
        foreign = await house.http.request(method, f"{mount}{one.path}{end}", headers=OTHER)
        assert foreign.status_code == 404

    visit(scene)

"""Runs are made in the background, as streams, waited for, without a thread and in batches, in both dialects."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import msgspec
import pytest

from proxy.api.native import runs as native_runs
from proxy.events import Completed, ReasoningDelta, TextDelta, ToolCallDelta, ToolResult
from proxy.model import new_id
from proxy.settings import Dialects, NativeDialect
from proxy.testing import ScriptedRun
from tests.api.native.wire import CREATING, HI, MOUNTS, STARTS, ask, events, lines, new_thread, on, paused, said
from tests.api.scripted import OTHER, House, visit


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_run_in_the_background_is_answered_with_its_record_and_its_place(mount: str) -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        answer = await ask(house, on(thread, mount=mount), metadata={"k": "v"})
        run = await house.started()
        record = answer.json()
        assert (answer.status_code, record["run_id"]) == (200, run.given.run_id)
        assert (record["thread_id"], record["status"]) == (thread, "running")
        assert record["multitask_strategy"] == ("reject" if mount else "enqueue")
        assert record["metadata"] == {
            "created_by": "system",
            "graph_id": "script",
            "assistant_id": record["assistant_id"],
            "k": "v",
        }
        assert answer.headers["content-location"] == f"{mount}/threads/{thread}/runs/{run.given.run_id}"
        assert answer.headers["x-run-id"] == run.given.run_id
        assert "location" not in answer.headers
        await run.end()

    visit(scene)


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize(
    ("path", "place", "again"),
    [
        ("/threads/{t}/runs/stream", "/threads/{t}/runs/{r}", "/threads/{t}/runs/{r}/stream"),
        ("/threads/{t}/runs/wait", "/threads/{t}/runs/{r}", "/threads/{t}/runs/{r}/join"),
        ("/runs", "/runs/{r}", None),
        ("/runs/stream", "/runs/{r}", "/runs/{r}/stream"),
        ("/runs/wait", "/threads/{t}/runs/{r}", "/threads/{t}/runs/{r}/join"),
    ],
)
def test_each_route_says_where_its_run_is_and_where_to_come_back(
    mount: str, path: str, place: str, again: str | None
) -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        asked = ask(house, mount + path.format(t=thread))
        run = await house.started()
        await run.end()
        headers = (await asked).headers
        names = {"t": run.given.thread_id, "r": run.given.run_id}
        assert headers["content-location"] == mount + place.format(**names)
        assert headers.get("location") == (None if again is None else again.format(**names))
        if "threads" in path:
            assert run.given.thread_id == thread

    visit(scene)


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_stream_says_which_run_it_is_of_before_the_agent_says_anything(mount: str) -> None:
    async def scene(house: House) -> None:
        path = on(new_thread(), "/stream", mount)
        async with house.http.stream("POST", path, json={**STARTS, "input": HI}) as answer:
            run = await house.started()
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert answer.headers["cache-control"] == "no-store"
            read = lines(answer)
            assert await anext(read) == "event: metadata"
            assert run.given.run_id in await anext(read)
            await run.end()
            rest = [line async for line in read]
            assert ("event: end" in rest) == bool(mount)

    visit(scene)


def test_a_plain_agent_streams_in_all_modes_that_can_be_made() -> None:
    async def scene(house: House) -> None:
        modes = ["values", "updates", "messages-tuple", "custom"]
        asked = ask(house, on(new_thread(), "/stream"), stream_mode=modes)
        run = await house.started()
        assert [message.text for message in run.given.messages] == ["Hi"]
        await run.say(ReasoningDelta(text="hm"), ToolCallDelta(call_id="c", name="clock", arguments="{}"))
        await run.say(ToolResult(call_id="c", output="12:00"), "It is ", "noon")
        await run.end()
        told = events((await asked).text)
        assert told[0][0] == "metadata"
        values = [content for name, content in told if name == "values"]
        assert said(values[0]) == ["Hi"]
        assert said(values[-1]) == ["Hi", "", "12:00", "It is noon"]
        tokens = [content[0]["content"] for name, content in told if name == "messages"]
        assert tokens[-2:] == ["It is ", "noon"]
        assert [list(content) for name, content in told if name == "updates"] == [["script"]] * 3

    visit(scene)


def test_the_next_run_of_a_thread_begins_with_what_was_said() -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        for text, before in (("Hi", []), ("And now?", ["Hi", "Hello"])):
            asked = ask(house, on(thread, "/wait"), input={"messages": text})
            run = await house.started()
            assert [message.text for message in run.given.messages] == [*before, text]
            await run.say("Hello")
            await run.end()
            answer = await asked
            assert (answer.status_code, said(answer.json())) == (200, [*before, text, "Hello"])

    visit(scene)


def test_who_waits_gets_the_values_whatever_modes_were_asked_for() -> None:
    async def scene(house: House) -> None:
        asked = ask(house, "/runs/wait", stream_mode="custom")
        run = await house.started()
        await run.say("Hello")
        await run.end(Completed(finish_reason="length"))
        assert said((await asked).json()) == ["Hi", "Hello"]

    visit(scene)


@pytest.mark.parametrize("talks", [True, False])
def test_who_waits_long_gets_newlines_whether_the_agent_talks_or_not(
    monkeypatch: pytest.MonkeyPatch, talks: bool
) -> None:
    async def scene(house: House) -> None:
        monkeypatch.setattr(native_runs, "WAITED", 0.02)
        async with house.http.stream("POST", "/runs/wait", json={**STARTS, "input": HI}) as answer:
            run = await house.started()
            talking = asyncio.create_task(talk(run)) if talks else None
            body = answer.aiter_raw()
            assert b"".join([await anext(body) for _ in range(3)]).strip(b"\n") == b""
            if talking is not None:
                talking.cancel()
            await run.end()
            assert "messages" in msgspec.json.decode(b"".join([piece async for piece in body]))

    visit(scene)


async def talk(run: ScriptedRun) -> None:
    while True:
        await run.say(TextDelta(text="word"))
        await asyncio.sleep(0.001)


def test_who_waits_for_a_run_that_outlives_the_server_is_not_given_a_wrong_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        await ask(house, on(thread))
        await house.started()
        early = ask(house, on(thread, "/wait"))
        while len((await house.http.get(on(thread))).json()) < 2:
            pass
        monkeypatch.setattr(native_runs, "WAITED", 0.02)
        async with house.http.stream("POST", on(thread, "/wait"), json={**STARTS, "input": HI}) as late:
            body = late.aiter_raw()
            assert await anext(body) == b"\n"
            await house.app.drain()
            with pytest.raises(httpx2.RemoteProtocolError):
                [piece async for piece in body]
        assert ((await early).status_code, list((await early).json())) == (503, ["detail"])

    visit(scene)


async def until(read: Any, wanted: str, *, times: int) -> Any:
    async for line in read:
        yield line
        times -= line == wanted
        if not times:
            return


def test_signs_of_life_come_in_the_midst_of_events() -> None:
    async def scene(house: House) -> None:
        asked = {**STARTS, "input": HI, "stream_mode": "messages-tuple"}
        async with house.http.stream("POST", "/runs/stream", json=asked) as answer:
            talking = asyncio.create_task(talk(await house.started()))
            seen = [line async for line in until(lines(answer), ": heartbeat", times=3)]
            talking.cancel()
            assert sum(line == "event: messages" for line in seen) > 3

    visit(scene, dialects=Dialects(langgraph=NativeDialect(keepalive=0.05)))


@pytest.mark.parametrize("mount", MOUNTS)
def test_who_waits_for_a_run_that_fails_is_told_so_with_200(mount: str) -> None:
    async def scene(house: House) -> None:
        asked = ask(house, f"{mount}/runs/wait")
        await (await house.started()).fail(ValueError("boom: x"))
        answer = await asked
        problem = {"error": "ValueError", "message": "boom: x"}
        expected = {"status": "error", "error": "boom: x"} if mount else {"__error__": problem}
        assert (answer.status_code, answer.json()) == (200, expected)

    visit(scene)


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_failure_is_an_event(mount: str) -> None:
    async def scene(house: House) -> None:
        asked = ask(house, f"{mount}/runs/stream")
        await (await house.started()).fail(ValueError("boom: x"))
        told = events((await asked).text)
        problem = {"error": "ValueError", "message": "boom: x", **({"name": "ValueError"} if mount else {})}
        assert told[-1 - bool(mount)] == ("error", problem)

    visit(scene)


def test_a_thread_must_be_there_unless_the_run_may_make_it() -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        for what in CREATING:
            missing = await house.http.post(on(thread, what), json={"assistant_id": "script"})
            assert (missing.status_code, missing.json()) == (404, {"detail": f"There is no thread {thread}."})
        assert (await ask(house, on(thread))).status_code == 200
        await (await house.started()).end()
        record = (await house.http.get(f"/threads/{thread}")).json()
        assert record["metadata"]["graph_id"] == "script"
        assert (await house.http.post(on(thread), json={"assistant_id": "script", "input": HI})).status_code == 200
        foreign = await house.http.post(on(thread), json={"assistant_id": "script"}, headers=OTHER)
        assert foreign.status_code == 404
        made = await house.http.post(on(new_thread(), mount="/api"), json={"assistant_id": "script"})
        assert made.status_code == 200
        malformed = await house.http.post(on("x"), json=STARTS)
        assert (malformed.status_code, malformed.json()) == (422, {"detail": "The id of a thread is a UUID."})

    visit(scene)


def test_a_run_may_go_on_where_a_chat_stopped() -> None:
    async def scene(house: House) -> None:
        await house.ended_run("Hello", runwire={"thread_id": "conv-1"})
        asked = ask(house, on("conv-1", "/wait"), input={"messages": "Again"})
        run = await house.started()
        await run.end()
        assert said((await asked).json()) == ["Hi", "Hello", "Again"]

    visit(scene)


def test_a_run_without_a_thread_leaves_none_unless_it_is_to_be_kept() -> None:
    async def scene(house: House) -> None:
        for completion, status in ((None, 404), ("delete", 404), ("keep", 200)):
            asked = ask(house, "/runs/wait", on_completion=completion)
            run = await house.started()
            assert run.given.temporary is (status == 404)
            await run.end()
            await asked
            assert (await house.http.get(f"/threads/{run.given.thread_id}")).status_code == status

    visit(scene)


@pytest.mark.parametrize("path", ["/runs/wait", "/api/runs/wait"])
def test_a_thread_named_in_the_config_of_a_stateless_run_is_gone_on_with(path: str) -> None:
    async def scene(house: House) -> None:
        config = {"configurable": {"thread_id": new_thread()}}
        for before in ([], ["Hi", "Hello"]):
            asked = ask(house, path, config=config)
            run = await house.started()
            assert [message.text for message in run.given.messages] == [*before, "Hi"]
            await run.say("Hello")
            await run.end()
            await asked
        wrong = await ask(house, path, config={"configurable": {"thread_id": "x"}})
        assert (wrong.status_code, wrong.json()) == (422, {"detail": "The id of a thread is a UUID."})

    visit(scene)


def test_a_batch_makes_one_run_an_item() -> None:
    async def scene(house: House) -> None:
        items = [
            {"assistant_id": "script", "assistantId": "script", "input": HI, "metadata": {"n": n}} for n in range(3)
        ]
        answer = await house.http.post("/runs/batch", json=items)
        records = answer.json()
        assert (answer.status_code, [record["metadata"]["n"] for record in records]) == (200, [0, 1, 2])
        started = [(await house.started()).given.run_id for _ in items]
        assert started == [record["run_id"] for record in records]

    visit(scene)


def test_a_batch_is_made_whole_or_not_at_all() -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        item = {"assistant_id": "script", "config": {"configurable": {"thread_id": thread}}}
        good, busy = {**item, "input": HI}, {**item, "input": HI, "multitask_strategy": "reject"}
        for items, status in (([good, {**item, "assistant_id": "nobody"}], 422), ([good, busy], 409)):
            answer = await house.http.post("/runs/batch", json=items)
            assert (answer.status_code, list(answer.json())) == (status, ["detail"])
        assert (await house.http.get(f"/threads/{thread}/runs")).json() == []

    visit(scene)


@pytest.mark.parametrize("what", ["/stream", "/wait"])
@pytest.mark.parametrize(("mount", "asked", "ends"), [("", "cancel", True), ("", None, False), ("/api", None, True)])
def test_leaving_ends_the_run_where_that_was_asked_for(what: str, mount: str, asked: str | None, ends: bool) -> None:
    async def scene(house: House) -> None:
        task = ask(house, on(new_thread(), what, mount), on_disconnect=asked)
        run = await house.started()
        task.cancel()
        if ends:
            await run.cancelled.wait()
        else:
            await run.say("still here")
            await run.end()
            state = (await house.http.get(f"/runs/{run.given.run_id}")).json()["state"]
            assert state == "success"

    visit(scene)


def test_who_only_joined_a_run_does_not_end_it_by_leaving() -> None:
    async def scene(house: House) -> None:
        thread, more = new_thread(), {"on_disconnect": "cancel", "headers": {"idempotency-key": "k"}}
        first = ask(house, on(thread, "/stream"), **more)
        run = await house.started()
        second = ask(house, on(thread, "/stream"), **more)
        async with house.http.stream(
            "POST",
            on(thread, "/stream"),
            json={**STARTS, "input": HI, "on_disconnect": "cancel"},
            headers=more["headers"],
        ) as answer:
            assert answer.headers["x-run-id"] == run.given.run_id
        await run.say("both")
        await run.end()
        assert (await first).content == (await second).content

    visit(scene)


def test_an_answer_reaches_the_agent_and_goes_on_from_where_it_asked() -> None:
    async def scene(house: House) -> None:
        thread = await paused(house)
        asked = house.ask(on(thread, "/wait"), assistant_id="script", command={"resume": {"fine": True}})
        run = await house.started()
        assert run.given.answer is not None
        assert {id: bytes(value) for id, value in run.given.answer.interrupts.items()} == {"q": b'{"fine":true}'}
        assert [message.text for message in run.given.messages] == ["Hi", "Sure?"]
        await run.say("Done")
        await run.end()
        assert said((await asked).json()) == ["Hi", "Sure?", "Done"]
        late = await house.ask(on(thread, "/wait"), assistant_id="script", command={"resume": 1})
        assert (late.status_code, late.json()) == (409, {"detail": "This thread does not wait for an answer."})

    visit(scene)


def test_several_questions_are_answered_by_their_ids() -> None:
    async def scene(house: House) -> None:
        thread = await paused(house, "a", "b")
        vague = await house.ask(on(thread), assistant_id="script", command={"resume": "yes"})
        assert vague.status_code == 422
        assert "`a`, `b`" in vague.json()["detail"]
        await house.ask(on(thread), assistant_id="script", command={"resume": {"a": 1, "b": "x"}})
        run = await house.started()
        assert run.given.answer is not None
        assert {id: bytes(value) for id, value in run.given.answer.interrupts.items()} == {"a": b"1", "b": b'"x"'}
        await run.end()

    visit(scene)


def test_unknown_ids_of_every_kind_are_404_and_never_500() -> None:
    async def scene(house: House) -> None:
        for path in (on(new_thread()), "/runs", "/runs/stream", "/runs/wait"):
            answer = await house.ask(path, **{**STARTS, "assistant_id": new_id()})
            assert answer.status_code == 404, path

    visit(scene)

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import httpx2
import msgspec
import pytest

from proxy.errors import RateLimited
from proxy.events import Completed, Failed, Interrupt, Paused, Usage
from proxy.settings import Agent
from tests.api.scripted import OTHER, SCRIPT, House, visit
from tests.wire.entries import raw

PATH = "/completion"


def events(body: bytes) -> list[Any]:
    return [msgspec.json.decode(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: ")]


def is_complaint(answer: httpx2.Response, status: int, error: str) -> bool:
    body = answer.json()
    datetime.fromisoformat(body["timestamp"])
    return (answer.status_code, body["error"], set(body)) == (status, error, {"error", "detail", "timestamp"})


def test_a_message_gets_an_answer_and_a_conversation() -> None:
    async def scene(house: House) -> None:
        asked = house.ask(PATH, message="Hi", temperature=0.5, max_tokens=9, project_id="p", sources=["a", 1])
        run = await house.started()
        assert [(m.role, m.content) for m in run.given.messages] == [("user", "Hi")]
        assert {name: bytes(value) for name, value in run.given.params.items()} == {
            "temperature": b"0.5",
            "max_tokens": b"9",
        }
        assert run.given.metadata == {"project_id": "p", "sources": '["a",1]'}
        assert run.given.context == {"project_id": "p", "sources": ["a", 1]}
        assert not run.given.temporary
        await run.say("Hello", Usage(input_tokens=3, output_tokens=2))
        await run.end()
        answer = await asked
        conversation = answer.json()["conversation_id"]
        assert str(uuid.UUID(conversation)) == conversation == run.given.thread_id == answer.headers["x-thread-id"]
        assert answer.json() == {
            "content": "Hello",
            "conversation_id": conversation,
            "metadata": {
                "run_id": run.given.run_id,
                "agent": "script",
                "finish_reason": "stop",
                "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
            },
        }
        assert answer.headers["x-run-id"] == run.given.run_id

    visit(scene)


def test_a_conversation_goes_on_from_what_the_agent_remembers() -> None:
    async def scene(house: House) -> None:
        for message in ("one", "two"):
            asked = house.ask(PATH, message=message, conversation_id="c-1", conversation_history=[])
            run = await house.started()
            assert (run.given.thread_id, run.given.fresh, run.given.text) == ("c-1", False, message)
            await run.end()
            assert (await asked).json()["conversation_id"] == "c-1"

    visit(scene)


def test_a_history_is_the_whole_input() -> None:
    async def scene(house: House) -> None:
        history = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
        asked = house.ask(PATH, message="3", conversation_history=history)
        run = await house.started()
        assert [(m.role, m.text) for m in run.given.messages] == [("user", "1"), ("assistant", "2"), ("user", "3")]
        assert run.given.fresh
        await run.end()
        await asked

    visit(scene)


def test_the_next_message_answers_a_question() -> None:
    async def scene(house: House) -> None:
        asked = house.ask(PATH, message="Send it")
        run = await house.started()
        await run.end(Paused(interrupts=(Interrupt(id="i", value=raw("Really?")),)))
        first = (await asked).json()
        assert (first["content"], first["metadata"]["finish_reason"]) == ("Really?", "interrupt")
        asked = house.ask(PATH, message="yes", conversation_id=first["conversation_id"])
        run = await house.started()
        assert run.given.answer
        assert run.given.answer.text == "yes"
        await run.end()
        assert (await asked).status_code == 200

    visit(scene)


def test_a_stream_names_the_conversation_first_and_is_done_last() -> None:
    async def scene(house: House) -> None:
        asked = house.ask(PATH, message="Hi", stream=True, conversation_id="c-1")
        run = await house.started()
        await run.say("Hel", "lo")
        await run.end()
        answer = await asked
        assert answer.headers["content-type"].startswith("text/event-stream")
        first, *middle, last = events(answer.content)
        assert (first["conversation_id"], first["metadata"]["run_id"]) == ("c-1", run.given.run_id)
        assert [event["content"] for event in middle] == ["Hel", "lo"]
        assert [event["done"] for event in (first, *middle, last)] == [False, False, False, True]

    visit(scene)


@pytest.mark.parametrize(
    ("fields", "agent"),
    [
        ({}, "script"),
        ({"agent": "second"}, "second"),
        ({"model": "second"}, "second"),
        ({"agent": "second", "model": "second"}, "second"),
    ],
)
def test_agent_or_model_names_who_answers_else_the_first_does(fields: dict[str, str], agent: str) -> None:
    async def scene(house: House) -> None:
        asked = house.ask(PATH, message="Hi", **fields)
        run = await house.started(agent)
        await run.end()
        assert (await asked).json()["metadata"]["agent"] == agent

    visit(scene, {"script": SCRIPT, "second": SCRIPT})


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"message": ""}, 400, "invalid_request"),
        ({"message": None}, 400, "invalid_request"),
        ({"message": "x", "agent": "nobody"}, 404, "model_not_found"),
        ({"message": "x", "agent": "script", "model": "gpt"}, 400, "invalid_request"),
        ({"message": "x", "stream": "yes"}, 400, "invalid_request"),
        ({"message": "x", "conversation_history": [{"role": "king", "content": "x"}]}, 400, "invalid_request"),
        ({"message": "x", "conversation_id": "a b"}, 400, "invalid_request"),
        ({"message": "x", "agent": "whole", "stream": True}, 400, "invalid_request"),
        ({"message": "x", "headers": {"authorization": "Bearer wrong"}}, 401, "invalid_api_key"),
    ],
)
def test_a_bad_request_is_refused_in_this_form(fields: dict[str, Any], status: int, error: str) -> None:
    async def scene(house: House) -> None:
        assert is_complaint(await house.ask(PATH, **fields), status, error)

    visit(scene, {"script": SCRIPT, "whole": Agent(adapter="proxy.testing:Script", streaming=False)})


def test_nulls_and_unknown_fields_are_fine() -> None:
    async def scene(house: House) -> None:
        nothing = dict.fromkeys(("agent", "model", "stream", "temperature", "max_tokens", "conversation_history"))
        rest = dict.fromkeys(("conversation_id", "project_id", "sources", "whatever"))
        asked = house.ask(PATH, message="Hi", **nothing, **rest)
        await (await house.started()).end()
        assert (await asked).status_code == 200

    visit(scene)


def test_another_method_is_refused_in_this_form() -> None:
    async def scene(house: House) -> None:
        assert is_complaint(await house.http.get(PATH), 405, "method_not_allowed")

    visit(scene)


@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_before_the_first_word_is_a_status(stream: bool) -> None:
    async def scene(house: House) -> None:
        asked = house.ask(PATH, message="Hi", stream=stream)
        await (await house.started()).fail(RateLimited(retry_after=3))
        answer = await asked
        assert is_complaint(answer, 429, "llm_rate_limit")
        assert answer.headers["retry-after"] == "3"

    visit(scene)


def test_a_failure_after_it_ends_the_stream_with_done() -> None:
    async def scene(house: House) -> None:
        asked = house.ask(PATH, message="Hi", stream=True)
        run = await house.started()
        await run.say("Half")
        await run.end(Failed(code="llm_error", message="Gone."))
        *_, last = events((await asked).content)
        assert (last["done"], last["error"], last["detail"]) == (True, "llm_error", "Gone.")
        datetime.fromisoformat(last["timestamp"])

    visit(scene)


def test_a_busy_conversation_names_its_run() -> None:
    async def scene(house: House) -> None:
        asked = house.ask(PATH, message="one", conversation_id="c-1")
        run = await house.started()
        refused = await house.ask(PATH, message="two", conversation_id="c-1")
        assert is_complaint(refused, 409, "thread_busy")
        assert refused.headers["x-run-id"] == run.given.run_id
        foreign = house.ask(PATH, message="mine", conversation_id="c-1", headers=OTHER)
        await (await house.started()).end()
        assert (await foreign).status_code == 200
        await run.end(Completed())
        await asked

    visit(scene)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_cancels_its_run(stream: bool) -> None:
    async def scene(house: House) -> None:
        asked = house.ask(PATH, message="Hi", stream=stream)
        run = await house.started()
        await run.say("Half")
        asked.cancel()
        await run.cancelled.wait()
        answer = await house.http.post(f"/runs/{run.given.run_id}/cancel?wait=1")
        assert answer.json()["state"] == "cancelled"

    visit(scene)


def test_a_repeated_request_joins_the_first_run_and_its_conversation() -> None:
    async def scene(house: House) -> None:
        key = {"idempotency-key": "k"}
        first = house.ask(PATH, message="Hi", headers=key)
        run = await house.started()
        second = house.ask(PATH, message="Hi", headers=key)
        await run.say("once")
        await run.end()
        assert (await first).json() == (await second).json()

    visit(scene)

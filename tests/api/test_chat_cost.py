"""What an answer has cost, told in a header and beside its usage, and the same in the record of its run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai import AsyncOpenAI

from proxy.events import Usage
from proxy.settings import Chat, Dialects, Price, Runs, Server
from tests.api.scripted import KEYS, House, visit

TOLD: dict[str, Any] = {
    "dialects": Dialects(chat=Chat(show_cost=True)),
    "runs": Runs(prices={"m": Price(input=1000, output=2000), "other": Price(input=5000)}),
}
HEADER = "x-runwire-cost-cents"


def used(inputs: int, outputs: int = 0, model: str = "m") -> Usage:
    return Usage(model=model, input_tokens=inputs, output_tokens=outputs)


async def record(house: House, run_id: str) -> Any:
    return (await house.http.get(f"/runs/{run_id}")).json()["usage"]


@pytest.mark.parametrize(
    ("usages", "cents"),
    [
        ([used(10, 5)], 2),
        ([used(4)], 0),
        ([used(5)], 1),
        ([used(4), used(4), used(4)], 1),
        ([used(10, 5), used(10, model="other")], 7),
        ([used(1000, model="nameless")], 0),
        ([], 0),
    ],
)
def test_the_cost_is_the_records_in_whole_cents_half_a_cent_up(usages: list[Usage], cents: int) -> None:
    async def scene(house: House) -> None:
        asked = house.ask()
        run = await house.started()
        await run.say("Hello", *usages)
        await run.end()
        answer = await asked
        body = answer.json()
        assert (answer.headers[HEADER], body["cost_cents"]) == (str(cents), cents)
        names = list(body)
        assert names.index("cost_cents") == names.index("usage") + 1
        kept = await record(house, answer.headers["x-run-id"])
        assert kept["cost_cents"] == cents
        assert kept["cost"] == pytest.approx(cents / 100, abs=0.005)

    visit(scene, **TOLD)


def test_nothing_is_told_unless_it_is_asked_for_but_the_record_has_it() -> None:
    async def scene(house: House) -> None:
        asked = house.ask()
        run = await house.started()
        await run.say("Hello", used(100))
        await run.end()
        answer = await asked
        assert HEADER not in answer.headers
        assert "cost_cents" not in answer.json()
        assert (await record(house, answer.headers["x-run-id"]))["cost_cents"] == 10

    visit(scene, runs=TOLD["runs"])


def test_several_answers_cost_what_their_runs_do_together() -> None:
    async def scene(house: House) -> None:
        asked = house.ask(n=2)
        for _ in range(2):
            run = await house.started()
            await run.say("Hello", used(5))
            await run.end()
        answer = await asked
        assert (answer.headers[HEADER], answer.json()["cost_cents"]) == ("2", 2)
        runs = (await house.http.get(f"/runs/{answer.headers['x-run-id']}")).json()["runs"]
        assert [run["usage"]["cost_cents"] for run in runs] == [1, 1]

    visit(scene, **TOLD)


def test_streams_and_failures_are_as_ever() -> None:
    async def scene(house: House) -> None:
        for stream in (True, False):
            asked = house.ask(stream=stream, stream_options={"include_usage": True} if stream else None)
            run = await house.started()
            await run.say("Hello", used(100))
            await (run.end() if stream else run.fail(RuntimeError("no")))
            answer = await asked
            assert answer.status_code == (200 if stream else 500)
            assert HEADER not in answer.headers
            assert "cost" not in answer.text

    visit(scene, **TOLD)


def test_an_answer_whose_headers_have_gone_out_tells_it_in_its_body() -> None:
    async def scene(house: House) -> None:
        asked = house.ask()
        run = await house.started()
        await asyncio.wait_for(run.say("Hello", used(100)), 5)
        await others_signs_of_life(house)
        await run.end()
        answer = await asked
        assert answer.json()["cost_cents"] == 10
        assert HEADER not in answer.headers

    async def others_signs_of_life(house: House) -> None:
        """When an answer that was asked for later has had two of them, the first one has had one."""
        body = {"model": "script", "messages": [{"role": "user", "content": "Hi"}]}
        async with house.http.stream("POST", "/v1/chat/completions", json=body) as other:
            pieces = other.aiter_bytes()
            for _ in range(2):
                await anext(pieces)

    chat = Chat(show_cost=True, keepalive=0.02, keepalive_json=True)
    visit(scene, **{**TOLD, "dialects": Dialects(chat=chat)})


def test_a_browser_may_read_the_header() -> None:
    async def scene(house: House) -> None:
        answer = await house.http.get("/v1/models", headers={"origin": "https://app.example.com"})
        assert HEADER in answer.headers["access-control-expose-headers"]

    visit(scene, server=Server(api_keys=KEYS, drain=0, cors=("*",)))


def test_the_official_client_takes_such_an_answer_at_its_strictest() -> None:
    async def scene(house: House) -> None:
        client = AsyncOpenAI(
            base_url=f"{house.http.base_url}/v1", api_key="sk-a", max_retries=0, _strict_response_validation=True
        )
        messages: Any = [{"role": "user", "content": "Hi"}]
        asked = asyncio.create_task(client.chat.completions.with_raw_response.create(model="script", messages=messages))
        run = await house.started()
        await run.say("Hello", used(10, 5))
        await run.end()
        answer = await asked
        completion = answer.parse()
        assert completion.choices[0].message.content == "Hello"
        assert completion.usage is not None
        assert completion.usage.total_tokens == 15
        assert completion.model_extra == {"cost_cents": 2}
        assert answer.headers[HEADER] == "2"
        await client.close()

    visit(scene, **TOLD)

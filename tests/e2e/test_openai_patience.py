"""When the official Python SDK loses patience: its retries, its timeouts, and how it leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.e2e.house import Server
from tests.e2e.runs import Watch, assert_cancelled, ending
from tests.fakes.faults import limited, refused
from tests.fakes.upstream import Upstream


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def sdk(server: Server, **options: Any) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key="sk-test", **options)


def test_an_early_429_of_a_stream_is_retried_by_the_sdk(server: Server, upstream: Upstream) -> None:
    before = len(upstream.requests)
    upstream.then(limited("1"))
    raw = sdk(server).chat.completions.with_raw_response.create(model="gpt", messages=user("Hello"), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse() if chunk.choices)
    assert raw.retries_taken == 1
    assert len(upstream.requests) - before == 2


def test_a_whole_answer_leaves_the_sdk_nothing_to_retry(server: Server, upstream: Upstream) -> None:
    before = len(upstream.requests)
    upstream.then(refused(503))
    raw = sdk(server).chat.completions.with_raw_response.create(model="gpt", messages=user("Hello"))
    assert raw.retries_taken == 0
    assert len(upstream.requests) - before == 2


def test_what_a_retry_cannot_help_is_not_retried(server: Server, upstream: Upstream) -> None:
    watch, before = Watch(server), len(upstream.requests)
    with pytest.raises(openai.InternalServerError):
        sdk(server).chat.completions.create(model="actor", messages=user("fail"))
    assert len(watch.started) == 1
    upstream.then(refused(401))
    with pytest.raises(openai.APIStatusError) as failed:
        sdk(server).chat.completions.create(model="gpt", messages=user("Hello"))
    assert failed.value.status_code == 502
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert len(upstream.requests) - before == 1


def test_closing_a_stream_cancels_the_run(server: Server) -> None:
    stream = sdk(server).chat.completions.create(model="actor", messages=user("say Hello\nwait"), stream=True)
    run_id = stream.response.headers["x-run-id"]
    assert next(chunk for chunk in stream if chunk.choices[0].delta.content)
    stream.close()
    assert_cancelled(server, run_id)


def test_closing_a_stream_closes_the_upstream_too(server: Server, upstream: Upstream) -> None:
    before = len(upstream.stopped)
    stream = sdk(server).chat.completions.create(model="gpt", messages=user("case=U02"), stream=True)
    assert next(chunk for chunk in stream if chunk.choices[0].delta.content)
    stream.close()
    assert upstream.wait(lambda: len(upstream.stopped) > before)


@pytest.mark.parametrize("stream", [True, False])
def test_cancelling_the_waiting_task_cancels_the_run(server: Server, stream: bool) -> None:
    async def leave() -> str:
        async with AsyncOpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0) as client:
            watch = Watch(server)
            asking = client.chat.completions.create(model="actor", messages=user("wait"), stream=stream)
            task = asyncio.ensure_future(asking)
            run_id = await asyncio.to_thread(watch.next)
            task.cancel()
            await asyncio.wait([task])
            return run_id

    assert_cancelled(server, asyncio.run(leave()))


def test_every_attempt_of_a_client_that_times_out_is_cancelled(server: Server) -> None:
    watch = Watch(server)
    with pytest.raises(openai.APITimeoutError):
        sdk(server, timeout=0.3, max_retries=1).chat.completions.create(model="actor", messages=user("wait"))
    assert len(watch.started) == 2
    for run_id in watch.started:
        assert_cancelled(server, run_id)


def test_keepalives_hold_a_silent_stream_open(server: Server) -> None:
    patience = httpx.Timeout(10, read=2.2)
    client = sdk(server, timeout=patience, max_retries=0)
    stream = client.chat.completions.create(
        model="actor", messages=user("pause 3\nsay Hello"), stream=True, extra_body={"runwire": {"keepalive": 1}}
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello"


def test_a_run_may_outlive_its_client(server: Server) -> None:
    stream = sdk(server).chat.completions.create(
        model="actor",
        messages=user("say Hel\npause 0.3\nsay lo"),
        stream=True,
        extra_body={"runwire": {"background": True}},
    )
    run_id = stream.response.headers["x-run-id"]
    stream.close()
    assert ending(server, run_id)["type"] == "completed"


def test_a_cancelled_run_ends_its_stream_properly(server: Server) -> None:
    stream = sdk(server).chat.completions.create(
        model="actor", messages=user("usage 3 2\nsay Hello\nwait"), stream=True, stream_options={"include_usage": True}
    )
    run_id = stream.response.headers["x-run-id"]
    chunks: list[Any] = []
    for chunk in stream:
        chunks.append(chunk)
        if chunk.choices and chunk.choices[0].delta.content:
            cancelled = httpx.post(f"{server.url}/runs/{run_id}/cancel", headers={"x-api-key": "sk-test"})
            assert cancelled.status_code in (200, 202)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens == 5
    assert_cancelled(server, run_id)

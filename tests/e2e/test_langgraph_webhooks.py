"""Webhooks of runs that the official Python client makes, to a receiver on a real socket."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.errors import UnprocessableEntityError

from tests.e2e.house import Server, serving
from tests.e2e.test_langgraph_crons import HELLO, calls, client_of, config
from tests.fakes.receiver import Receiver, hangs, receiving, says


def test_r13_a_run_calls_when_it_has_ended_signed_and_with_its_values(tmp_path: Path) -> None:
    async def scene() -> None:
        async with receiving(says(500)) as receiver:
            with serving(tmp_path, config(receiver.port)) as server:
                async with client_of(server) as client:
                    thread = (await client.threads.create())["thread_id"]
                    values: Any = await client.runs.wait(thread, "agent", input=HELLO, webhook=hook(receiver))
                    refused, taken = await calls(receiver, 2)
                    run: Any = (await client.runs.list(thread))[0]
                log = server.log
        told = json.loads(taken.body)
        assert told["run_id"] == run["run_id"] == taken.headers["x-run-id"]
        assert told["kwargs"].pop("webhook") == hook(receiver)
        run["kwargs"].pop("webhook")
        assert {**told, "error": None, **run} == {**told, "error": None}
        assert told["values"] == values
        assert "error" not in told
        assert told["run_started_at"] <= told["run_ended_at"] <= told["webhook_sent_at"]
        assert refused.headers["x-runwire-delivery"] == taken.headers["x-runwire-delivery"]
        assert [call.headers["x-runwire-attempt"] for call in (refused, taken)] == ["1", "2"]
        signed = taken.headers["x-runwire-timestamp"].encode() + b"." + taken.body
        digest = hmac.new(b"whsec", signed, hashlib.sha256).hexdigest()
        assert taken.headers["x-runwire-signature"] == f"sha256={digest}"
        assert "whsec" not in log
        assert "secret-token" not in log

    asyncio.run(scene())


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            with serving(tmp_path, config(receiver.port)) as server:
                async with client_of(server) as client:
                    fails = {"messages": [{"role": "user", "content": "fail"}]}
                    with pytest.raises(Exception, match="secret"):
                        await client.runs.wait(None, "actor", input=fails, webhook=hook(receiver))
                    [call] = await calls(receiver, 1)
        told = json.loads(call.body)
        assert told["status"] == "error"
        assert (told["error"]["error"], told["error"]["message"]) == ("ValueError", "the agent's secret")

    asyncio.run(scene())


def test_r13_a_receiver_that_hangs_holds_no_run_up_and_is_told_after_a_crash(tmp_path: Path) -> None:
    async def scene() -> None:
        async with receiving(hangs) as receiver:
            with serving(tmp_path, config(receiver.port)) as server:
                async with client_of(server) as client:
                    thread = (await client.threads.create())["thread_id"]
                    await client.runs.wait(thread, "actor", input=HELLO, webhook=hook(receiver))
                    await calls(receiver, 1)
                    assert [run["status"] for run in await client.runs.list(thread)] == ["success"]
                    await client.runs.wait(thread, "actor", input=HELLO)
                server.process.kill()
                server.process.wait()
            with serving(tmp_path, config(receiver.port)):
                first, again = await calls(receiver, 2)
        assert again.headers["x-runwire-delivery"] == first.headers["x-runwire-delivery"]
        assert json.loads(again.body)["run_id"] == json.loads(first.body)["run_id"]

    asyncio.run(scene())


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that calls nobody."""
    with serving(tmp_path_factory.mktemp("closed"), config(9) | {"webhooks": {}}) as running:
        yield running


def test_without_a_list_of_hosts_a_run_that_asks_for_a_call_is_refused(closed: Server) -> None:
    async def scene() -> None:
        async with client_of(closed) as client:
            for thread in (None, (await client.threads.create())["thread_id"]):
                with pytest.raises(UnprocessableEntityError, match=r"webhooks\.allow"):
                    await client.runs.create(thread, "actor", input=HELLO, webhook="https://hooks.example.com/")

    asyncio.run(scene())


def hook(receiver: Receiver) -> str:
    return f"http://127.0.0.1:{receiver.port}/hook?key=secret-token"

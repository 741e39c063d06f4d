"""The event protocol as LangGraph's official Python client speaks it: `client.threads.stream`, over both transports.

With `PEER=1` in the environment the tests run against the official development server, to see that they are right.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from langgraph_sdk import get_client

from proxy.model import new_id
from tests.e2e.house import serving
from tests.peer.house import Place, config, official, runwire

PATIENCE = 30.0
AT_PEER = bool(os.environ.get("PEER"))
transports = pytest.mark.parametrize("transport", ["sse", "websocket"])
Scene = Callable[[Any], Awaitable[None]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with (official if AT_PEER else runwire)(tmp_path_factory.mktemp("place")) as running:
        yield running


def says(text: str) -> dict[str, Any]:
    return {"messages": [{"type": "human", "content": text}]}


def play(place: Place, scene: Scene, agent: str, transport: Any, thread: str | None = None) -> str:
    """Play a scene on a thread, a new one where none is named; gives the thread's id."""

    async def played() -> str:
        client = get_client(url=place.url, api_key=place.headers.get("x-api-key"))
        stream = client.threads.stream(thread, assistant_id=agent, transport=transport, headers=place.headers)
        async with stream as talk, asyncio.timeout(PATIENCE):
            await scene(talk)
        return str(stream.thread_id)

    return asyncio.run(played())


def words(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


async def asked(talk: Any) -> None:
    """Wait until the thread waits for an answer."""
    while not talk.interrupts:
        await asyncio.sleep(0.01)


@transports
def test_messages_stream_and_the_state_follows(place: Place, transport: str) -> None:
    async def scene(talk: Any) -> None:
        await talk.run.start(input=says("Hello big world"))
        [message] = [message async for message in talk.messages]
        assert await message.text == "Hello big world "
        state = await talk.output
        assert [words(one) for one in state["messages"]] == ["Hello big world", "Hello big world "]
        assert state["messages"][1]["id"] == message.message_id

    play(place, scene, "chat", transport)


@transports
def test_a_later_run_is_heard_without_the_earlier_one(place: Place, transport: str) -> None:
    async def first(talk: Any) -> None:
        await talk.run.start(input=says("one"))
        await talk.output

    async def second(talk: Any) -> None:
        await talk.run.start(input=says("two"))
        assert [await message.text for message in [one async for one in talk.messages]] == ["two "]
        state = await talk.output
        assert [words(one) for one in state["messages"]] == ["one", "one ", "two", "two "]

    if AT_PEER:
        pytest.skip("the official server tells of the earlier run as well, at whose end its client stops listening")
    play(place, second, "chat", transport, play(place, first, "chat", transport))


@transports
def test_values_come_step_by_step(place: Place, transport: str) -> None:
    async def scene(talk: Any) -> None:
        await talk.run.start(input={"n": 0, "log": []})
        states = [state async for state in talk.values]
        assert states[-1] == {"n": 2, "log": ["a0", "b1"]}

    play(place, scene, "count", transport)


@transports
def test_a_question_is_answered(place: Place, transport: str) -> None:
    async def scene(talk: Any) -> None:
        await talk.run.start(input=says("plan"))
        await asked(talk)
        [question] = talk.interrupts
        if not AT_PEER:
            assert question["value"] == {"question": "ok?"}
        await talk.run.respond("yes")
        state = await talk.output
        assert words(state["messages"][-1]) == "verdict: yes"

    play(place, scene, "review", transport)


@transports
def test_a_failure_is_raised(place: Place, transport: str) -> None:
    async def scene(talk: Any) -> None:
        await talk.run.start(input={"n": 0, "log": []})
        with pytest.raises(RuntimeError, match="boom: x"):
            await talk.output

    play(place, scene, "breaks", transport)


@pytest.mark.skipif(AT_PEER, reason="it does not always tell of them")
@transports
def test_graphs_within_a_graph_are_found(place: Place, transport: str) -> None:
    async def scene(talk: Any) -> None:
        await talk.run.start(input=says("Hello"))
        found = anext(aiter(talk.subgraphs))
        graph = await found
        assert graph.graph_name == "inner"

    play(place, scene, "nested", transport)


@pytest.mark.skipif(AT_PEER, reason="it begins to count anew")
def test_numbers_outlast_the_server(tmp_path: Path) -> None:
    thread = new_id()

    def heard(url: str) -> list[Any]:
        body = {"channels": ["lifecycle", "messages", "values"]}
        with httpx2.stream("POST", f"{url}/threads/{thread}/stream/events", json=body, timeout=PATIENCE) as answer:
            events = []
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line[6:]))
                    if events[-1]["params"]["data"].get("event") == "completed":
                        return events
        raise AssertionError("the stream ended")

    with serving(tmp_path, config(), {"GATES": str(tmp_path)}) as server:
        params = {"assistant_id": "chat", "input": says("one two")}
        command = {"id": 1, "method": "run.start", "params": params}
        httpx2.post(f"{server.url}/threads/{thread}/commands", json=command, timeout=PATIENCE).raise_for_status()
        before = heard(server.url)
        server.stop(signal.SIGTERM)
    with serving(tmp_path, config(), {"GATES": str(tmp_path)}) as server:
        assert heard(server.url) == before

"""Runs made by the official Python client, as it makes them on the official server: a graph's and a plain agent's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from httpx import HTTPStatusError
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from tests.e2e.house import HERE, Server, serving

GRAPHS = HERE.parent / "adapters" / "native_graphs.py"
AGENTS: dict[str, Any] = {
    name: {"adapter": "langgraph", "options": {"graph": f"{GRAPHS}:{name}"}}
    for name in ("agent", "asks", "halts", "nested", "breaks")
}
AGENTS["actor"] = {"adapter": "plain", "options": {"function": f"{HERE / 'agents.py'}:actor"}}
CONFIG: dict[str, Any] = {"store": "sqlite:///runs.db", "server": {"api_keys": ["sk-test"]}, "agents": AGENTS}
HI = {"messages": [{"role": "user", "content": "Hi"}]}
REVIEW = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

class State(TypedDict):
    text: str

async def {node}(state: State):
    return {{"text": interrupt("ok?")}}

graph = StateGraph(State).add_node("{node}", {node}).add_edge(START, "{node}").compile()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("runs"), CONFIG) as running:
        yield running


def use(server: Server, scene: Callable[[LangGraphClient], Awaitable[None]]) -> None:
    async def act() -> None:
        async with get_client(url=server.url, headers={"authorization": "Bearer sk-test"}) as client:
            await asyncio.wait_for(scene(client), 60)

    asyncio.run(act())


def tell(*orders: str) -> dict[str, Any]:
    """The input that makes the actor do this."""
    return {"messages": [{"role": "user", "content": "\n".join(orders)}]}


def said(values: Any) -> list[str]:
    return [message["content"] for message in values["messages"]]


async def new_thread(client: LangGraphClient) -> str:
    return (await client.threads.create())["thread_id"]


async def streamed(client: LangGraphClient, thread: str | None, agent: str, **asked: Any) -> list[Any]:
    return [part async for part in client.runs.stream(thread, agent, **asked)]


async def begun(client: LangGraphClient, thread: str, run_id: str) -> None:
    """Returns once the run has said something."""
    async for part in client.runs.join_stream(thread, run_id, stream_mode="messages-tuple", last_event_id="0"):
        if part.event == "messages":
            return


def test_a_graph_streams_in_several_modes(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        created: list[Any] = []
        thread = await new_thread(client)
        parts = await streamed(
            client,
            thread,
            "agent",
            input=HI,
            stream_mode=["values", "updates", "messages-tuple"],
            on_run_created=created.append,
        )
        assert parts[0].event == "metadata"
        assert created == [{"run_id": parts[0].data["run_id"], "thread_id": thread}]
        assert {part.event for part in parts} == {"metadata", "values", "updates", "messages"}
        nodes = [next(iter(part.data)) for part in parts if part.event == "updates"]
        assert nodes == ["plan", "tools", "talk"]
        about = next(part.data[1] for part in parts if part.event == "messages")
        assert (about["thread_id"], about["graph_id"], about["langgraph_node"]) == (thread, "agent", "plan")
        assert said(parts[-1].data) == ["Hi", "Hm ", "3", "three"]
        run = await client.runs.get(thread, parts[0].data["run_id"])
        assert (run["status"], run["assistant_id"]) == ("success", about["assistant_id"])
        record = await client.threads.get(thread)
        assert (record["status"], said(record["values"])) == ("idle", ["Hi", "Hm ", "3", "three"])
        assert record["metadata"] == {"graph_id": "agent", "assistant_id": run["assistant_id"]}

    use(server, scene)


def test_a_plain_agent_streams_in_several_modes(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await new_thread(client)
        modes: Any = ["values", "updates", "messages-tuple"]
        for before in ([], ["say Hello there", "Hellothere"]):
            parts = await streamed(client, thread, "actor", input=tell("say Hello there"), stream_mode=modes)
            assert parts[0].event == "metadata"
            tokens = [part.data[0]["content"] for part in parts if part.event == "messages"]
            assert "".join(tokens) == "Hellothere"
            assert [list(part.data) for part in parts if part.event == "updates"] == [["actor"]]
            assert said(parts[-1].data) == [*before, "say Hello there", "Hellothere"]
        state = await client.threads.get_state(thread)
        assert said(state["values"]) == said(parts[-1].data)

    use(server, scene)


def test_subgraphs_stream_under_their_names(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        parts = await streamed(
            client, await new_thread(client), "nested", input=HI, stream_mode="updates", stream_subgraphs=True
        )
        inner = [part.event for part in parts if part.event.startswith("updates|")]
        assert any(name.startswith("updates|inner:") for name in inner)

    use(server, scene)


@pytest.mark.parametrize(("agent", "asked"), [("agent", HI), ("actor", tell("say three"))])
def test_the_values_are_waited_for_with_and_without_a_thread(server: Server, agent: str, asked: Any) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await new_thread(client)
        values: Any = await client.runs.wait(thread, agent, input=asked)
        assert said(values)[-1] == "three"
        assert said(await client.runs.wait(thread, agent, input=asked))[: len(said(values))] == said(values)
        alone: Any = await client.runs.wait(None, agent, input=asked)
        assert said(alone) == said(values)

    use(server, scene)


def test_a_failure_is_raised_by_who_waits_and_shown_to_who_streams(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        with pytest.raises(Exception, match="ValueError: boom: x"):
            await client.runs.wait(None, "breaks", input={"n": 1})
        told: Any = await client.runs.wait(None, "breaks", input={"n": 1}, raise_error=False)
        assert told == {"__error__": {"error": "ValueError", "message": "boom: x"}}
        thread = await new_thread(client)
        *_, last = await streamed(client, thread, "breaks", input={"n": 1})
        assert (last.event, last.data) == ("error", {"error": "ValueError", "message": "boom: x"})
        assert (await client.threads.get(thread))["status"] == "error"

    use(server, scene)


def test_a_run_in_the_background_can_be_joined(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await new_thread(client)
        run = await client.runs.create(thread, "agent", input=HI, metadata={"k": "v"})
        assert (run["thread_id"], run["metadata"]["k"]) == (thread, "v")
        assert said(await client.runs.join(thread, run["run_id"]))[-1] == "three"
        alone = await client.runs.create(None, "actor", input=tell("say Hello"))
        assert alone["thread_id"] != thread

    use(server, scene)


def test_runs_without_a_thread_stream_and_come_in_batches(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        parts = await streamed(client, None, "agent", input=HI)
        assert said(parts[-1].data)[-1] == "three"
        payloads: Any = [{"assistant_id": "agent", "input": HI}, {"assistant_id": "actor", "input": tell("say Hello")}]
        runs: Any = await client.runs.create_batch(payloads)
        assert [run["metadata"]["graph_id"] for run in runs] == ["agent", "actor"]
        assert len({run["thread_id"] for run in runs}) == 2

    use(server, scene)


def test_r04_one_key_fifty_times_at_once_is_one_run(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread, key = await new_thread(client), {"Idempotency-Key": str(uuid4())}
        runs = await asyncio.gather(
            *(client.runs.create(thread, "actor", input=tell("say Hello"), headers=key) for _ in range(50))
        )
        assert len({run["run_id"] for run in runs}) == 1
        assert len(await client.runs.list(thread, limit=100)) == 1
        with pytest.raises(ConflictError):
            await client.runs.create(thread, "actor", input=tell("say else"), headers=key)
        values: Any = await client.runs.join(thread, runs[0]["run_id"])
        assert said(values) == ["say Hello", "Hello"]

    use(server, scene)


@pytest.mark.parametrize("way", ["create", "stream", "wait"])
def test_a_busy_thread_refuses_where_that_is_asked_for(server: Server, way: str) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await new_thread(client)
        first = await client.runs.create(thread, "actor", input=tell("say a", "wait"))
        asked: dict[str, Any] = {"input": tell("say b"), "multitask_strategy": "reject"}
        ask = partial(streamed, client) if way == "stream" else getattr(client.runs, way)
        with pytest.raises(HTTPStatusError) as refused:
            await ask(thread, "actor", **asked)
        assert refused.value.response.status_code == 409
        assert refused.value.response.headers["x-run-id"] == first["run_id"]
        await client.runs.cancel(thread, first["run_id"], wait=True)

    use(server, scene)


def test_runs_queue_in_their_order(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread, gate = await new_thread(client), str(uuid4())
        first = await client.runs.create(thread, "actor", input=tell(f"gate {gate}", "say one"))
        rest = [await client.runs.create(thread, "actor", input=tell(f"say {n}")) for n in ("two", "three")]
        assert [run["status"] for run in (first, *rest)] == ["running", "pending", "pending"]
        await client.runs.wait(None, "actor", input=tell(f"open {gate}"))
        values: Any = await client.runs.join(thread, rest[-1]["run_id"])
        assert said(values)[1::2] == ["one", "two", "three"]

    use(server, scene)


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
def test_a_new_run_pushes_the_old_one_aside(server: Server, strategy: Any) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await new_thread(client)
        old = await client.runs.create(thread, "actor", input=tell("say half", "wait"))
        await begun(client, thread, old["run_id"])
        values: Any = await client.runs.wait(thread, "actor", input=tell("say new"), multitask_strategy=strategy)
        kept = ["say half\nwait"] if strategy == "interrupt" else []
        assert said(values) == [*kept, "say new", "new"]
        if strategy == "interrupt":
            assert (await client.runs.get(thread, old["run_id"]))["status"] == "interrupted"
        else:
            with pytest.raises(NotFoundError):
                await client.runs.get(thread, old["run_id"])

    use(server, scene)


def test_a_delayed_run_waits_for_its_time_and_nobody_waits_for_it(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await new_thread(client)
        late = await client.runs.create(thread, "actor", input=tell("say late"), after_seconds=3600)
        assert late["status"] == "pending"
        values: Any = await client.runs.wait(thread, "actor", input=tell("say now"))
        assert said(values) == ["say now", "now"]
        assert (await client.runs.get(thread, late["run_id"]))["status"] == "pending"
        await client.runs.cancel(thread, late["run_id"])
        soon: Any = await client.runs.wait(thread, "actor", input=tell("say soon"), after_seconds=1)
        assert said(soon)[-1] == "soon"

    use(server, scene)


def test_a_question_is_asked_and_answered(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await new_thread(client)
        asked: Any = await client.runs.wait(thread, "asks", input={"draft": "a"})
        assert asked["__interrupt__"][0]["value"] == {"question": "ok?", "draft": "a!"}
        record = await client.threads.get(thread)
        assert record["status"] == "interrupted"
        parts = await streamed(client, thread, "asks", command={"resume": "fine"}, stream_mode=["updates", "values"])
        assert parts[-1].data == {"draft": "a!", "verdict": "fine"}
        record = await client.threads.get(thread)
        assert (record["status"], record["interrupts"]) == ("idle", {})

    use(server, scene)


def test_a_graph_stops_where_it_is_told_to_and_goes_on(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await new_thread(client)
        stopped = await client.runs.wait(thread, "halts", input={"n": 1, "log": []}, interrupt_before=["b"])
        assert stopped == {"n": 2, "log": ["a1"], "__interrupt__": []} or stopped == {"n": 2, "log": ["a1"]}
        assert (await client.threads.get_state(thread))["next"] == ["b"]
        assert await client.runs.wait(thread, "halts", input=None) == {"n": 3, "log": ["a1", "b2"]}

    use(server, scene)


def test_a_run_may_start_from_an_older_checkpoint(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        for agent, asked in (("agent", HI), ("actor", tell("say three"))):
            thread = await new_thread(client)
            await client.runs.wait(thread, agent, input=asked)
            first = await client.threads.get_state(thread)
            await client.runs.wait(thread, agent, input=asked)
            branch = await client.runs.wait(
                thread, agent, input=asked, checkpoint_id=first["checkpoint"]["checkpoint_id"]
            )
            assert len(said(branch)) == 2 * len(said(first["values"]))

    use(server, scene)


def test_leaving_a_stream_cancels_its_run_where_that_is_asked_for(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        thread = await new_thread(client)
        asked = tell("say a", "wait")
        run_id = ""
        async for part in client.runs.stream(
            thread, "actor", input=asked, stream_mode="messages-tuple", on_disconnect="cancel"
        ):
            if part.event == "metadata":
                run_id = part.data["run_id"]
            else:
                break
        await client.runs.join(thread, run_id)
        assert (await client.runs.get(thread, run_id))["status"] == "interrupted"

    use(server, scene)


def test_what_an_agent_cannot_do_is_told_by_name(server: Server) -> None:
    async def scene(client: LangGraphClient) -> None:
        with pytest.raises(UnprocessableEntityError, match=r"`stream_mode`.*`actor`"):
            await streamed(client, None, "actor", input=tell("say a"), stream_mode="debug")
        with pytest.raises(NotFoundError):
            await client.runs.create(str(uuid4()), "actor", input=tell("say a"))
        await client.runs.wait(str(uuid4()), "actor", input=tell("say a"), if_not_exists="create")

    use(server, scene)


def test_an_answer_that_no_node_is_left_for_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "review.py"
    config = {**CONFIG, "agents": {"review": {"adapter": "langgraph", "options": {"graph": f"{file}:graph"}}}}
    thread = str(uuid4())

    async def ask(client: LangGraphClient) -> None:
        told: Any = await client.runs.wait(thread, "review", input={"text": ""}, if_not_exists="create")
        assert told["__interrupt__"][0]["value"] == "ok?"

    async def answer(client: LangGraphClient) -> None:
        with pytest.raises(ConflictError, match="`old`"):
            await streamed(client, thread, "review", command={"resume": "yes"})
        assert (await client.threads.get(thread))["status"] == "interrupted"

    for node, scene in (("old", ask), ("new", answer)):
        file.write_text(REVIEW.format(node=node))
        with serving(tmp_path, config) as running:
            use(running, scene)
            running.stop()

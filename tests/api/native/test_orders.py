"""What a run request asks for reaches the agent, or is refused with its name."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from proxy.adapter import RunInput
from proxy.model import new_id
from proxy.settings import Agent, Dialects, NativeDialect, Server, Webhooks
from tests.api.native.wire import MOUNTS, STARTS, new_thread, on
from tests.api.scripted import SCRIPT, House, visit

HI = {"messages": [{"role": "user", "content": "Hi"}]}
GRAPHS = "tests.adapters.native_graphs"
AGENTS = {"script": SCRIPT, "asks": Agent(adapter="langgraph", options={"graph": f"{GRAPHS}:asks"})}


async def given(house: House, path: str = "/runs", **fields: Any) -> RunInput:
    """What the agent is given for such a request."""
    answer = await house.ask(path, **{**STARTS, "input": HI, **fields})
    assert answer.status_code == 200, answer.text
    run = await house.started()
    await run.end()
    return run.given


async def refusal(house: House, path: str = "/runs", **fields: Any) -> tuple[int, str]:
    answer = await house.ask(path, **{**STARTS, **fields})
    assert list(answer.json()) == ["detail"]
    return answer.status_code, answer.json()["detail"]


def test_the_fields_of_a_request_reach_the_agent() -> None:
    async def scene(house: House) -> None:
        got = await given(
            house,
            metadata={"k": "v", "n": 1},
            config={"tags": ["t"], "recursion_limit": 7, "configurable": {"tone": "warm"}, "metadata": {"c": True}},
            durability="sync",
            stream_subgraphs=True,
        )
        native = got.native
        assert native is not None
        assert (got.max_steps, got.context, got.metadata) == (7, {"tone": "warm"}, {"k": "v", "n": "1"})
        assert (native.tags, native.durability, native.subgraphs) == (("t",), "sync", True)
        about = {"created_by": "system", "graph_id": "script", "k": "v", "n": 1, "c": True, "run_attempt": 1}
        assert {**about, "assistant_id": native.configurable["assistant_id"]} == native.metadata
        assert native.configurable["tone"] == "warm"

    visit(scene)


@pytest.mark.parametrize(("asked", "got"), [(True, "async"), (False, "exit"), (None, None)])
def test_the_older_word_for_durability_is_understood(asked: bool | None, got: str | None) -> None:
    async def scene(house: House) -> None:
        native = (await given(house, checkpoint_during=asked)).native
        assert native is not None
        assert native.durability == got

    visit(scene)


def test_context_and_configurable_are_the_same_thing() -> None:
    async def scene(house: House) -> None:
        for fields in ({"context": {"a": 1}}, {"config": {"configurable": {"a": 1}}}):
            got = await given(house, **fields)
            assert got.native is not None
            assert (got.context, got.native.configurable["a"]) == ({"a": 1}, 1)
        status, detail = await refusal(house, context={"a": 1}, config={"configurable": {"b": 2}})
        assert (status, "`context` and `config.configurable`" in detail) == (400, True)
        both = await given(house, context={"a": 1}, config={"configurable": {"thread_id": new_thread()}})
        assert both.context == {"a": 1}

    visit(scene)


def test_an_assistant_gives_what_the_request_does_not() -> None:
    async def scene(house: House) -> None:
        made = await house.http.post(
            "/assistants",
            json={
                "graph_id": "script",
                "config": {"recursion_limit": 9, "tags": ["own"]},
                "context": {"tone": "warm", "length": "short"},
                "metadata": {"team": "x", "k": "assistant"},
            },
        )
        name = made.json()["assistant_id"]
        got = await given(house, assistant_id=name, context={"length": "long"}, metadata={"k": "run"})
        assert got.native is not None
        assert (got.agent, got.context, got.max_steps) == ("script", {"tone": "warm", "length": "long"}, 9)
        assert got.native.tags == ("own",)
        told = {key: got.native.metadata[key] for key in ("team", "k", "assistant_id")}
        assert told == {"team": "x", "k": "run", "assistant_id": name}

    visit(scene)


def test_a06_the_path_wins_over_what_the_body_says_of_the_thread() -> None:
    async def scene(house: House) -> None:
        thread, other = new_thread(), new_thread()
        place = {"checkpoint_id": new_id(), "thread_id": other}
        body = {"config": {"configurable": {"thread_id": other}}, "checkpoint": place}
        answer = await house.ask(on(thread), **STARTS, input=HI, **body)
        assert answer.json()["thread_id"] == thread
        assert (await house.http.get(f"/threads/{other}")).status_code == 404

    visit(scene)


def test_a10_reserved_keys_are_dropped_and_nobody_passes_for_another_user() -> None:
    async def scene(house: House) -> None:
        keys = {
            "__pregel_checkpointer": "x",
            "checkpoint_id": "x",
            "checkpoint_ns": "x",
            "run_id": "x",
            "graph_id": "x",
            "assistant_id": "x",
            "langgraph_auth_user": {"identity": "root"},
            "user_id": "root",
            "free": 1,
        }
        headers = {"x-user-id": "ann"}
        for fields in ({"config": {"configurable": keys}}, {"context": keys}):
            got = await given(house, headers=headers, **fields)
            assert got.native is not None
            own = got.native.configurable
            assert {key: own[key] for key in ("graph_id", "user_id", "free")} == {
                "graph_id": "script",
                "user_id": "ann",
                "free": 1,
            }
            assert own.keys() == {"graph_id", "assistant_id", "user_id", "free"}
            assert own["assistant_id"] != "x"
            assert got.user == "ann"

    visit(scene, server=Server(drain=0))


def test_only_headers_that_the_config_names_reach_the_agent() -> None:
    async def scene(house: House) -> None:
        got = await given(house, headers={"X-Trace": "t", "X-Other": "o"})
        assert got.headers == {"x-trace": "t"}

    visit(scene, dialects=Dialects(langgraph=NativeDialect(forward_headers=("X-Trace",))))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream_mode", "events"),
        ("stream_mode", ["values", "debug"]),
        ("stream_mode", "tasks"),
        ("stream_mode", "checkpoints"),
        ("interrupt_before", ["x"]),
        ("interrupt_after", "*"),
        ("command.goto", "x"),
        ("checkpoint.checkpoint_ns", "a:b"),
        ("input.topic", "x"),
        ("command.update.topic", "x"),
        ("input", 7),
        ("input.messages", {}),
    ],
)
def test_what_an_agent_cannot_honour_is_refused_by_name(field: str, value: Any) -> None:
    async def scene(house: House) -> None:
        body: Any = value
        for name in reversed(field.split(".")):
            body = {name: body}
        status, detail = await refusal(house, **body)
        assert (status, f"`{field.removesuffix('.messages')}`" in detail, "`script`" in detail) == (422, True, True)

    visit(scene)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interrupt_before", ["draft_it", "draftt"]),
        ("interrupt_after", ["draftt"]),
        ("command.goto", "draftt"),
        ("command.goto", [{"node": "draftt", "input": 1}]),
    ],
)
def test_a_node_that_a_graph_does_not_have_is_refused_with_those_that_it_has(field: str, value: Any) -> None:
    async def scene(house: House) -> None:
        body: Any = value
        for name in reversed(field.split(".")):
            body = {name: body}
        status, detail = await refusal(house, assistant_id="asks", **body)
        assert status == 422
        assert all(word in detail for word in (f"`{field}`", "`draftt`", "`draft_it`, `review`", "`asks`"))
        whole = await house.ask(
            "/runs", assistant_id="asks", input={}, interrupt_before="*", interrupt_after=["review"]
        )
        assert whole.status_code == 200

    visit(scene, AGENTS)


def test_fields_that_nothing_is_done_with_are_refused_unless_they_are_empty() -> None:
    async def scene(house: House) -> None:
        for fields, word in (({"feedback_keys": ["good"]}, "feedback_keys"), ({"webhook": "https://x"}, "webhook")):
            status, detail = await refusal(house, **fields)
            assert (status, word in detail.lower()) == (422, True)
        await given(house, feedback_keys=[], interrupt_before=[], command=None, webhook=None)

    visit(scene)


def test_a_webhook_must_be_on_the_list() -> None:
    async def scene(house: House) -> None:
        for url in ("http://127.0.0.1/", "https://other.example.com/", "/relative"):
            assert (await refusal(house, webhook=url))[0] == 422

    visit(scene, webhooks=Webhooks(allow=("hooks.example.com",)))


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"{", ""),
        (b"", ""),
        (b"[]", ""),
        (b"[" * 5000, "nested"),
        (b'{"input": {}}', "assistant_id"),
        (b'{"assistant_id": "script", "stream_mode": "tools"}', "stream_mode"),
        (b'{"assistant_id": "script", "multitask_strategy": "queue"}', "multitask_strategy"),
        (b'{"assistant_id": "script", "after_seconds": -1}', "after_seconds"),
        (b'{"assistant_id": "script", "config": {"recursion_limit": 0}}', "config.recursion_limit"),
        (b'{"assistant_id": "script", "metadata": 1}', "metadata"),
        (b'{"assistant_id": "script", "input": "\\ud800"}', "input"),
    ],
)
def test_a_body_that_does_not_fit_is_422_and_names_the_place(body: bytes, place: str) -> None:
    async def scene(house: House) -> None:
        for mount in MOUNTS:
            for path in ("/runs", "/runs/stream", "/runs/wait", on(new_thread()), on(new_thread(), "/stream")):
                answer = await house.http.post(mount + path, content=body)
                assert (answer.status_code, list(answer.json())) == (422, ["detail"])
                assert place in answer.json()["detail"]

    visit(scene)


def test_unknown_fields_are_ignored_at_the_root_and_refused_in_deerflows_dialect() -> None:
    async def scene(house: House) -> None:
        await given(house, langsmith_tracer={"project_name": "x"})
        status, detail = await refusal(house, "/api/runs", on_disconect="cancel")
        assert (status, detail) == (422, "Object contains unknown field `on_disconect`.")

    visit(scene)


def test_modes_of_a_graph_are_made_by_the_graph_and_waiting_needs_its_values() -> None:
    async def scene(house: House) -> None:
        for path, modes in (("/runs", ["updates"]), ("/runs/wait", ["updates", "values"])):
            answer = await house.ask(path, assistant_id="asks", input={"draft": "a"}, stream_mode="updates")
            record = (await house.http.get(f"/runs/{answer.headers['x-run-id']}")).json()
            assert record["kwargs"]["stream_mode"] == modes

    visit(scene, AGENTS)


def test_a_thread_may_be_resumed_though_nothing_waits_if_its_agent_keeps_it() -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        asked = {**STARTS, "assistant_id": "asks"}
        first = await house.ask(on(thread, "/wait"), **asked, input={"draft": "a"})
        question = first.json()["__interrupt__"][0]
        for resume in ({question["id"]: "fine"}, "fine"):
            answer = await house.ask(on(thread, "/wait"), **asked, command={"resume": resume})
            assert answer.json() == {"draft": "a!", "verdict": "fine"}

    visit(scene, AGENTS)


def test_two_answers_at_once_resume_one_run() -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        asked = {**STARTS, "assistant_id": "asks"}
        await house.ask(on(thread, "/wait"), **asked, input={"draft": "a"})
        answers = await asyncio.gather(
            *(house.ask(on(thread, "/wait"), **asked, command={"resume": word}) for word in ("one", "two"))
        )
        told = {answer.status_code: answer for answer in answers}
        assert told.keys() <= {200, 409}
        verdicts = {answer.json()["verdict"] for answer in answers if answer.status_code == 200}
        assert len(verdicts) == 1

    visit(scene, AGENTS)


def test_update_and_goto_are_commands_of_a_graph() -> None:
    async def scene(house: House) -> None:
        thread = new_thread()
        asked = {**STARTS, "assistant_id": "asks"}
        await house.ask(on(thread, "/wait"), **asked, input={"draft": "a"})
        command = {"update": {"draft": "b"}, "resume": "fine"}
        answer = await house.ask(on(thread, "/wait"), **asked, command=command)
        assert answer.json() == {"draft": "b", "verdict": "fine"}
        again = await house.ask(
            on(thread, "/wait"), **asked, command={"goto": {"node": "review", "input": {"draft": "c"}}}
        )
        assert msgspec.json.encode(again.json()["__interrupt__"][0]["value"]) == b'{"question":"ok?","draft":"c"}'

    visit(scene, AGENTS)

"""The threads of a graph: states in the official server's form, updates, branches, copies, rollbacks."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from msgspec import Raw

from adapters.langgraph import LangGraphAdapter
from proxy.adapter import Checkpoint, Command, State, ThreadName, Update
from proxy.errors import BadRequest
from proxy.events import Paused
from tests.adapters import native_graphs
from tests.adapters.conftest import Place
from tests.adapters.langgraph_runs import agent, events_of
from tests.adapters.native_runs import ASSISTANT, NATIVE, THREAD, native_run
from tests.adapters.official import COUNT, HELLO, TIME, UUID

Test = Callable[[LangGraphAdapter], Awaitable[None]]
OTHER = ThreadName(thread_id="01a1fc14-7166-779a-87ad-beb642000e02")
SQLITE = "sqlite:///runs.db"


def within(graph: str, test: Test, *, folder: Path | None = None, state: str = "memory://") -> None:
    async def main() -> None:
        name = graph if ":" in graph else f"{NATIVE}:{graph}"
        async with agent(name, folder=folder, state=state) as adapter:
            await test(adapter)

    asyncio.run(main())


def shown(value: Any) -> Any:
    """As JSON, ids numbered as they appear."""
    seen: dict[str, str] = {}
    text = UUID.sub(
        lambda found: seen.setdefault(found.group(), f"#{len(seen) + 1}"), msgspec.json.encode(value).decode()
    )
    return json.loads(TIME.sub("TIME", text))


def values(state: State) -> Any:
    return msgspec.json.decode(state.values)


async def asked(adapter: LangGraphAdapter, graph: str = "asks", given: Any = None) -> None:
    await events_of(adapter, native_run(graph, [], given or {"draft": "d"}))


def test_a_state_has_the_form_of_the_official_server() -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        await asked(adapter)
        question = {"id": "#3", "value": {"question": "ok?", "draft": "d!"}}
        assert shown(await adapter.threads.state(THREAD)) == {
            "values": {"draft": "d!"},
            "next": ["review"],
            "tasks": [
                {
                    "id": "#1",
                    "name": "review",
                    "path": ["__pregel_pull", "review"],
                    "error": None,
                    "interrupts": [question | {"id": "#2"}],
                    "checkpoint": None,
                    "state": None,
                    "result": None,
                }
            ],
            "metadata": {
                "source": "loop",
                "step": 1,
                "parents": {},
                "created_by": "system",
                "graph_id": "asks",
                "assistant_id": "#3",
                "run_attempt": 1,
                "run_id": "#4",
                "user_id": "",
                "thread_id": "#5",
            },
            "created_at": "TIME",
            "checkpoint": {"checkpoint_id": "#6", "thread_id": "#5", "checkpoint_ns": ""},
            "parent_checkpoint": {"checkpoint_id": "#7", "thread_id": "#5", "checkpoint_ns": ""},
            "interrupts": [question | {"id": "#2"}],
            "checkpoint_id": "#6",
            "parent_checkpoint_id": "#7",
        }

    within("asks", test)


def test_a_thread_that_never_ran_is_empty() -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        assert shown(await adapter.threads.state(THREAD)) == {
            "values": {},
            "next": [],
            "tasks": [],
            "metadata": None,
            "created_at": None,
            "checkpoint": None,
            "parent_checkpoint": None,
            "interrupts": [],
            "checkpoint_id": None,
            "parent_checkpoint_id": None,
        }
        assert await adapter.threads.history(THREAD, limit=10) == []

    within("asks", test)


def test_the_error_of_a_task_is_told() -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        with pytest.raises(ValueError, match="boom"):
            await asked(adapter, "breaks", COUNT)
        (task,) = (await adapter.threads.state(THREAD)).tasks
        assert (task.name, task.error) == ("broken", "ValueError('boom: x')")

    within("breaks", test)


def test_a_sub_graph_is_addressed_or_shown_within_its_task() -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        await asked(adapter, "nested", HELLO)
        (task,) = (await adapter.threads.state(THREAD)).tasks
        place = Checkpoint(thread_id=THREAD.thread_id, checkpoint_ns=f"inner:{task.id}")
        assert (task.checkpoint, task.state) == (place, None)
        inner = await adapter.threads.state(THREAD, place)
        assert inner.next == ("deep",)
        (task,) = (await adapter.threads.state(THREAD, subgraphs=True)).tasks
        assert task.checkpoint is None
        assert task.state is not None
        assert (task.state.checkpoint_id, task.state.next) == (inner.checkpoint_id, ("deep",))
        assert [each.name for each in task.state.tasks[0].state.tasks] == ["ask"]  # type: ignore[union-attr]
        steps = await adapter.threads.history(THREAD, checkpoint=place, limit=10)
        assert [state.next for state in steps] == [("deep",), ("__start__",)]

    within("nested", test)


def test_a_history_is_newest_first_and_can_be_cut_and_filtered() -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        await asked(adapter)
        whole = await adapter.threads.history(THREAD, limit=10)
        assert [state.next for state in whole] == [("review",), ("draft_it",), ("__start__",)]
        assert await adapter.threads.history(THREAD, limit=1) == whole[:1]
        assert await adapter.threads.history(THREAD, limit=10, before=whole[0].checkpoint) == whole[1:]
        assert await adapter.threads.history(THREAD, limit=10, metadata={"source": "input"}) == whole[2:]
        at = await adapter.threads.state(THREAD, whole[1].checkpoint)
        assert (at.checkpoint_id, values(at)) == (whole[1].checkpoint_id, {"draft": "d"})

    within("asks", test)


def test_an_update_is_written_as_a_node_and_branches_from_an_older_state() -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        await asked(adapter)
        update = Update(values=Raw(b'{"draft": "mine"}'), as_node="draft_it")
        made = await adapter.threads.update(THREAD, [[update]])
        now = await adapter.threads.state(THREAD)
        assert (now.checkpoint, values(now), now.next) == (made, {"draft": "mine"}, ("review",))
        assert {"source": "update", "step": 2, "graph_id": "a"}.items() <= msgspec.json.decode(now.metadata).items()
        first = (await adapter.threads.history(THREAD, limit=10))[-1]
        branch = await adapter.threads.update(THREAD, [[update]], first.checkpoint)
        now = await adapter.threads.state(THREAD)
        assert (now.checkpoint, now.parent_checkpoint) == (branch, first.checkpoint)

    within("asks", test)


def test_several_steps_are_written_at_once() -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        steps = [
            [Update(values=Raw(b'{"draft": "one"}'), as_node="draft_it")],
            [Update(values=Raw(b'{"verdict": "two"}'), as_node="review")],
        ]
        await adapter.threads.update(THREAD, steps)
        history = await adapter.threads.history(THREAD, limit=10)
        assert [values(state) for state in history] == [{"draft": "one", "verdict": "two"}, {"draft": "one"}]

    within("asks", test)


@pytest.mark.parametrize("update", [Update(values=Raw(b"{}"), as_node="nobody"), Update(values=Raw(b"[1]"))])
def test_an_update_that_does_not_fit_is_refused(update: Update) -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        await asked(adapter)
        with pytest.raises(BadRequest):
            await adapter.threads.update(THREAD, [[update]])

    within("asks", test)


@pytest.fixture(params=["memory://", SQLITE, "postgres", "own"])
def saver(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("database") if request.param == "postgres" else request.param


def everywhere(graph: str, test: Test, saver: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the checkpoints in memory, in a file, in a database, or in a saver of the graph's own."""
    if saver == "own":
        own = getattr(native_graphs, graph).copy({"checkpointer": InMemorySaver()})
        monkeypatch.setattr(native_graphs, graph, own)
        saver = "memory://"
    within(graph, test, folder=folder, state=saver)


def test_a_copy_goes_its_own_way(saver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        await asked(adapter, "nested", HELLO)
        await adapter.threads.copy(THREAD, OTHER)
        before = await whole(adapter, THREAD)
        copy = await whole(adapter, OTHER)
        assert shown(copy) == shown(before)
        assert copy[0].checkpoint is not None
        assert copy[0].checkpoint.thread_id == OTHER.thread_id
        run = msgspec.structs.replace(resume("nested"), thread_id=OTHER.thread_id)
        await events_of(adapter, run)
        assert (await adapter.threads.state(OTHER)).next == ()
        assert await whole(adapter, THREAD) == before

    everywhere("nested", test, saver, tmp_path, monkeypatch)


def test_a_thinned_thread_has_its_newest_state_and_goes_on_from_it(
    saver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        await asked(adapter, "nested", HELLO)
        await adapter.threads.copy(THREAD, OTHER)
        before, other = await whole(adapter, THREAD), await whole(adapter, OTHER)
        assert len(before) > 3
        await adapter.threads.keep_newest(THREAD)
        assert await whole(adapter, THREAD) == [before[0], before[1]]
        assert await whole(adapter, OTHER) == other
        await events_of(adapter, resume("nested"))
        end, *_, start = await adapter.threads.history(THREAD, limit=10)
        assert (end.next, start.checkpoint) == ((), before[0].checkpoint)
        await adapter.threads.keep_newest(ThreadName(thread_id="none"))

    everywhere("nested", test, saver, tmp_path, monkeypatch)


async def whole(adapter: LangGraphAdapter, thread: ThreadName) -> list[State]:
    now = await adapter.threads.state(thread, subgraphs=True)
    return [now, *await adapter.threads.history(thread, limit=100)]


def resume(graph: str) -> Any:
    return native_run(graph, [], command=Command(resume=Raw(b'"yes"')))


@pytest.mark.parametrize("again", ["resume", "input", "nothing"])
def test_a_rollback_brings_back_what_was_before_the_run(
    saver: str, again: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        await asked(adapter, "nested", HELLO)
        before = await whole(adapter, THREAD)
        mark = await adapter.threads.mark(THREAD)
        runs = {
            "resume": resume("nested"),
            "input": native_run("nested", [], HELLO),
            "nothing": native_run("nested", []),
        }
        await events_of(adapter, runs[again])
        assert await whole(adapter, THREAD) != before or again == "nothing"
        await adapter.threads.rollback(THREAD, mark)
        assert await whole(adapter, THREAD) == before
        events = await events_of(adapter, resume("nested"))
        assert not isinstance(events[-1], Paused)

    everywhere("nested", test, saver, tmp_path, monkeypatch)


def test_a_rollback_of_the_first_run_leaves_nothing(
    saver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        mark = await adapter.threads.mark(THREAD)
        await asked(adapter, "nested", HELLO)
        await adapter.threads.rollback(THREAD, mark)
        assert await whole(adapter, THREAD) == [State()]

    everywhere("nested", test, saver, tmp_path, monkeypatch)


def test_a_rollback_undoes_an_answer_to_a_question_of_long_ago(
    saver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        await asked(adapter)
        old = (await adapter.threads.state(THREAD)).checkpoint
        assert old is not None
        await events_of(adapter, resume("asks"))
        await asked(adapter)
        before = await whole(adapter, THREAD)
        mark = await adapter.threads.mark(THREAD, anywhere=True)
        await events_of(adapter, native_run("asks", [], command=Command(resume=Raw(b'"no"')), checkpoint=old))
        assert await whole(adapter, THREAD) != before
        await adapter.threads.rollback(THREAD, mark)
        assert await whole(adapter, THREAD) == before

    everywhere("asks", test, saver, tmp_path, monkeypatch)


def test_a_rollback_leaves_the_store_as_it_was_and_other_threads_alone(place: Place) -> None:
    tables = ("checkpoints", "writes") if place.is_file else ("checkpoints", "checkpoint_writes", "checkpoint_blobs")

    def rows() -> list[Any]:
        return [sorted(place.rows(f"SELECT * FROM {table}"), key=repr) for table in tables]

    async def test(adapter: LangGraphAdapter) -> None:
        await asked(adapter, "nested", HELLO)
        await adapter.threads.copy(THREAD, OTHER)
        before = rows()
        mark = await adapter.threads.mark(THREAD)
        await events_of(adapter, resume("nested"))
        assert rows() != before
        await adapter.threads.rollback(THREAD, mark)
        assert rows() == before

    within("nested", test, folder=place.folder, state=place.state)


def test_a_cancelled_run_is_rolled_back(place: Place) -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        await asked(adapter, "nested", HELLO)
        before = await whole(adapter, THREAD)
        for taken in range(1, 8):
            mark = await adapter.threads.mark(THREAD)
            stream = adapter.stream(msgspec.structs.replace(resume("nested"), modes=frozenset({"debug"})))
            for _ in range(taken):
                await anext(stream)
            await stream.aclose()
            await adapter.threads.rollback(THREAD, mark)
            assert await whole(adapter, THREAD) == before

    within("nested", test, folder=place.folder, state=place.state)


def test_a_drawing_shows_nodes_and_edges_and_the_inside_of_sub_graphs() -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        names = ["__start__", "before", "inner", "after"]
        assert msgspec.json.decode(await adapter.blueprint.drawing()) == {
            "nodes": [
                *({"id": name, "type": "runnable", "data": {"name": name}} for name in names),
                {"id": "__end__"},
            ],
            "edges": [
                {"source": "__start__", "target": "before"},
                {"source": "before", "target": "inner"},
                {"source": "inner", "target": "after"},
                {"source": "after", "target": "__end__"},
            ],
        }
        inside = msgspec.json.decode(await adapter.blueprint.drawing(xray=True))
        assert {"id": "inner:deep:ask", "type": "runnable", "data": {"name": "inner:deep:ask"}} in inside["nodes"]

    within("nested", test)


def test_a_drawing_marks_conditional_edges_and_names_tools() -> None:
    async def fans(adapter: LangGraphAdapter) -> None:
        edges = msgspec.json.decode(await adapter.blueprint.drawing())["edges"]
        assert {"source": "spread", "target": "work", "conditional": True} in edges

    async def tools(adapter: LangGraphAdapter) -> None:
        nodes = msgspec.json.decode(await adapter.blueprint.drawing())["nodes"]
        assert nodes[2]["metadata"] == {"__tools": ["add"]}

    within("fans", fans)
    within("agent", tools)


def test_schemas_are_told_where_the_types_have_them() -> None:
    async def functional(adapter: LangGraphAdapter) -> None:
        schemas = msgspec.json.decode(await adapter.blueprint.schemas())
        assert schemas["input_schema"] == {"additionalProperties": True, "title": "a_input", "type": "object"}
        assert schemas["output_schema"] == {"title": "a_output"}

    async def asks(adapter: LangGraphAdapter) -> None:
        assert msgspec.json.decode(await adapter.blueprint.schemas()) == {
            "graph_id": "a",
            "input_schema": None,
            "output_schema": None,
            "state_schema": {
                "properties": {
                    "draft": {"default": None, "title": "Draft", "type": "string"},
                    "verdict": {"default": None, "title": "Verdict", "type": "string"},
                },
                "title": "a_state",
                "type": "object",
            },
            "config_schema": {},
            "context_schema": None,
        }

    within("functional", functional)
    within("asks", asks)


def test_sub_graphs_are_named_with_their_schemas() -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        assert list(msgspec.json.decode(await adapter.blueprint.subgraphs())) == ["inner"]
        assert list(msgspec.json.decode(await adapter.blueprint.subgraphs(recurse=True))) == ["inner", "inner|deep"]
        (schemas,) = msgspec.json.decode(await adapter.blueprint.subgraphs("inner|deep", recurse=True)).values()
        assert schemas["input_schema"]["properties"]["messages"]["type"] == "array"
        assert msgspec.json.decode(await adapter.blueprint.subgraphs("nobody")) == {}

    within("nested", test)


def test_the_assistants_name_is_in_every_checkpoint() -> None:
    async def test(adapter: LangGraphAdapter) -> None:
        await asked(adapter)
        found = await adapter.threads.history(THREAD, limit=10, metadata={"assistant_id": ASSISTANT})
        assert len(found) == 3

    within("asks", test)

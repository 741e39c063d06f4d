"""What a graph remembers, and how a pause is answered."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from proxy.adapter import Answer, RunInput
from proxy.errors import ConfigError, NotWaiting
from proxy.events import Completed, Event, Interrupt, Paused, TextDelta
from proxy.messages import Tool, ToolFunction
from tests.adapters import graphs
from tests.adapters.conftest import Place
from tests.adapters.langgraph_runs import agent, events_of, run_of, text, texts

QUESTION = {"question": "Send it?"}


def lasting(*messages: str, **more: Any) -> RunInput:
    return run_of(*messages, **{"temporary": False, "fresh": False} | more)


def answering(answer: Answer, **more: Any) -> RunInput:
    return run_of(messages=(), fresh=False, answer=answer, **{"run_id": "r2"} | more)


def paused(events: list[Event]) -> Paused:
    assert isinstance(events[-1], Paused)
    return events[-1]


def test_an_interrupt_ends_the_run_as_a_pause_with_its_question() -> None:
    async def main() -> None:
        async with agent("asking") as adapter:
            events = await events_of(adapter)
            assert text(events) == "Let me see."
            (asked,) = paused(events).interrupts
            assert msgspec.json.decode(asked.value) == QUESTION

    asyncio.run(main())


@pytest.mark.parametrize("graph", ["asking", "uncompiled"])
@pytest.mark.parametrize("temporary", [True, False])
def test_a_plain_sentence_answers_the_open_question(graph: str, temporary: bool) -> None:
    async def main() -> None:
        async with agent(graph) as adapter:
            paused(await events_of(adapter, run_of(temporary=temporary)))
            events = await events_of(adapter, answering(Answer(text="yes"), temporary=temporary))
            assert text(events) == "answer: yes"
            assert events[-1] == Completed()

    asyncio.run(main())


def test_an_answer_by_id_is_json() -> None:
    async def main() -> None:
        async with agent("asking") as adapter:
            (asked,) = paused(await events_of(adapter)).interrupts
            answer = Answer(interrupts={asked.id: msgspec.Raw(b'{"ok": true}')})
            assert text(await events_of(adapter, answering(answer))) == "answer: {'ok': True}"

    asyncio.run(main())


def test_one_sentence_answers_all_questions() -> None:
    async def main() -> None:
        async with agent("pair", output_key="left") as adapter:
            asked = paused(await events_of(adapter)).interrupts
            assert sorted(msgspec.json.decode(each.value) for each in asked) == ["a", "b"]
            assert texts(await events_of(adapter, answering(Answer(text="ok")))) == ["a=ok, b=ok"]

    asyncio.run(main())


def test_questions_can_be_answered_one_by_one() -> None:
    async def main() -> None:
        async with agent("pair", output_key="left") as adapter:
            asked = {bytes(each.value): each for each in paused(await events_of(adapter)).interrupts}
            first, second = (asked[name] for name in (b'"a"', b'"b"'))
            answer = Answer(interrupts={first.id: msgspec.Raw(b'"1"')})
            assert paused(await events_of(adapter, answering(answer))).interrupts == (second,)
            answer = Answer(interrupts={second.id: msgspec.Raw(b'"2"')})
            assert texts(await events_of(adapter, answering(answer, run_id="r3"))) == ["a=1, b=2"]

    asyncio.run(main())


@pytest.mark.parametrize("answer", [Answer(text="yes"), Answer(interrupts={"nobody": msgspec.Raw(b"1")})])
def test_an_answer_that_nobody_waits_for_is_refused(answer: Answer) -> None:
    async def main() -> None:
        async with agent("asking") as adapter:
            with pytest.raises(NotWaiting):
                await events_of(adapter, answering(answer))

    asyncio.run(main())


def test_a_static_breakpoint_pauses_and_any_answer_goes_on() -> None:
    async def main() -> None:
        async with agent("halting") as adapter:
            events = await events_of(adapter)
            assert text(events) == "ready"
            (asked,) = paused(events).interrupts
            assert "before second" in msgspec.json.decode(asked.value)
            assert text(await events_of(adapter, answering(Answer(text="go")))) == "done"
            paused(await events_of(adapter, run_of(run_id="r3")))
            answer = Answer(interrupts={asked.id: msgspec.Raw(b"true")})
            assert text(await events_of(adapter, answering(answer))) == "done"

    asyncio.run(main())


def test_results_of_client_tools_go_on_with_the_thread() -> None:
    async def main() -> None:
        async with agent("offering") as adapter:
            offered = (Tool(type="function", function=ToolFunction(name="weather")),)
            events = await events_of(adapter, lasting("rain?", tools=offered))
            assert events[-1] == Completed(finish_reason="tool_calls")
            answer = Answer(calls={"c9": "wet"})
            assert text(await events_of(adapter, answering(answer, temporary=False))) == "it is wet"

    asyncio.run(main())


def test_a_lasting_thread_remembers_and_a_fresh_start_forgets() -> None:
    async def main() -> None:
        async with agent("echo") as adapter:
            assert text(await events_of(adapter, lasting("a"))) == "1 seen"
            assert text(await events_of(adapter, lasting("b", run_id="r2"))) == "3 seen"
            assert text(await events_of(adapter, lasting("c", run_id="r3", tenant="other"))) == "1 seen"
            assert text(await events_of(adapter, lasting("d", run_id="r4", fresh=True))) == "1 seen"
            await adapter.forget("default:t1")
            assert text(await events_of(adapter, lasting("e", run_id="r5"))) == "1 seen"

    asyncio.run(main())


def test_state_survives_a_restart_beside_the_records_of_the_server(place: Place) -> None:
    async def main() -> None:
        for run_id, seen in (("r1", "1 seen"), ("r2", "3 seen")):
            async with agent("echo", folder=place.folder, state=place.state) as adapter:
                assert text(await events_of(adapter, lasting("a", run_id=run_id))) == seen

    asyncio.run(main())
    assert place.threads() == ["default:t1"]
    assert {path.name for path in place.folder.iterdir()} == ({"runs.checkpoints.db"} if place.is_file else set())


def test_a_pause_survives_a_restart(place: Place) -> None:
    async def main() -> None:
        async with agent("asking", folder=place.folder, state=place.state) as adapter:
            paused(await events_of(adapter))
        assert place.threads() == ["default:t1"]
        async with agent("asking", folder=place.folder, state=place.state) as adapter:
            assert text(await events_of(adapter, answering(Answer(text="yes")))) == "answer: yes"

    asyncio.run(main())
    assert place.threads() == []


def test_a_temporary_run_leaves_nothing_behind(place: Place) -> None:
    async def main() -> None:
        async with agent("chat", folder=place.folder, state=place.state) as adapter:
            await events_of(adapter)
            await adapter.forget("default:t1")

    asyncio.run(main())
    assert place.threads() == []


def test_agents_share_the_store(place: Place) -> None:
    async def main() -> None:
        async with (
            agent("echo", folder=place.folder, state=place.state) as one,
            agent("echo", folder=place.folder, state=place.state) as two,
        ):
            runs = [lasting("a", run_id=f"r{n}", thread_id=f"t{n}") for n in range(20)]
            ended = await asyncio.gather(*(events_of((one, two)[n % 2], run) for n, run in enumerate(runs)))
            assert {text(events) for events in ended} == {"1 seen"}

    asyncio.run(main())
    assert len(place.threads()) == 20


def test_a_graphs_own_checkpointer_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    own = InMemorySaver()
    monkeypatch.setattr(graphs, "kept", graphs.uncompiled.compile(checkpointer=own), raising=False)

    async def main() -> None:
        async with agent("kept") as adapter:
            paused(await events_of(adapter))
            assert list(own.storage) == ["default:t1"]
            assert text(await events_of(adapter, answering(Answer(text="yes")))) == "answer: yes"
            assert "default:t1" not in own.storage

    asyncio.run(main())


def test_checkpoints_revive_the_types_of_the_schema_and_no_others(place: Place) -> None:
    async def main() -> None:
        async with agent("noting", folder=place.folder, state=place.state) as adapter:
            assert text(await events_of(adapter, lasting("a"))) == "0:NoneType"
            assert text(await events_of(adapter, lasting("b", run_id="r2"))) == "1:Note,dict"

    asyncio.run(main())


def test_checkpoints_revive_types_that_the_config_lists(place: Place) -> None:
    async def main() -> None:
        listed = [f"{graphs.__name__}:Smuggled"]
        async with agent("noting", folder=place.folder, state=place.state, state_types=listed) as adapter:
            await events_of(adapter, lasting("a"))
            assert text(await events_of(adapter, lasting("b", run_id="r2"))) == "1:Note,Smuggled"

    asyncio.run(main())


def test_a_pickle_in_the_store_is_never_opened(place: Place) -> None:
    async def main() -> None:
        async with agent("echo", folder=place.folder, state=place.state) as adapter:
            await events_of(adapter, lasting("a"))
            _, evil = JsonPlusSerializer(pickle_fallback=True).dumps_typed(object)
            if place.is_file:
                place.rows(f"UPDATE checkpoints SET type = 'pickle', checkpoint = x'{evil.hex()}' RETURNING 1")
            else:
                place.rows(f"UPDATE checkpoint_blobs SET type = 'pickle', blob = '\\x{evil.hex()}' RETURNING 1")
            with pytest.raises(NotImplementedError):
                await events_of(adapter, lasting("b", run_id="r2"))

    asyncio.run(main())


def test_a_file_that_cannot_be_written_is_a_fault_of_the_config(tmp_path: Path) -> None:
    async def main() -> None:
        async with agent("chat", folder=tmp_path / "missing", state="sqlite:///runs.db"):
            raise AssertionError("it opened")

    with pytest.raises(ConfigError, match="`store`: checkpoints cannot be kept in"):
        asyncio.run(main())


def test_a_pause_names_its_question_once_though_a_subgraph_asks_it() -> None:
    async def main() -> None:
        async with agent("asking_deep", subgraphs=True) as adapter:
            asked = paused(await events_of(adapter)).interrupts
            assert [type(each) for each in asked] == [Interrupt]
            events = await events_of(adapter, answering(Answer(text="yes")))
            assert [(event.text, event.path) for event in events if isinstance(event, TextDelta)] == [
                ("answer: yes", ("inner",))
            ]

    asyncio.run(main())

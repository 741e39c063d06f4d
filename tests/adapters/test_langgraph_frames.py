"""Native frames of a graph: what the official server sends for the same graph and the same request."""

import asyncio
import math
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from proxy.adapter import Checkpoint, Command, Goto, RunInput
from proxy.errors import Conflict, RunLimit, UpstreamRefused
from proxy.events import Completed, Event, Frame, Paused, TextDelta
from tests.adapters import native_graphs
from tests.adapters.langgraph_runs import agent, events_of, played, run_of, texts
from tests.adapters.native_runs import NATIVE, THREAD, frames, native_run, streamed
from tests.adapters.official import COUNT, HELLO, RUNS, plain, recorded


@pytest.mark.parametrize("name", [*RUNS])
def test_frames_are_those_of_the_official_server(name: str) -> None:
    graph, modes, given, more = RUNS[name]
    sent = asyncio.run(streamed(f"{NATIVE}:{graph}", native_run(graph, modes, given, **more)))
    assert plain(sent) == recorded(name)


def played_native(graph: str, modes: list[str], given: Any = None, **more: Any) -> list[Event]:
    return asyncio.run(played(f"{NATIVE}:{graph}", native_run(graph, modes, given, **more)))


def shown(events: list[Event], mode: str) -> list[Any]:
    return [msgspec.json.decode(event.data) for event in events if isinstance(event, Frame) and event.mode == mode]


def test_values_of_any_type_have_a_json_form() -> None:
    written: dict[str, Any] = {}
    for part in shown(played_native("odd", ["custom"], {"got": None}), "custom"):
        written |= part if isinstance(part, dict) else {"bare": part}
    assert written == {
        "time": "2024-01-02T03:04:05.678900Z",
        "naive": "2024-01-02T03:04:05",
        "date": "2024-01-02",
        "clock": "03:04:05",
        "delta": "PT90S",
        "uuid": "00000000-0000-0000-0000-000000000005",
        "enum": "red",
        "point": {"x": 1, "y": 2.0},
        "model": {"name": "é", "at": "2024-01-02T00:00:00Z"},
        "set": [1],
        "frozen": ["a"],
        "tuple": [1, "a"],
        "bytes": "AGhp",
        "decimal": 1.1,
        "path": "/tmp/x",
        "nan": None,
        "inf": None,
        "float": 1e22,
        "small": 1e-7,
        "whole": 3.0,
        "intkey": {"1": "a", "null": "b", "false": "c"},
        "class": None,
        "exception": {"error": "ValueError", "message": "bad"},
        "message": {
            "content": "hi",
            "additional_kwargs": {},
            "response_metadata": {},
            "type": "human",
            "name": None,
            "id": "h1",
        },
        "strange": None,
        "half": "a\ufffdb",
        "control": "\u2028\x00\x7f</script>",
        "complex": None,
        "nested": [[{"deep": [None, True]}]],
        "bare": 7,
    }
    assert math.isfinite(written["float"])


def test_only_modes_that_were_asked_for_make_frames() -> None:
    events = played_native("agent", ["updates", "tasks"], HELLO)
    assert Counter(event.mode for event in events if isinstance(event, Frame)) == {"updates": 3, "tasks": 6}


def test_a_run_that_asks_for_no_modes_has_no_frames() -> None:
    assert not frames(played_native("agent", [], HELLO))


def test_neutral_events_are_told_beside_the_frames() -> None:
    quiet = [event for event in played_native("agent", [], HELLO) if isinstance(event, TextDelta)]
    loud = played_native("agent", ["messages-tuple", "values", "debug"], HELLO)
    assert texts(loud) == [event.text for event in quiet] == ["Hm ", "thr", "ee"]
    assert loud[-1] == Completed(finish_reason="length")


def test_neutral_events_are_told_beside_everything_that_happens() -> None:
    events = played_native("agent", ["events"], HELLO)
    assert texts(events) == ["Hm ", "thr", "ee"]
    assert events[-1] == Completed(finish_reason="length")


def test_a_chat_can_have_frames_too() -> None:
    events = asyncio.run(played("chat", run_of(modes=frozenset({"updates"}))))
    (update,) = shown(events, "updates")
    assert update["call"]["messages"][0]["content"] == "Hello"


def test_the_failure_of_a_model_is_told_by_its_class_without_its_foreign_text() -> None:
    async def main() -> None:
        with pytest.raises(UpstreamRefused) as refused:
            await _collect("tests.adapters.graphs:refused", native_run("refused", ["values"], HELLO), [])
        assert refused.value.message == UpstreamRefused().message
        assert type(refused.value.__cause__).__name__ == "AuthenticationError"

    asyncio.run(main())


def test_too_many_steps_are_a_failure_of_a_native_run() -> None:
    with pytest.raises(RunLimit):
        played_native("fans", ["values"], COUNT, config={"recursion_limit": 2})


async def _collect(graph: str, run: RunInput, events: list[Event]) -> None:
    async with agent(graph) as adapter:
        async for event in adapter.stream(run):
            events.append(event)


def test_a_question_is_answered_by_value_or_by_its_id() -> None:
    async def main(by_id: bool) -> None:
        async with agent(f"{NATIVE}:asks") as adapter:
            (asked,) = _paused(await events_of(adapter, native_run("asks", ["values"], {"draft": "d"})))
            resume = {asked: "yes"} if by_id else "yes"
            events = await events_of(adapter, native_run("asks", ["values", "updates"], command=_command(resume)))
            assert shown(events, "values") == [{"draft": "d!"}, {"draft": "d!", "verdict": "yes"}]
            assert shown(events, "updates") == [{"review": {"verdict": "yes"}}]

    asyncio.run(main(by_id=True))
    asyncio.run(main(by_id=False))


def _paused(events: list[Event]) -> list[str]:
    paused = events[-1]
    assert isinstance(paused, Paused)
    return [each.id for each in paused.interrupts]


def _command(resume: Any) -> Command:
    return Command(resume=Raw(msgspec.json.encode(resume)))


def test_an_answer_to_a_node_that_is_gone_is_a_conflict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def main() -> None:
        async with agent(f"{NATIVE}:asks", folder=tmp_path, state="sqlite:///runs.db") as adapter:
            await events_of(adapter, native_run("asks", [], {"draft": "d"}))
        monkeypatch.setattr(
            native_graphs, "asks", native_graphs.sequence(native_graphs.Review, other=_nothing).compile()
        )
        async with agent(f"{NATIVE}:asks", folder=tmp_path, state="sqlite:///runs.db") as adapter:
            with pytest.raises(Conflict, match="`review`"):
                await events_of(adapter, native_run("asks", [], command=_command("yes")))

    asyncio.run(main())


async def _nothing(state: Any) -> dict[str, Any]:
    return {}


def test_a_command_updates_the_state_and_goes_to_nodes() -> None:
    async def main() -> None:
        async with agent(f"{NATIVE}:halts") as adapter:
            await events_of(adapter, native_run("halts", [], COUNT))
            goto = (Goto(node="a"), Goto(node="b", input=Raw(b'{"n": 40, "log": []}')))
            command = Command(update=Raw(b'{"log": ["told"]}'), goto=goto)
            events = await events_of(adapter, native_run("halts", ["updates", "values"], command=command))
            assert {"b": {"n": 1, "log": ["b40"]}} in shown(events, "updates")
            assert shown(events, "values")[0]["log"] == ["a0", "told"]

    asyncio.run(main())


def test_no_input_goes_on_from_a_breakpoint() -> None:
    async def main() -> None:
        async with agent(f"{NATIVE}:halts") as adapter:
            await events_of(adapter, native_run("halts", [], COUNT))
            events = await events_of(adapter, native_run("halts", ["values"]))
            assert shown(events, "values") == [{"n": 1, "log": ["a0"]}, {"n": 2, "log": ["a0", "b1"]}]

    asyncio.run(main())


def test_a_run_goes_on_from_any_checkpoint() -> None:
    async def main() -> None:
        async with agent(f"{NATIVE}:halts") as adapter:
            await events_of(adapter, native_run("halts", [], COUNT))
            await events_of(adapter, native_run("halts", []))
            old = (await adapter.threads.history(THREAD, limit=10))[-1]
            assert old.checkpoint_id is not None
            start = Checkpoint(checkpoint_id=old.checkpoint_id, checkpoint_ns="")
            run = native_run("halts", ["values"], {"n": 7}, checkpoint=start)
            assert shown(await events_of(adapter, run), "values")[-1] == {"n": 8, "log": ["a7"]}

    asyncio.run(main())


def test_keys_that_steer_the_framework_or_belong_to_the_operator_are_left_out() -> None:
    asked = {"checkpoint_id": "x", "__pregel_resuming": True, "thread_id": "theirs", "lang": "en", "city": "Rome"}
    run = native_run("telling", ["values"], HELLO, configurable=asked, context={"city": "Oslo"})

    async def main() -> str:
        events = await played("telling", run, configurable={"lang": "de"})
        said: str = shown(events, "values")[-1]["messages"][-1]["content"]
        return said

    said = asyncio.run(main())
    assert "('lang', 'de')" in said
    assert "('city', 'Rome')" in said
    assert "theirs" not in said
    assert "pregel" not in said


def test_context_reaches_a_native_run_where_the_schema_has_it() -> None:
    run = native_run("telling", ["values"], HELLO, context={"city": "Oslo", "unknown": 1})
    events = asyncio.run(played("telling", run))
    assert shown(events, "values")[-1]["messages"][-1]["content"].startswith("Oslo ")


def test_a_stored_run_says_all_that_it_was_asked() -> None:
    start = Checkpoint(checkpoint_id="c1", checkpoint_ns="", checkpoint_map={"": "c0"})
    goto = (Goto(node="a"), Goto(node="b", input=Raw(b"{}")))
    command = Command(resume=Raw(b"null"), update=Raw(b"{}"), goto=goto)
    run = native_run("asks", ["values"], {"draft": "d"}, command=command, checkpoint=start, interrupt_before="*")
    assert msgspec.json.decode(msgspec.json.encode(run), type=RunInput) == run

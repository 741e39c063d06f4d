"""Threads of agents that keep no state themselves have one all the same, and a history like a graph's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from proxy.adapter import Answer, Checkpoint, Command, Goto, RunInput
from proxy.events import Cancelled, Event, Failed, Interrupt, Paused, PendingCall, TextDelta, ToolCallDelta, ToolResult
from proxy.model import Choices, Fault, RunStatus, ThreadOutcome, ThreadStatus
from proxy.settings import Runs
from tests.runs.talks import HI, HUMAN, TWO_TURNS, Talk, Talking, at, ids, raw, told


def call(id: str, **fields: Any) -> ToolCallDelta:
    return ToolCallDelta(call_id=id, name="find", arguments="{}", **fields)


def test_a_run_leaves_its_input_the_state_with_it_and_the_end(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        asked = talk.asked(HI, metadata={"assistant_id": "a"})
        live = await talk.start(asked)
        assert live.texts == [("user", "hi")]
        assert live.agent.given.fresh
        assert (await talk.state()).next == ("bot",)
        await live.agent.say("he", "llo")
        await live.agent.end()
        await live.execution.done
        end, loop, start = await talk.history()
        assert [told(state.values) for state in (end, loop, start)] == [[("human", "hi"), ("ai", "hello")], HUMAN, []]
        assert [state.next for state in (end, loop, start)] == [(), ("bot",), ("__start__",)]
        assert [state.parent_checkpoint_id for state in (end, loop)] == [loop.checkpoint_id, start.checkpoint_id]
        assert start.parent_checkpoint is None
        assert [[task.name for task in state.tasks] for state in (end, loop)] == [[], ["bot"]]
        about = {"assistant_id": "a", "graph_id": "bot", "run_id": asked.run_id, "parents": {}}
        about |= {"thread_id": talk.thread.thread_id}
        assert [msgspec.json.decode(state.metadata) for state in (end, loop, start)] == [
            {**about, "source": "loop", "step": 1},
            {**about, "source": "loop", "step": 0},
            {**about, "source": "input", "step": -1},
        ]
        assert end.checkpoint == Checkpoint(
            thread_id=talk.thread.thread_id, checkpoint_ns="", checkpoint_id=end.checkpoint_id or ""
        )
        assert await talk.outcome() == ThreadOutcome(values=end.values)

    talking(act)


def test_without_checkpoints_on_the_way_only_the_end_is_left(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        live = await talk.start(talk.asked("hi", durability="exit"))
        assert await talk.history() == []
        await live.agent.say("one")
        await live.agent.end()
        await live.execution.done
        await talk.run(talk.asked("again", durability="exit"), "two")
        second, first = await talk.history()
        assert [msgspec.json.decode(state.metadata)["step"] for state in (second, first)] == [4, 1]
        assert (second.parent_checkpoint_id, first.parent_checkpoint_id) == (first.checkpoint_id, None)
        assert told(second.values) == TWO_TURNS

    talking(act)


def test_the_next_run_is_given_the_whole_conversation(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        await talk.run(talk.asked(HI), "one")
        live = await talk.run(talk.asked("again"), "two")
        assert live.texts == [("user", "hi"), ("assistant", "one"), ("user", "again")]
        assert await talk.messages() == TWO_TURNS
        assert len(await talk.history()) == 6

    talking(act)


def test_an_agent_with_a_memory_is_given_only_what_is_new(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        await talk.run(talk.asked(HI), "one")
        live = await talk.run(talk.asked([["user", "again"], ["user", "now"]]), "two")
        assert live.texts == [("user", "again"), ("user", "now")]
        assert not live.agent.given.fresh

    talking(act, history="last")


def test_who_joins_late_sees_the_messages_that_the_thread_holds(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        first = await talk.run(talk.asked(HI), "one", call("c"), ToolResult(call_id="c", output="42"), "done")
        assert await talk.streamed(first) == (await talk.state()).values
        again = await talk.run(talk.asked("a", durability="exit"), call("c"), ToolResult(call_id="c", output="43"))
        state = await talk.state()
        assert await talk.streamed(again) == state.values
        assert len(set(ids(state.values))) == len(ids(state.values)) == 7
        asking = Paused(interrupts=(Interrupt(id="i"),))
        await talk.run(talk.asked("ask me"), final=asking)
        resumed = talk.asked(command=Command(resume=raw("yes")), answer=Answer(text="yes"))
        live = await talk.run(resumed, "thanks")
        assert await talk.streamed(live) == (await talk.state()).values
        _, waiting, _ = [state for state in await talk.history() if state.next == ("bot",)]
        live = await talk.run(talk.asked(checkpoint=at(waiting)), "other")
        assert await talk.streamed(live) == (await talk.state()).values
        chat = await talk.run(talk.chat(("user", "hi"), ("assistant", "ho"), ("user", "hu")), "ha")
        assert await talk.streamed(chat) == (await talk.state()).values
        update = Command(update=raw("more"))
        await talk.run(talk.asked("x"), final=asking)
        live = await talk.run(talk.asked(command=update), "less")
        assert await talk.streamed(live) == (await talk.state()).values

    talking(act)


def test_a_run_from_an_older_checkpoint_is_a_branch(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        await talk.run(talk.asked(HI), "one")
        first = await talk.state()
        await talk.run(talk.asked("again"), "two")
        live = await talk.run(talk.asked("otherwise", checkpoint=at(first)), "three")
        assert live.texts[-2:] == [("assistant", "one"), ("user", "otherwise")]
        end, _, start = (await talk.history())[:3]
        assert start.parent_checkpoint_id == first.checkpoint_id
        assert told(end.values) == [*HUMAN, ("ai", "one"), ("human", "otherwise"), ("ai", "three")]
        assert ids(end.values)[:2] == ids(first.values)

    talking(act)


def test_a_replay_asks_the_agent_the_same_again(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        await talk.run(talk.asked(HI), "one")
        _, loop, start = await talk.history()
        for place in (loop, start):
            live = await talk.run(talk.asked(checkpoint=at(place)), "better")
            assert live.texts == [("user", "hi")]
            end, fork = (await talk.history())[:2]
            assert (end.parent_checkpoint_id, fork.parent_checkpoint_id) == (fork.checkpoint_id, loop.checkpoint_id)
            assert (fork.next, msgspec.json.decode(fork.metadata)["source"]) == (("bot",), "fork")
            assert told(end.values) == [*HUMAN, ("ai", "better")]
            assert ids(end.values)[0] == ids(loop.values)[0]

    talking(act)


def test_a_run_with_nothing_to_do_leaves_all_as_it_is(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        await talk.run(talk.asked(HI), "one")
        known = await talk.history()
        for asked in (
            talk.asked(),
            talk.asked(checkpoint=at(known[0])),
            talk.asked(command=Command(resume=raw("yes"))),
        ):
            live = await talk.start(asked)
            assert (await live.execution.done).status is RunStatus.SUCCESS
            assert not live.asked
            assert await talk.history() == known
            assert await talk.outcome() == ThreadOutcome(values=known[0].values)
        live = await talk.start(talk.asked(command=Command(update=raw("by the way"))))
        assert not live.asked
        assert await talk.messages() == [*HUMAN, ("ai", "one"), ("human", "by the way")]
        assert (await talk.outcome()).values == (await talk.state()).values

    talking(act)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "there is nothing to go on from"),
        ({"command": Command(update=raw("x"))}, "there is nothing to go on from"),
        ({"command": Command(goto=(Goto(node="x"),))}, "nothing to `goto`"),
        ({"input": {"messages": [], "b": 1, "a": 2}}, "nothing else, not `a`, `b`"),
        ({"input": "x", "checkpoint": Checkpoint(checkpoint_id="nope")}, "no checkpoint `nope`"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_no_state(talking: Talking, fields: dict[str, Any], said: str) -> None:
    async def act(talk: Talk) -> None:
        live = await talk.start(talk.asked(**fields))
        outcome = (await live.execution.done).outcome
        assert not live.asked
        assert outcome is not None
        assert outcome.error is not None
        assert (outcome.error.status, said in outcome.error.message) == (400, True), outcome.error.message
        assert await talk.history() == []
        assert (await talk.outcome()).status is ThreadStatus.ERROR

    talking(act)


def test_a_pause_shows_what_is_asked_and_the_answer_goes_on_from_there(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        asked = Interrupt(id="i", value=Raw(b'{"q":1}'))
        await talk.run(talk.asked(HI), "well", final=Paused(interrupts=(asked,)))
        state = await talk.state()
        (task,) = state.tasks
        assert (state.next, state.interrupts, task.interrupts) == (("bot",), task.interrupts, task.interrupts)
        assert [(question.id, question.value) for question in task.interrupts] == [("i", asked.value)]
        outcome = await talk.outcome()
        assert (outcome.status, outcome.interrupts) == (ThreadStatus.INTERRUPTED, {task.id: (asked,)})
        answer = Answer(interrupts={"i": raw("yes")})
        live = await talk.run(talk.asked(command=Command(resume=raw("yes")), answer=answer), "then")
        assert live.texts == [("user", "hi"), ("assistant", "well")]
        assert live.agent.given.answer == answer
        assert await talk.outcome() == ThreadOutcome(values=(await talk.state()).values)
        assert (await talk.state()).parent_checkpoint_id == state.checkpoint_id

    talking(act)


def test_results_of_the_callers_tools_join_the_conversation(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        pause = Paused(calls=(PendingCall(call_id="c", name="find"),))
        await talk.run(talk.asked(HI), call("c", client=True), final=pause)
        assert (await talk.outcome()).status is ThreadStatus.INTERRUPTED
        result = {"type": "tool", "tool_call_id": "c", "content": "42"}
        live = await talk.run(talk.asked([result]), call("d", client=True), final=pause)
        assert live.texts == [("user", "hi"), ("assistant", ""), ("tool", "42")]
        resumed = talk.asked(command=Command(resume=raw("43")), answer=Answer(calls={"d": "43"}))
        live = await talk.run(resumed, "so")
        assert live.texts[-2:] == [("assistant", ""), ("tool", "43")]
        assert await talk.messages() == [*HUMAN, ("ai", ""), ("tool", "42"), ("ai", ""), ("tool", "43"), ("ai", "so")]

    talking(act)


BROKEN = [call("c"), call("d"), ToolResult(call_id="c", output="42"), "I th"]


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        (Cancelled(), ThreadOutcome(status=ThreadStatus.INTERRUPTED)),
        (Failed(code="x", kind="Oops", message="y"), ThreadOutcome(status=ThreadStatus.ERROR)),
    ],
)
def test_what_was_whole_when_a_run_broke_is_a_history_that_the_next_can_use(
    talking: Talking, verdict: Cancelled | Failed, outcome: ThreadOutcome
) -> None:
    async def act(talk: Talk) -> None:
        live = await talk.start(talk.asked(HI))
        await live.agent.say(*BROKEN)
        await live.stop(verdict)
        state, left = await talk.state(), await talk.outcome()
        assert told(state.values) == [*HUMAN, ("ai", ""), ("tool", "42")]
        calls = msgspec.json.decode(state.values)["messages"][1]["tool_calls"]
        assert [call["id"] for call in calls] == ["c"]
        assert (left.status, left.values) == (outcome.status, state.values)
        assert left.fault is not None
        assert state.next == ("bot",)
        assert state.tasks[0].error == f"{left.fault.error}({left.fault.message!r})"
        live = await talk.run(talk.asked(), "Sorry.")
        assert [message.role for message in live.agent.given.messages] == ["user", "assistant", "tool"]
        assert [call.id for call in live.agent.given.messages[1].tool_calls or ()] == ["c"]
        assert (await talk.outcome()).status is ThreadStatus.IDLE

    talking(act)


def test_a_call_that_was_cancelled_before_its_result_leaves_no_trace(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        live = await talk.start(talk.asked(HI))
        await live.agent.say("Let me see.", call("c"))
        await live.stop(Cancelled())
        assert await talk.messages() == HUMAN
        assert (await talk.outcome()).fault == Fault(error="UserInterrupt", message="The run was cancelled.")

    talking(act)


def test_a_rollback_leaves_the_thread_as_it_was(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        for known in (0, 3):
            history = await talk.history()
            assert len(history) == known
            live = await talk.start(talk.asked("again"))
            await live.agent.say("two")
            await live.stop(Cancelled(action="rollback"))
            assert await talk.history() == history
            left = await talk.outcome()
            assert (left.status, left.values) == (ThreadStatus.IDLE, history[0].values if history else None)
            assert left.fault is not None
            assert left.fault.error == "UserRollback"
            if not known:
                await talk.run(talk.asked(HI), "one")

    talking(act)


def test_a_chat_request_makes_the_thread_what_it_shows(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        asked = talk.chat(("user", "hi"))
        live = await talk.run(asked, "one")
        assert live.agent.given.messages == asked.messages
        first = await talk.state()
        await talk.run(talk.chat(("user", "hi"), ("assistant", "one"), ("user", "again")), "two")
        second = await talk.state()
        assert told(second.values) == TWO_TURNS
        assert ids(second.values)[:2] == ids(first.values)
        await talk.run(talk.chat(("user", "hi"), ("assistant", "edited"), ("user", "again")), "two")
        third = await talk.state()
        assert told(third.values)[1] == ("ai", "edited")
        assert ids(third.values)[0] == ids(first.values)[0]
        assert not set(ids(third.values)[1:]) & set(ids(second.values))
        live = await talk.run(talk.asked("native"), "yes")
        assert live.texts[-2:] == [("assistant", "two"), ("user", "native")]

    talking(act)


def test_a_chat_request_that_goes_on_adds_to_the_thread(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        await talk.run(talk.chat(("user", "hi"), fresh=False), "one")
        await talk.run(talk.chat(("user", "again"), fresh=False), "two")
        assert await talk.messages() == TWO_TURNS

    talking(act)


def test_a_run_that_nobody_comes_back_to_leaves_nothing(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        live = await talk.run(talk.asked(HI, temporary=True), "one")
        assert live.texts == [("user", "hi")]
        await talk.run(talk.chat(("user", "hi"), temporary=True), "one")
        assert await talk.history() == []

    talking(act)


def test_a_chat_request_that_answers_a_question_is_no_second_copy_of_the_conversation(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        asking = Paused(interrupts=(Interrupt(id="i"),))
        await talk.run(talk.chat(("user", "hi")), "Sure?", final=asking)
        whole = [("user", "hi"), ("assistant", "Sure?"), ("user", "yes")]
        await talk.run(talk.chat(*whole, fresh=False, answer=Answer(text="yes")), "Which?", final=asking)
        await talk.run(talk.chat(("user", "this"), fresh=False, answer=Answer(text="this")), "Done.")
        texts = [text for _, text in await talk.messages()]
        assert texts == ["hi", "Sure?", "yes", "Which?", "this", "Done."]

    talking(act)


def test_a_chat_run_that_keeps_no_content_leaves_none_on_its_thread(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        await talk.run(talk.chat(("user", "hi")), "one", choices=Choices(store=False))
        assert await talk.history() == []
        await talk.run(talk.asked("hi"), "one", choices=Choices(store=False))
        assert await talk.messages() == [*HUMAN, ("ai", "one")]

    talking(act)


def test_an_agent_that_does_not_stop_lets_go_of_the_thread_all_the_same(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        begun, release = asyncio.Event(), asyncio.Event()

        async def stubborn(run: RunInput) -> AsyncGenerator[Event]:
            begun.set()
            while not release.is_set():
                with suppress(asyncio.CancelledError):
                    await release.wait()
            yield TextDelta(text="too late")

        talk.runs = Runs(cancel_grace=0.05)
        others = asyncio.all_tasks()
        execution = talk.execute(talk.asked(HI), stubborn)
        tasks = asyncio.all_tasks() - others
        await begun.wait()
        execution.stop(Cancelled(action="rollback"))
        try:
            await execution.done
            assert await talk.history() == []
            await talk.run(talk.asked("again"), "two")
            known, outcome = await talk.history(), await talk.outcome()
        finally:
            release.set()
        await asyncio.wait(tasks)
        assert await talk.history() == known
        assert await talk.outcome() == outcome

    talking(act)

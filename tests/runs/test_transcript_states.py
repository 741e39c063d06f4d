"""States that are made of transcripts: their history, and what updates, copies and a store that is away do to them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from proxy.adapter import Checkpoint, ThreadName, Update
from proxy.errors import BadRequest, Unavailable
from proxy.model import RunStatus, SavedState, new_id
from proxy.runs.transcripts import younger
from proxy.store.memory.store import MemoryStore
from tests.runs.talks import HI, HUMAN, TWO_TURNS, Talk, Talking, at, ids, raw, told


def test_history_is_paged_and_filtered(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        runs = [await talk.run(talk.asked("hi"), "ho") for _ in range(3)]
        known = await talk.history()
        assert len(known) == 9
        assert await talk.history(limit=2) == known[:2]
        assert await talk.history(limit=2, before=at(known[3])) == known[4:6]
        assert await talk.history(checkpoint=at(known[4])) == [known[4]]
        assert await talk.history(checkpoint=Checkpoint(checkpoint_ns="child")) == []
        assert await talk.history(metadata={"run_id": runs[0].run_id, "step": 0}) == [known[7]]
        assert await talk.history(metadata={"source": "input"}, limit=2) == [known[2], known[5]]
        assert await talk.history(metadata={"nope": None}) == []
        assert await talk.transcripts.state(talk.thread, at(known[4])) == known[4]
        unknown = await talk.transcripts.state(talk.thread, Checkpoint(checkpoint_id=new_id()))
        assert (unknown.values, unknown.checkpoint) == (Raw(b"{}"), None)
        other = ThreadName(tenant="other", thread_id=talk.thread.thread_id)
        assert (await talk.transcripts.state(other)).checkpoint is None

    talking(act)


def test_an_update_writes_as_the_agent_or_before_it(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        async def updated(values: Any, as_node: str | None = None, **place: Any) -> tuple[int, tuple[str, ...], str]:
            made = await talk.transcripts.update(talk.thread, [[Update(values=raw(values), as_node=as_node)]], **place)
            state = await talk.state()
            assert state.checkpoint == made
            about = msgspec.json.decode(state.metadata)
            return about["step"], state.next, about["source"]

        assert await updated("hi") == (-1, ("bot",), "update")
        live = await talk.run(talk.asked(), "one")
        assert live.texts == [("user", "hi")]
        first = await talk.state()
        edit = {"messages": [{"type": "ai", "content": "better", "id": ids(first.values)[1]}]}
        assert await updated(edit) == (1, (), "update")
        assert await talk.messages() == [*HUMAN, ("ai", "better")]
        assert await updated("more", "__start__") == (2, ("bot",), "update")
        assert await updated(None) == (3, ("bot",), "update")
        assert await updated(None, "__end__") == (4, (), "update")
        assert await updated({"messages": [["ai", "said"]]}, "bot", checkpoint=at(first)) == (1, (), "update")
        assert await talk.messages() == [*HUMAN, ("ai", "one"), ("ai", "said")]
        assert (await talk.state()).parent_checkpoint_id == first.checkpoint_id
        assert await updated(None, "__copy__") == (2, (), "fork")
        assert (await talk.state()).parent_checkpoint_id == first.checkpoint_id

    talking(act)


def test_supersteps_make_a_thread_with_a_history(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        steps = [
            [Update(values=raw(HI), as_node="__input__")],
            [Update(values=raw(HI), as_node="__start__")],
            [Update(values=raw([["ai", "a"]]), as_node="bot"), Update(values=raw([["ai", "b"]]), as_node="bot")],
        ]
        await talk.transcripts.update(talk.thread, steps)
        end, loop, start = await talk.history()
        assert [told(state.values) for state in (end, loop, start)] == [[*HUMAN, ("ai", "a"), ("ai", "b")], HUMAN, []]
        assert [state.next for state in (end, loop, start)] == [(), ("bot",), ("__start__",)]
        assert [state.parent_checkpoint_id for state in (end, loop)] == [loop.checkpoint_id, start.checkpoint_id]

    talking(act)


@pytest.mark.parametrize(
    ("update", "said"),
    [
        (Update(values=raw("x"), as_node="nope"), "as `nope`: this agent is one node, `bot`"),
        (Update(as_node="nope"), "as `nope`"),
        (Update(values=raw("x"), as_node="__end__"), "as `__end__`"),
        (Update(as_node="__copy__"), "as `__copy__`"),
        (Update(values=raw({"other": 1})), "nothing else, not `other`"),
        (Update(values=raw([{"type": "remove", "id": "m"}])), "no message `m` to remove"),
    ],
)
def test_an_update_that_does_not_fit_is_refused(talking: Talking, update: Update, said: str) -> None:
    async def act(talk: Talk) -> None:
        with pytest.raises(BadRequest, match=said):
            await talk.transcripts.update(talk.thread, [[update]])
        for steps in ([], [[]]):
            with pytest.raises(BadRequest, match="at least one"):
                await talk.transcripts.update(talk.thread, steps)
        with pytest.raises(BadRequest, match="no checkpoint"):
            await talk.transcripts.update(talk.thread, [[Update()]], Checkpoint(checkpoint_id=new_id()))
        assert await talk.history() == []

    talking(act)


def test_threads_are_copied_pruned_and_taken_back(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        await talk.run(talk.asked(HI), "one")
        known = await talk.history()
        target = ThreadName(thread_id=new_id())
        await talk.transcripts.copy(talk.thread, target)
        copied = await talk.transcripts.history(target, limit=10)
        assert [(state.values, state.checkpoint_id) for state in copied] == [
            (state.values, state.checkpoint_id) for state in known
        ]
        assert {at(state).thread_id for state in copied} == {target.thread_id}
        mark = await talk.transcripts.mark(talk.thread)
        await talk.run(talk.asked("again"), "two")
        await talk.transcripts.rollback(talk.thread, mark)
        assert await talk.history() == known
        await talk.transcripts.keep_newest(talk.thread)
        assert await talk.history() == known[:1]
        await talk.run(talk.asked("again"), "two")
        assert await talk.messages() == TWO_TURNS

    talking(act)


def test_a_new_state_sorts_behind_the_others_though_the_clock_goes_back() -> None:
    tomorrow = "7fffffff-ffff-7000-8000-00000000000f"
    assert younger(tomorrow) == "7fffffff-ffff-7000-8000-000000000010"
    assert younger("") < tomorrow


def test_the_end_of_a_run_waits_for_a_store_that_is_away() -> None:
    class Away(MemoryStore):
        refusals = 0

        async def put_states(self, states: Any) -> None:
            if self.refusals:
                self.refusals -= 1
                raise Unavailable
            await super().put_states(states)

    async def act() -> None:
        store = Away()
        talk = await Talk(store).open()
        live = await talk.start(talk.asked(HI))
        store.refusals = 2
        await live.agent.say("one")
        await live.agent.end()
        await live.execution.done
        assert store.refusals == 0
        assert await talk.messages() == [*HUMAN, ("ai", "one")]
        store.refusals = 1
        live = await talk.start(talk.asked("again"))
        assert (await live.execution.done).status is RunStatus.ERROR
        assert await talk.messages() == [*HUMAN, ("ai", "one")]

    asyncio.run(act())


def test_states_of_one_moment_keep_their_order(talking: Talking) -> None:
    async def act(talk: Talk) -> None:
        await talk.transcripts.update(talk.thread, [[Update(values=raw([["ai", str(step)]]))] for step in range(50)])
        steps = [msgspec.json.decode(state.metadata)["step"] for state in await talk.history()]
        assert steps == list(range(48, -2, -1))
        saved = await talk.store.get_state("default", talk.thread.thread_id)
        assert isinstance(saved, SavedState)
        assert len(msgspec.json.decode(saved.values)["messages"]) == 50

    talking(act)

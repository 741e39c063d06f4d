"""Workflow runs over the end of their server: who waits goes on waiting, what was in flight begins again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from proxy.errors import Unavailable
from proxy.events import Usage
from proxy.store.memory.store import MemoryStore
from proxy.store.workflow import Advance
from proxy.workflow_model import WorkflowEvent, WorkflowRun
from proxy.workflows.board import Policy
from proxy.workflows.costs import cents_in
from tests.store.files import opened
from tests.workflows.hall import Hall, hall, stage, text, types
from tests.workflows.specs import fanout, join, llm
from tests.workflows.test_engine_tools import CLIENT, asks, waiting

Before = Callable[[Hall], Awaitable[WorkflowRun]]
After = Callable[[Hall, WorkflowRun], Awaitable[None]]


def restarted(path: Path, before: Before, after: After, policy: Policy | None = None) -> None:
    """Two servers on one file, one after the other."""

    async def play() -> None:
        async with opened(path) as store, hall(store) as first:
            run = await before(first)
        async with opened(path) as store, hall(store, policy=policy) as second:
            await after(second, await second.record(run))

    asyncio.run(asyncio.wait_for(play(), 40))


def test_a_run_that_waits_goes_on_waiting(tmp_path: Path) -> None:
    async def before(hall: Hall) -> WorkflowRun:
        run = await hall.begin(llm("a", "Look {{where}}!", **CLIENT), input={"where": "up"})
        await asks(hall, "c1", "c2")
        await hall.give(run, await waiting(hall, run), {"c1": "one"})
        return run

    async def after(hall: Hall, run: WorkflowRun) -> None:
        assert run.status == "waiting"
        waits = await waiting(hall, run)
        assert await hall.give(run, waits, {"c2": "two"}) == "running"
        child = await hall.reply("Done.")
        assert [message.text for message in child.given.messages] == ["Look up!", "", "one", "two"]
        log = await hall.log(run)
        assert [event["llm_call"]["step"] for event in log if event["type"] == "node_llm_call"] == [0, 1]
        assert text((await hall.outputs(run))["result"]) == "Done."

    restarted(tmp_path / "runs.db", before, after)


def test_a_node_in_flight_begins_again_and_finished_ones_keep_their_values(tmp_path: Path) -> None:
    async def before(hall: Hall) -> WorkflowRun:
        run = await hall.begin(llm("a"), llm("b", "{{a}}", stream=True))
        await hall.reply("first", Usage(model="m", input_tokens=10, output_tokens=5))
        child = await hall.child()
        await child.say("half an ans")
        await hall.log(run, until="node_output_delta")
        return run

    async def after(hall: Hall, run: WorkflowRun) -> None:
        assert run.status == "running"
        child = await hall.reply("whole")
        assert child.given.text == "first"
        log = await hall.log(run)
        assert types(log).count("node_started") == 2
        assert types(log)[-1] == "run_completed"
        assert text((await hall.outputs(run))["result"]) == "whole"
        assert cents_in((await hall.record(run)).summary) == {"m": 2, "script": 0}

    restarted(tmp_path / "runs.db", before, after)


def test_items_that_had_ended_are_not_asked_again(tmp_path: Path) -> None:
    async def before(hall: Hall) -> WorkflowRun:
        inner = llm("one", "{{item}}")
        run = await hall.begin(fanout("all", inner, items_from_input="items"), input={"items": ["x", "y"]})
        await hall.reply("X")
        await hall.child()
        await hall.log(run, until="node_llm_call")
        return run

    async def after(hall: Hall, run: WorkflowRun) -> None:
        child = await hall.reply("Y")
        assert child.given.text == "y"
        await hall.log(run)
        results = (await hall.outputs(run))["result"]["results"]
        assert [text(each) for each in results] == ["X", "Y"]

    restarted(tmp_path / "runs.db", before, after)


def test_a_model_that_had_its_results_is_asked_with_them_again(tmp_path: Path) -> None:
    async def before(hall: Hall) -> WorkflowRun:
        run = await hall.begin(llm("a", **CLIENT))
        await asks(hall, "c1")
        await hall.give(run, await waiting(hall, run), {"c1": "one"})
        await hall.child()
        return run

    async def after(hall: Hall, run: WorkflowRun) -> None:
        child = await hall.reply("Done.")
        assert child.given.messages[-1].text == "one"
        log = await hall.log(run)
        assert types(log).count("node_waiting") == 1

    restarted(tmp_path / "runs.db", before, after)


def test_time_that_a_caller_had_runs_on_while_no_server_is_there(tmp_path: Path) -> None:
    async def before(hall: Hall) -> WorkflowRun:
        run = await hall.begin(llm("a", **CLIENT))
        await asks(hall, "c1")
        await waiting(hall, run)
        return run

    async def after(hall: Hall, run: WorkflowRun) -> None:
        assert (await hall.log(run))[-1]["error"]["code"] == "tool_wait_timeout"

    restarted(tmp_path / "runs.db", before, after, Policy(tool_wait=0.01))


def test_a_join_still_goes_on_with_what_there_is(tmp_path: Path) -> None:
    async def before(hall: Hall) -> WorkflowRun:
        collect = join("collect", "j", "a", "b", timeout_ms=300)
        run = await hall.begin(llm("a"), llm("b", "fast", model="echo"), collect)
        await hall.child()
        await hall.log(run, until="node_succeeded")
        return run

    async def after(hall: Hall, run: WorkflowRun) -> None:
        await hall.log(run)
        assert list((await hall.outputs(run))["result"]) == ["b"]

    restarted(tmp_path / "runs.db", before, after)


def test_a_cancel_that_nobody_carried_out_is_carried_out(tmp_path: Path) -> None:
    async def before(hall: Hall) -> WorkflowRun:
        run = await hall.begin(llm("a"))
        await hall.child()
        await hall.engine.close()
        await hall.engine.cancel("default", run.run_id)
        return run

    async def after(hall: Hall, run: WorkflowRun) -> None:
        assert types(await hall.log(run))[-1] == "run_canceled"

    restarted(tmp_path / "runs.db", before, after)


@pytest.mark.parametrize("state", [b"{", b""])
def test_a_run_that_cannot_go_on_is_closed(tmp_path: Path, state: bytes) -> None:
    async def before(hall: Hall) -> WorkflowRun:
        run = await hall.begin(llm("a"))
        await hall.child()
        await hall.engine.close()
        [known] = await hall.store.claim_workflows(limit=1)
        assert await hall.store.advance(Advance(run=known, state=state))
        await hall.store.release_workflow(known)
        return run

    async def after(hall: Hall, run: WorkflowRun) -> None:
        log = await hall.log(run)
        assert log[-1]["type"] == "run_failed"
        assert log[-1]["error"]["code"] == "server_restarted"

    restarted(tmp_path / "runs.db", before, after)


def test_a_run_whose_log_somebody_else_writes_is_let_go() -> None:
    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a"))
        child = await hall.child()
        known = await hall.record(run)
        seq = known.last_seq + 1
        line = msgspec.json.encode({"type": "node_started", "node_id": "a", "seq": seq})
        event = WorkflowEvent(seq=seq, type="node_started", body=line + b"\n")
        assert await hall.store.advance(Advance(run=known, events=(event,)))
        await child.end()
        await hall.engine.close()
        assert (await hall.record(run)).last_seq == seq

    stage(scene)


class Away(MemoryStore):
    """A store that may be away."""

    away = False
    refused = 0

    async def advance(self, change: Advance) -> WorkflowRun | None:
        if self.away:
            self.refused += 1
            raise Unavailable("The store is away.")
        return await super().advance(change)


def test_what_happens_while_the_store_is_away_is_written_when_it_is_back() -> None:
    store = Away()

    async def scene(hall: Hall) -> None:
        run = await hall.begin(llm("a"), llm("b", "{{a}}"))
        child = await hall.child()
        store.away = True
        await child.say("Hello")
        await child.end()
        while not store.refused:
            await asyncio.sleep(0.01)
        store.away = False
        second = await hall.reply("Bye")
        assert second.given.text == "Hello"
        assert types(await hall.log(run))[-1] == "run_completed"

    stage(scene, store=store)

"""Workflow runs over a real manager: agents that a test scripts, and every event held to the published schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from proxy.adapter import Adapter, RunInput
from proxy.events import Event, TextDelta
from proxy.runs.agents import Agent, Agents
from proxy.runs.manager import RunManager
from proxy.settings import Agent as AgentSettings
from proxy.settings import Limits, Price, Runs
from proxy.store.memory.store import MemoryStore
from proxy.store.sql.sqlite import SqliteStore
from proxy.store.workflow import EventQuery
from proxy.testing import Script, ScriptedRun
from proxy.wire.workflow_schemas import run_event
from proxy.workflow_model import LAST, WorkflowRun
from proxy.workflows.board import Policy
from proxy.workflows.engine import Engine, Results
from proxy.workflows.launch import Wanted
from proxy.workflows.memory import OUTPUTS, Given
from tests.runs.house import Scenario
from tests.workflows.specs import Json, plan

PATIENCE = 20.0
EVENT = Draft7Validator(run_event())
Play = Callable[[RunInput], AsyncGenerator[Event]]


async def echo(run: RunInput) -> AsyncGenerator[Event]:
    """Says what it was asked."""
    yield TextDelta(text=run.text)


class Hall:
    """An engine and its manager, over a store that may outlive them. The agents are `script`, `echo` and `extra`."""

    def __init__(
        self, store: MemoryStore | SqliteStore, extra: dict[str, Adapter], limits: Limits, policy: Policy
    ) -> None:
        self.store = store
        self.adapter = Script()
        adapters = {"script": self.adapter, "echo": Scenario(echo), **extra}
        settings = AgentSettings(adapter="test", limits=limits, client_tools="pass")
        agents = Agents(Agent(name=name, adapter=each, settings=settings) for name, each in adapters.items())
        runs = Runs(cancel_grace=0.2, prices={"m": Price(input=1000, output=2000)})
        self.manager = RunManager(store, agents, runs)
        self.engine = Engine(store, self.manager, runs.prices, policy)

    async def begin(self, *nodes: Json, outputs: dict[str, str] | None = None, **more: Any) -> WorkflowRun:
        """Start a run of these nodes; `more` are fields of `Wanted`, else of the spec."""
        asked = {name: more.pop(name) for name in list(more) if name in Wanted.__struct_fields__}
        made = plan(*nodes, outputs=outputs, **{"model": "script", **more})
        return await self.engine.start(Wanted(plan=made, **asked))

    async def child(self) -> ScriptedRun:
        """The next child run on `script`."""
        return await asyncio.wait_for(self.adapter.started(), PATIENCE)

    async def reply(self, text: str, *events: Event) -> ScriptedRun:
        """Let the next child run say this and end."""
        child = await self.child()
        await child.say(text, *events)
        await child.end()
        return child

    async def log(self, run: WorkflowRun, until: str = "", count: int = 1) -> list[Json]:
        """The events of a run, to its end or until there are so many of that type; each is checked."""
        found: list[Json] = []
        query = EventQuery(tenant=run.tenant, run_id=run.run_id)
        async with asyncio.timeout(PATIENCE):
            async for batch in self.store.follow_events(query):
                for event in batch:
                    found.append(checked(event.body, len(found) + 1, run))
                    if until and types(found).count(until) == count:
                        return found
        assert [each["type"] for each in found if each["type"] in LAST] == [found[-1]["type"]]
        return found

    async def outputs(self, run: WorkflowRun) -> Any:
        return msgspec.json.decode((await self.store.node_outputs(run.tenant, run.run_id))[OUTPUTS])

    async def record(self, run: WorkflowRun) -> WorkflowRun:
        found = await self.store.get_workflow(run.tenant, run.run_id)
        assert found
        return found

    async def give(self, run: WorkflowRun, waiting: Json, outputs: dict[str, str]) -> str:
        """Answer calls of a `node_waiting`."""
        words = waiting["waiting"]
        results = tuple((name, Given(output)) for name, output in outputs.items())
        asked = Results(node=waiting["node_id"], step=words["step"], request_id=words["request_id"], results=results)
        return (await self.engine.answer(run.tenant, run.run_id, asked)).value


def checked(line: bytes, seq: int, run: WorkflowRun) -> Json:
    assert line.endswith(b"\n")
    assert line.isascii()
    event: Json = msgspec.json.decode(line)
    EVENT.validate(event)
    assert (event["seq"], event["run_id"]) == (seq, run.run_id)
    return event


def types(log: list[Json], node: str = "") -> list[str]:
    return [event["type"] for event in log if not node or event.get("node_id") == node]


def text(value: Any) -> str:
    return str(value["output"][0]["content"][0]["text"])


@asynccontextmanager
async def hall(
    store: MemoryStore | SqliteStore | None = None,
    *,
    limits: Limits | None = None,
    policy: Policy | None = None,
    **extra: Play,
) -> AsyncIterator[Hall]:
    adapters: dict[str, Adapter] = {name: Scenario(play) for name, play in extra.items()}
    here = Hall(store or MemoryStore(), adapters, limits or Limits(), policy or Policy())
    await here.manager.open()
    await here.engine.open()
    try:
        yield here
    finally:
        await here.engine.close()
        await here.manager.drain(0)
        await here.manager.close()


def stage(scene: Callable[[Hall], Awaitable[None]], **more: Any) -> None:
    """Play a scene in a hall of its own."""

    async def play() -> None:
        async with hall(**more) as here:
            await scene(here)

    asyncio.run(asyncio.wait_for(play(), 2 * PATIENCE))

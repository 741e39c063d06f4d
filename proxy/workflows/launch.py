"""How a run begins: what its caller wants, checked and put together with its plan; and how it is found again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

import proxy.wire.workflow as wire
from proxy.errors import ProxyError, UnknownAgent
from proxy.model import Idempotency, new_id
from proxy.runs.agents import Agents
from proxy.store.workflow import Start
from proxy.workflow_model import TakenResult, WorkflowRun
from proxy.workflows.board import Policy
from proxy.workflows.compile import Plan, talkers
from proxy.workflows.inputs import resolved
from proxy.workflows.ledger import Written, event_of
from proxy.workflows.memory import Given, Memory, fitting, items_in, pack
from proxy.workflows.models import Overrides, with_models
from proxy.workflows.plans import saved
from proxy.workflows.scheduling import Schedule
from proxy.workflows.tasks import NodeState, Past, Settled, Task

encode = msgspec.json.Encoder().encode
PATIENCE = 2.0
"""Seconds for a catalogue: clients take an answer that is long in coming for none, and ask again."""

_input = msgspec.json.Decoder(dict[str, Any])


class Wanted(Struct, frozen=True, kw_only=True):
    """A run that somebody asks for. `overrides` are models that beat the plan's."""

    plan: Plan
    tenant: str = "default"
    input: Mapping[str, Any] = {}
    overrides: Overrides = Overrides()
    stream: bool = False
    """Pieces of text from all nodes."""
    session_id: str | None = None
    idempotency: Idempotency | None = None


class Chosen(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Overrides as they are kept; `subnodes` are fan-out, subnode and model."""

    nodes: dict[str, str] = {}
    subnodes: tuple[tuple[str, str, str], ...] = ()
    model: str = ""


_chosen = msgspec.json.Decoder(Chosen)


class Score(Struct, frozen=True):
    """A run ready to be conducted."""

    plan: Plan
    schedule: Schedule
    memory: Memory


async def prepared(wanted: Wanted, agents: Agents, policy: Policy) -> tuple[Start, Score]:
    """What a new run is stored with, and what it is conducted with.

    Raises `InvalidWorkflow` where a node has no model or an unknown one, and `InvalidInput`.
    """
    chosen = with_models(wanted.plan, wanted.overrides)
    plan = with_models(wanted.plan, wanted.overrides, await known(agents, chosen))
    inputs = resolved(plan.workflow, wanted.input)
    start = started(wanted)
    return start, Score(plan, Schedule(plan, inputs, policy), Memory())


async def known(agents: Agents, plan: Plan) -> frozenset[str]:
    """The models of a plan that there are; of a catalogue that cannot be read now, all, for its nodes will tell."""
    names = list({inner.model for node in plan.workflow.nodes for _, inner in talkers(node, ())})
    found = await asyncio.gather(*(is_known(agents, name) for name in names))
    return frozenset(name for name, there in zip(names, found, strict=True) if there)


async def is_known(agents: Agents, name: str) -> bool:
    try:
        async with asyncio.timeout(PATIENCE):
            await agents.find(name)
    except UnknownAgent:
        return False
    except (ProxyError, TimeoutError):
        pass
    return True


def started(wanted: Wanted) -> Start:
    now, run_id, plan_hash = time.time(), new_id(), wanted.plan.hash
    words: tuple[wire.Event, ...] = (wire.RunCompiled(plan_hash=plan_hash), wire.RunStarted(plan_hash=plan_hash))
    run = WorkflowRun(
        run_id=run_id,
        plan_hash=plan_hash,
        tenant=wanted.tenant,
        created_at=now,
        updated_at=now,
        session_id=wanted.session_id,
        stream=wanted.stream,
        input=Raw(encode(wanted.input)),
        overrides=Raw(encode(_kept(wanted.overrides))),
        last_seq=len(words),
    )
    return Start(
        run=run,
        plan=saved(wanted.tenant, wanted.plan),
        events=tuple(event_of(run_id, seq, Written(word, now)) for seq, word in enumerate(words, 1)),
        state=pack(Memory()),
        idempotency=wanted.idempotency,
    )


def _kept(overrides: Overrides) -> Chosen:
    subnodes = tuple((parent, name, model) for (parent, name), model in overrides.subnodes.items())
    return Chosen(nodes=dict(overrides.nodes), subnodes=subnodes, model=overrides.model)


def overrides_of(body: Raw) -> Overrides:
    """Back from a record."""
    kept = _chosen.decode(body)
    subnodes = {(parent, name): model for parent, name, model in kept.subnodes}
    return Overrides(nodes=kept.nodes, subnodes=subnodes, model=kept.model)


class Left(Struct, frozen=True, kw_only=True):
    """What an earlier process has left of a run."""

    run: WorkflowRun
    plan: Plan
    memory: Memory
    outputs: dict[str, bytes]
    results: list[TakenResult]


def taken_up(left: Left, policy: Policy) -> tuple[Score, dict[Task, dict[str, Given]]]:
    """A run that goes on, and the answers that have come and are not in its log yet."""
    plan = with_models(left.plan, overrides_of(left.run.overrides))
    inputs = resolved(plan.workflow, _input.decode(left.run.input))
    memory = left.memory
    answers = {talk.task: fitting(left.results, talk) for talk in memory.talks}
    now = time.time()
    past = Past(
        settled=tuple(_settled(left, name) for name in memory.ended),
        started=memory.started,
        results={name: msgspec.json.decode(body) for name, body in items_in(left.outputs).items()},
        waiting={talk.task: talk.since if len(talk.open) > len(answers[talk.task]) else now for talk in memory.talks},
    )
    return Score(plan, Schedule(plan, inputs, policy, past), memory), answers


def _settled(left: Left, name: str) -> Settled:
    ended = left.memory.ended[name]
    value = msgspec.json.decode(left.outputs[name]) if ended.state is NodeState.SUCCEEDED else None
    return Settled(node=name, state=ended.state, value=value, fault=ended.fault)

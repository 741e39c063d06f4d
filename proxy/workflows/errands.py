"""Child runs: a model or an agent is asked by a run like any other, in a hidden thread.

Limits, costs, cancellation and tools of the agent's own are thus the same as everywhere. A limit on runs under way is
no failure: the run is made once others have ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress

import msgspec
import structlog
from msgspec import Raw, Struct

from proxy.adapter import Answer, RunInput
from proxy.errors import Draining, NotWaiting, ProxyError, TooMany, Unavailable
from proxy.events import Event
from proxy.messages import Message
from proxy.model import Choices, Pause, Run, new_id
from proxy.runs.agents import Published
from proxy.runs.ends import failed
from proxy.runs.manager import RunManager
from proxy.runs.order import Order
from proxy.runs.turns import answer_value
from proxy.wire.workflow_asks import answered
from proxy.wire.workflow_parts import Asked
from proxy.workflows.asks import asked_as, offered, spoken, spoken_tail
from proxy.workflows.ids import short, told
from proxy.workflows.memory import Talk
from proxy.workflows.prompts import Call
from proxy.workflows.tasks import Task

logger = structlog.get_logger(__name__)
encode = msgspec.json.Encoder().encode

SHORTEST_WAIT = 0.1
LONGEST_WAIT = 5.0
"""Seconds between two attempts to make a run while a limit refuses it."""


class Errand(Struct, frozen=True, kw_only=True):
    """One question to a model. `names` are for the child's record: who asks. `talk` is what it goes on from."""

    run_id: str
    """Of the child."""
    tenant: str
    names: dict[str, str]
    call: Call
    talk: Talk | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation."""
        return (*self.call.messages, *(spoken_tail(self.talk) if self.talk is not None else ()))


Tell = Callable[[Sequence[Event]], None]


async def carry_out(manager: RunManager, errand: Errand, tell: Tell) -> None:
    """Ask, and tell what comes, the last of it a final event; nothing where the server goes down.

    Cancelled, it stops the child run.
    """
    try:
        run = await _begun(manager, errand)
    except Draining:
        return
    except ProxyError as error:
        tell([failed(error)])
        return
    try:
        async with aclosing(manager.follow(run, idle=0)) as batches:
            async for batch in batches:
                tell([told(entry.event) for entry in batch])
    except ProxyError as error:
        tell([failed(error)])
    finally:
        manager.stop(run)


async def _begun(manager: RunManager, errand: Errand) -> Run:
    """The child run, once no limit refuses it. Raises `ProxyError`s but those that waiting cures."""
    wait = SHORTEST_WAIT
    order = await order_of(manager, errand)
    while True:
        try:
            return await _made(manager, order)
        except Draining:
            raise
        except (TooMany, Unavailable) as error:
            logger.info("a node waits for a limit on runs", run_id=order.input.run_id, error=error.code)
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)


async def _made(manager: RunManager, order: Order) -> Run:
    """Makes the run; one that was made though nobody waits for it any more is stopped."""
    making = asyncio.ensure_future(manager.create(order))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(lambda made: _stop(manager, made))
        raise


def _stop(manager: RunManager, made: asyncio.Future[Run]) -> None:
    with suppress(ProxyError, asyncio.CancelledError):
        manager.stop(made.result())


async def order_of(manager: RunManager, errand: Errand) -> Order:
    """The run that an errand needs. Raises `UnknownAgent`, or `UpstreamError` if a catalogue cannot be read."""
    published = await manager.agents.find(errand.call.model)
    talk = errand.talk
    pause = None
    if talk is not None and talk.thread_id:
        pause = await _pause(manager, errand, published, talk)
    return Order(
        input=_input(errand, published, pause),
        choices=Choices(metadata=dict(errand.names), on_disconnect="continue"),
        pause=pause,
        group=errand.names["workflow_run_id"],
    )


async def _pause(manager: RunManager, errand: Errand, published: Published, talk: Talk) -> Pause:
    for pause in await manager.pauses(errand.tenant, talk.thread_id, published.agent.name):
        return pause
    raise NotWaiting("The agent does not wait for an answer any more.")


def _input(errand: Errand, published: Published, pause: Pause | None) -> RunInput:
    tools = offered(errand.call) if published.agent.client_tools != "ignore" else ()
    params = {name: Raw(encode(value)) for name, value in errand.call.params.items()}
    if tools:
        params["tools"] = Raw(encode(tools))
    return RunInput(
        run_id=errand.run_id,
        thread_id=errand.run_id if pause is None else pause.thread_id,
        agent=published.agent.name,
        tenant=errand.tenant,
        messages=errand.messages,
        tools=tools,
        params=params,
        answer=None if pause is None or errand.talk is None else answer_of(errand.talk, pause),
        metadata=errand.names,
        model=published.model.id if published.model is not None else None,
        fresh=pause is None,
        temporary=True,
    )


def answer_of(talk: Talk, pause: Pause) -> Answer:
    """What a paused agent is told, by the ids that it knows itself."""
    asked = {asked_as(interrupt): interrupt.id for interrupt in talk.interrupts}
    own = {short(call.call_id): call.call_id for call in pause.calls}
    calls = {own.get(name, name): spoken(given) for name, given in talk.answers.items() if name not in asked}
    values = {asked[name]: answer_value(_said(spoken(given))) for name, given in talk.answers.items() if name in asked}
    return Answer(calls=calls, interrupts=values)


def _said(output: str) -> str:
    """What the user said, where the output of `user_ask` is in a form of its own."""
    found = answered(Asked(id=".", name="."), output, 0, "")
    return output if found is None else found.answer


def errand_of(names: dict[str, str], tenant: str, call: Call, talk: Talk | None = None) -> Errand:
    return Errand(run_id=new_id(), tenant=tenant, names=names, call=call, talk=talk)


def names_of(run_id: str, task: Task) -> dict[str, str]:
    """What the record of a child run says of who asks."""
    names = {"workflow_run_id": run_id, "workflow_node_id": task.node}
    return names if task.item is None else {**names, "workflow_item": str(task.item)}

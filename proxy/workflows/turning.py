"""What the end of a child run means for its node: a value, a failure, or calls that the caller has to answer."""

from __future__ import annotations

from typing import Any, TypeGuard

from msgspec import Struct
from msgspec.structs import replace

import proxy.wire.workflow as wire
from proxy.events import Cancelled, Completed, Event, Failed, Final, Paused, PendingCall
from proxy.messages import Function, Message, ToolCall
from proxy.runs.verdicts import GOING_DOWN, LOST
from proxy.wire.workflow_asks import asked
from proxy.wire.workflow_parts import Call, ToolCalled, Waiting
from proxy.wire.workflow_parts import PendingCall as Pending
from proxy.workflows.asks import shown_as_call, spoken_tail
from proxy.workflows.errands import Errand
from proxy.workflows.faults import Cause, Fault, fault_of
from proxy.workflows.hearing import Hearing, Step, Words, called_of
from proxy.workflows.loops import overrun
from proxy.workflows.memory import Talk
from proxy.workflows.responses import response
from proxy.workflows.tasks import Task

MOST_STEPS = 64
"""How often one task asks its model at most, each time with what the caller's tools gave."""


class Turned(Struct, frozen=True, kw_only=True):
    """`words` are for the log; then one of the others is set, else it is the value."""

    words: Words
    fault: Fault | None = None
    asks: Talk | None = None
    """Of no task, and as of no time yet."""
    value: Any = None


def is_lost(event: Event, *, draining: bool) -> TypeGuard[Failed]:
    """A child's process was lost or goes down, and it is another than this one: it is asked anew."""
    return isinstance(event, Failed) and event.code in (GOING_DOWN.code, LOST.code) and not draining


def turned(errand: Errand, hearing: Hearing, final: Final, *, draining: bool) -> Turned | None:
    """None for a child that ended because the server goes down."""
    if isinstance(final, Failed) and draining and final.code == GOING_DOWN.code:
        return None
    words = hearing.finish(final)
    step = hearing.last
    match final:
        case Failed():
            return Turned(words=words, fault=fault_of(final.code, final.message, final.retry_after))
        case Cancelled():
            fault = Fault(code=Cause.CANCELED.value, message="The run of this node was cancelled.")
            return Turned(words=words, fault=fault)
        case Paused():
            calls = (*final.calls, *map(shown_as_call, final.interrupts))
            asking = hearing.asked_in(calls[0].call_id) if calls else None
        case Completed():
            calls = step.asked if step is not None else ()
            asking = step
    if asking is None or not calls:
        return Turned(words=words, value=_value(errand, hearing, final))
    count = made(errand, hearing)
    if (excess := overrun(errand.call.mode, count + 1, 0)) is not None:  # nobody could hear the answer
        return Turned(words=words, fault=excess)
    turn = _asking(errand, asking, calls, final, words)
    if turn.asks is None:
        return turn
    return replace(turn, asks=replace(turn.asks, unfinished=hearing.unfinished(asking), made=count))


def broken_off(errand: Errand, hearing: Hearing) -> Turned | None:
    """A child that goes on for longer than its node may; None if it may."""
    fault = overrun(errand.call.mode, made(errand, hearing), hearing.tools)
    return None if fault is None else Turned(words=[], fault=fault)


def made(errand: Errand, hearing: Hearing) -> int:
    """Calls of the model for this task."""
    return hearing.begun + (errand.talk.made if errand.talk is not None else 0)


def _value(errand: Errand, hearing: Hearing, final: Final) -> Any:
    text = hearing.last.text if hearing.last is not None else ""
    reason = final.finish_reason if isinstance(final, Completed) else "stop"
    usage = hearing.usage
    return response(errand.run_id, text=text, usage=usage, model=usage.model or errand.call.model, finish_reason=reason)


def _asking(errand: Errand, step: Step, calls: tuple[PendingCall, ...], final: Final, words: Words) -> Turned:
    node = errand.names["workflow_node_id"]
    before = errand.talk
    tail = (*(spoken_tail(before) if before is not None else ()), message_of(step, calls))
    if sum(message.role == "assistant" for message in tail) > MOST_STEPS:
        reason = f"The model asked for tools more than {MOST_STEPS} times in a row."
        return Turned(words=words, fault=Fault(code=Cause.TOO_MANY_CALLS.value, message=reason))
    told = {word.tool_call.tool_call.id for word in words if isinstance(word, wire.NodeToolCall)}
    shown = [called_of(call) for call in calls]
    words = [*words, *_called(node, step, [call for call in shown if call.id not in told])]
    questions = (asked(call, step.number, step.request_id) for call in shown)
    words += [wire.NodeUserAsk(node_id=node, user_ask=each) for each in questions if each is not None]
    pending = tuple(Pending(tool_call=call) for call in shown)
    waiting = Waiting(step=step.number, request_id=step.request_id, pending_tool_calls=pending)
    words.append(wire.NodeWaiting(node_id=node, waiting=waiting))
    paused = isinstance(final, Paused)
    talk = Talk(
        task=Task(node),
        since=0.0,
        step=step.number,
        request_id=step.request_id,
        calls=calls,
        tail=tail,
        thread_id=thread_of(errand) if paused else "",
        interrupts=final.interrupts if isinstance(final, Paused) else (),
    )
    return Turned(words=words, asks=talk)


def _called(node: str, step: Step, calls: list[Call]) -> Words:
    """What was not told of as calls of a model: questions of a paused agent."""
    return [
        wire.NodeToolCall(
            node_id=node, tool_call=ToolCalled(step=step.number, request_id=step.request_id, tool_call=call)
        )
        for call in calls
    ]


def thread_of(errand: Errand) -> str:
    """Where a paused agent goes on."""
    return errand.run_id if errand.talk is None else errand.talk.thread_id or errand.run_id


def message_of(step: Step, calls: tuple[PendingCall, ...]) -> Message:
    """What the model has said, as it stands in the conversation."""
    asked_for = tuple(
        ToolCall(id=call.call_id, function=Function(name=call.name, arguments=call.arguments)) for call in calls
    )
    return Message(role="assistant", content=step.text or None, tool_calls=asked_for)

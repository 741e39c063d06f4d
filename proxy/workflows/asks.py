"""Tools that are the caller's: how they are offered, and how what they give goes back to the model.

`user_ask` is the tool by which a model asks a person; see `proxy.wire.workflow_asks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import UNSET, Raw

import proxy.wire.workflow as wire
from proxy.errors import Conflict, NotFound
from proxy.events import Interrupt, PendingCall
from proxy.messages import Message, Tool, ToolFunction
from proxy.transcript import question
from proxy.wire.workflow_asks import answered
from proxy.wire.workflow_parts import Asked, CallName, ToolResult
from proxy.workflows.hearing import NAMELESS
from proxy.workflows.ids import short
from proxy.workflows.memory import Given, Talk
from proxy.workflows.prompts import USER_ASK, Call

INTERRUPT = "call_"
"""Before the id of a question that a paused agent asks, where it is shown as a call."""

ASK_PARAMETERS = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "description": "What the user is asked."},
        "options": {
            "type": "array",
            "description": "Answers to choose from.",
            "items": {
                "type": "object",
                "properties": {"label": {"type": "string"}, "description": {"type": "string"}},
                "required": ["label"],
            },
        },
        "allow_freeform": {"type": "boolean", "description": "Whether other answers are welcome."},
    },
    "required": ["question"],
}
ASK = ToolFunction(
    name=USER_ASK,
    description="Ask the user a question, and wait for the answer.",
    parameters=Raw(msgspec.json.encode(ASK_PARAMETERS)),
)


def offered(call: Call) -> tuple[Tool, ...]:
    """All tools that a model is offered; those without a definition take anything."""
    named = (ASK if name == USER_ASK else ToolFunction(name=name) for name in call.names)
    return (*call.tools, *(Tool(type="function", function=function) for function in named))


def result_of(talk: Talk, call: PendingCall, given: Given) -> ToolResult:
    return ToolResult(
        step=talk.step,
        request_id=talk.request_id,
        tool_call=CallName(id=call.call_id, name=call.name or NAMELESS, arguments=call.arguments),
        output=given.output,
        error=given.error or UNSET,
    )


def spoken(given: Given) -> str:
    """What the model is told of a result."""
    return f"Error: {given.error}" if given.error and not given.output else given.output


def asked_as(interrupt: Interrupt) -> str:
    """The id of the call as which a question of a paused agent is shown."""
    return short(INTERRUPT + interrupt.id)


def shown_as_call(interrupt: Interrupt) -> PendingCall:
    """A question of a paused agent, which has no word for it but its own."""
    arguments = msgspec.json.encode({"question": question(interrupt.value), "allow_freeform": True})
    return PendingCall(call_id=asked_as(interrupt), name=USER_ASK, arguments=arguments.decode())


def spoken_tail(talk: Talk) -> tuple[Message, ...]:
    """A conversation up to the results of its last calls."""
    results = tuple(
        Message(role="tool", content=spoken(talk.answers[call.call_id]), tool_call_id=call.call_id)
        for call in talk.calls
        if call.call_id in talk.answers
    )
    return (*talk.tail, *results)


def open_talk(talks: Iterable[Talk], node: str, request: tuple[int, str], calls: Sequence[str]) -> Talk:
    """What waits for results of these calls; `request` is the step and the request_id that asked.

    Raises `NotFound` if the node waits for none, `Conflict` if it waits for others.
    """
    open_ = [talk for talk in talks if talk.task.node == node and talk.open]
    if not open_:
        raise NotFound(f"Node `{node[:64]}` waits for no tool results; GET pending-tools lists what is open.")
    found = [talk for talk in open_ if (talk.step, talk.request_id) == request]
    if not found:
        raise Conflict(f"Node `{node}` does not wait at step {request[0]} of that request_id.", param="step")
    left = [call.call_id for call in found[0].open]
    for name in calls:
        if name not in left:
            raise Conflict(f"No call `{name[:64]}` is open there; it may be answered already.", param="results")
        left.remove(name)
    return found[0]


def words_of(talk: Talk, given: Mapping[str, Given]) -> list[wire.Event]:
    """What the log says of answers to open calls."""
    words: list[wire.Event] = []
    for call in talk.open:
        if (each := given.get(call.call_id)) is None:
            continue
        if call.name == USER_ASK:
            said = answered(Asked(id=call.call_id, name=call.name), each.output, talk.step, talk.request_id)
            words += [] if said is None else [wire.NodeUserAnswer(node_id=talk.task.node, user_answer=said)]
        words.append(wire.NodeToolResult(node_id=talk.task.node, tool_result=result_of(talk, call, each)))
    return words

"""Tools that are the caller's: how they are offered, and how what they give goes back to the model.

`user_ask` is the tool by which a model asks a person; see `proxy.wire.workflow_asks`.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw

from proxy.events import Interrupt, PendingCall
from proxy.messages import Message, Tool, ToolFunction
from proxy.transcript import question
from proxy.wire.workflow_parts import CallName, ToolResult
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
        tool_call=CallName(id=call.call_id, name=call.name, arguments=call.arguments),
        output=given.output,
        error=given.error or UNSET,
    )


def spoken(given: Given) -> str:
    """What the model is told of a result."""
    return f"Error: {given.error}" if given.error and not given.output else given.output


def shown_as_call(interrupt: Interrupt) -> PendingCall:
    """A question of a paused agent, which has no word for it but its own."""
    arguments = msgspec.json.encode({"question": question(interrupt.value), "allow_freeform": True})
    return PendingCall(call_id=INTERRUPT + interrupt.id, name=USER_ASK, arguments=arguments.decode())


def spoken_tail(talk: Talk) -> tuple[Message, ...]:
    """A conversation up to the results of its last calls."""
    results = tuple(
        Message(role="tool", content=spoken(talk.answers[call.call_id]), tool_call_id=call.call_id)
        for call in talk.calls
        if call.call_id in talk.answers
    )
    return (*talk.tail, *results)

"""One event of each kind, and a log that tells of a whole run."""

from __future__ import annotations

from collections.abc import Iterable

import jsonschema
import msgspec

from proxy.wire.workflow import (
    Event,
    NodeFailed,
    NodeLlmCall,
    NodeOutput,
    NodeOutputDelta,
    NodeStarted,
    NodeSucceeded,
    NodeToolCall,
    NodeToolResult,
    NodeUserAnswer,
    NodeUserAsk,
    NodeWaiting,
    RunCanceled,
    RunCompiled,
    RunCompleted,
    RunFailed,
    RunStarted,
    envelope,
)
from proxy.wire.workflow_parts import (
    Artifact,
    Asked,
    Call,
    CallName,
    Delta,
    Info,
    LlmCall,
    Option,
    PendingCall,
    Problem,
    Tokens,
    ToolCalled,
    ToolResult,
    UserAnswer,
    UserAsk,
    Waiting,
)
from proxy.wire.workflow_schemas import run_event

RUN = "0190d5a0-0000-7000-8000-000000000001"
REQUEST = "0190d5a0-0000-7000-8000-0000000000aa"
AT = 1_700_000_000.25
HASH = "ab" * 32
CALL = Call(id="c1", name="search", arguments='{"q":"x"}')
ASK = Call(id="c2", name="user_ask", arguments='{"question":"Which?"}')
INFO = Info(bytes=2, sha256="cd" * 32)
PROBLEM = Problem(message="It broke.", code="llm_error")

VALIDATOR = jsonschema.Draft7Validator(run_event())


def llm_call(step: int = 0, model: str = "gpt", tokens: int = 3, request: str = REQUEST) -> LlmCall:
    usage = Tokens(input_tokens=tokens, output_tokens=2, total_tokens=tokens + 2)
    return LlmCall(
        step=step, request_id=request, provider="openai", model=model, response_id="r", stop_reason="stop", usage=usage
    )


def waits(*calls: Call, node: str = "a", step: int = 0) -> NodeWaiting:
    pending = tuple(PendingCall(tool_call=call) for call in calls)
    return NodeWaiting(node_id=node, waiting=Waiting(step=step, request_id=REQUEST, pending_tool_calls=pending))


def called(call: Call, node: str = "a", step: int = 0) -> NodeToolCall:
    return NodeToolCall(node_id=node, tool_call=ToolCalled(step=step, request_id=REQUEST, tool_call=call))


def answered(call: Call, output: str = "done", node: str = "a", step: int = 0) -> NodeToolResult:
    name = CallName(id=call.id, name=call.name)
    return NodeToolResult(
        node_id=node, tool_result=ToolResult(step=step, request_id=REQUEST, tool_call=name, output=output)
    )


EVENTS: list[Event] = [
    RunCompiled(plan_hash=HASH),
    RunStarted(plan_hash=HASH),
    NodeStarted(node_id="a"),
    NodeOutputDelta(node_id="a", delta=Delta(kind="message_start", response_id="r", model="gpt")),
    NodeOutputDelta(node_id="a", delta=Delta(kind="message_delta", text_delta="Hé 😀 \u2028")),
    NodeOutputDelta(node_id="a", delta=Delta(kind="message_stop")),
    NodeLlmCall(node_id="a", llm_call=llm_call()),
    NodeLlmCall(node_id="a", llm_call=LlmCall(step=1, request_id=REQUEST)),
    called(CALL),
    NodeUserAsk(
        node_id="a",
        user_ask=UserAsk(
            step=0,
            request_id=REQUEST,
            tool_call=ASK,
            question="Which?",
            options=(Option(label="x"), Option(label="y", description="Y")),
        ),
    ),
    waits(CALL, ASK),
    NodeUserAnswer(
        node_id="a",
        user_answer=UserAnswer(
            step=0, request_id=REQUEST, tool_call=Asked(id="c2", name="user_ask"), answer="x", is_freeform=False
        ),
    ),
    answered(CALL),
    NodeOutput(node_id="a", output=Artifact(artifact_key="node_output.v0", info=INFO)),
    NodeSucceeded(node_id="a"),
    NodeFailed(node_id="a", error=PROBLEM),
    RunCompleted(plan_hash=HASH, outputs=Artifact(artifact_key="run_outputs.v0", info=INFO)),
    RunFailed(plan_hash=HASH, error=PROBLEM),
    RunCanceled(plan_hash=HASH, error=Problem(message="Canceled.")),
]


def lines(events: Iterable[Event]) -> list[bytes]:
    """The lines of a log, each checked against the published schema."""
    found = []
    for seq, event in enumerate(events, start=1):
        line = envelope(event, run_id=RUN, seq=seq, at=AT + seq)
        VALIDATOR.validate(msgspec.json.decode(line))
        found.append(line)
    return found

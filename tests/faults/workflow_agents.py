"""The agent of the workflows that processes hand to one another: asks its caller, or waits for leave, and says what it
was given.

`call NAME` asks the caller's tool, and says its result the next time; the other lines are those of `fleet_agents`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from adapters.plain import Request
from proxy.events import Completed, Event, ToolCallDelta, Usage
from tests.faults.fleet_agents import act, trace


async def worker(request: Request) -> AsyncIterator[str | Event]:
    trace("asked", request.metadata.get("workflow_item", request.metadata.get("workflow_node_id", "")))
    results = [message.text for message in request.messages if message.role == "tool"]
    if results:
        yield " ".join(results)
        return
    for line in request.text.splitlines():
        verb, _, rest = line.partition(" ")
        if verb == "call":
            yield ToolCallDelta(call_id="call_1", name=rest, arguments="{}", client=True)
            yield Completed(finish_reason="tool_calls")
            return
        async for word in act(verb, rest):
            yield word
    yield Usage(input_tokens=10, output_tokens=5)

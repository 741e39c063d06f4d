"""The value of an llm node: what its model said, in the form of a response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.events import Usage
from proxy.messages import ToolCall

STOP_REASONS = {"stop": "stop", "length": "max_tokens", "tool_calls": "tool_calls", "content_filter": "content_filter"}
"""By OpenAI's finish reasons."""


def response(
    name: str, *, text: str, usage: Usage, model: str = "", finish_reason: str = "stop", calls: Sequence[ToolCall] = ()
) -> dict[str, Any]:
    """The value; `name` is the id of the response. There is always a text, if an empty one, for pointers to find."""
    message: dict[str, Any] = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": text}],
    }
    functions = [(call.id, call.function) for call in calls if call.function is not None]
    if functions:
        message["tool_calls"] = [
            {"id": id_, "type": "function", "function": {"name": function.name, "arguments": function.arguments}}
            for id_, function in functions
        ]
    return {
        "id": name,
        "model": model or usage.model,
        "output": [message],
        "stop_reason": STOP_REASONS.get(finish_reason, finish_reason),
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
    }

"""The body of a chat completions request.

Source: OpenAI's API reference for `/v1/chat/completions`; the field `runwire` is our own.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from proxy.messages import Message, Tool


class StreamOptions(Struct, frozen=True):
    include_usage: bool | None = None


class Extension(Struct, frozen=True, kw_only=True):
    """Our own part of a request: the field `runwire`, or the headers `X-Runwire-*`, which are weaker."""

    on_disconnect: Literal["cancel", "continue"] | None = None
    background: bool | None = None
    keepalive: bool | float | None = None
    show: dict[str, str] | None = None
    max_steps: int | None = None
    thread_id: str | None = None
    context: dict[str, Any] | None = None
    model: str | None = None


class ChatRequest(Struct, frozen=True, kw_only=True):
    """The fields that mean something to the proxy; all others go on to the agent as they are."""

    model: str
    messages: tuple[Message, ...]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    tools: tuple[Tool, ...] | None = None
    tool_choice: str | dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    store: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | tuple[str, ...] | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    response_format: dict[str, Any] | None = None
    modalities: tuple[str, ...] | None = None
    service_tier: str | None = None
    verbosity: str | None = None
    prompt_cache_key: str | None = None
    runwire: Extension | None = None


CONSUMED = frozenset(
    {"model", "messages", "stream", "stream_options", "n", "metadata", "user", "safety_identifier", "store", "runwire"}
)
"""Fields that the proxy itself answers for; the rest is passed on as `params`."""

"""What stands in the events of a workflow run; see `workflow`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

Kind = Literal["message_start", "message_delta", "message_stop", "tool_use_start", "tool_use_delta", "tool_use_stop"]
Provider = Literal["anthropic", "openai", "xai", "google-ai-studio"]
Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]


class Closed(Struct, frozen=True, kw_only=True):
    """Base of all parts of events."""


class Delta(Closed, frozen=True):
    """A piece of an answer; the `text_delta`s between a start and a stop are its text."""

    kind: Kind
    text_delta: str | UnsetType = UNSET
    response_id: str | UnsetType = UNSET
    model: str | UnsetType = UNSET


class Tokens(Closed, frozen=True):
    input_tokens: Count | UnsetType = UNSET
    output_tokens: Count | UnsetType = UNSET
    total_tokens: Count | UnsetType = UNSET


class LlmCall(Closed, frozen=True):
    """One call of a model. `step` counts from 0 in each node; the `request_id` is a UUID."""

    step: Count
    request_id: Text
    provider: Provider | UnsetType = UNSET
    model: Text | UnsetType = UNSET
    response_id: str | UnsetType = UNSET
    stop_reason: str | UnsetType = UNSET
    usage: Tokens | UnsetType = UNSET


class Call(Closed, frozen=True):
    """A tool call, `arguments` being JSON text as the model wrote it."""

    id: Text
    name: Text
    arguments: str


class CallName(Closed, frozen=True):
    """A tool call whose arguments are known already."""

    id: Text
    name: Text
    arguments: str | UnsetType = UNSET


class ToolCalled(Closed, frozen=True):
    """`step` and `request_id` are those of the model call that asked, here and below."""

    step: Count
    request_id: Text
    tool_call: Call


class Option(Closed, frozen=True):
    label: Text
    description: str | UnsetType = UNSET


class UserAsk(ToolCalled, frozen=True):
    """A question for the user."""

    question: Text
    options: tuple[Option, ...] | UnsetType = UNSET
    allow_freeform: bool = True


class PendingCall(Closed, frozen=True):
    tool_call: Call


class Waiting(Closed, frozen=True):
    """Tool calls that the caller has to answer; clients act on this one reason alone."""

    step: Count
    request_id: Text
    pending_tool_calls: Annotated[tuple[PendingCall, ...], Meta(min_length=1)]
    reason: Literal["tool_results"] = "tool_results"


class Asked(Closed, frozen=True):
    id: Text
    name: Text


class UserAnswer(Closed, frozen=True):
    step: Count
    request_id: Text
    tool_call: Asked
    answer: Text
    is_freeform: bool


class ToolResult(Closed, frozen=True):
    step: Count
    request_id: Text
    tool_call: CallName
    output: str
    error: str | UnsetType = UNSET


class Info(Closed, frozen=True):
    """What a payload is, of its compact JSON; `content` only for readers who asked for it."""

    bytes: Count
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    included: bool = False
    content: Raw | UnsetType = UNSET


class Artifact(Closed, frozen=True):
    """A payload that is kept elsewhere."""

    artifact_key: Text
    info: Info


class Problem(Closed, frozen=True):
    message: Text
    code: Text | UnsetType = UNSET

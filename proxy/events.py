"""The neutral vocabulary: what a run says, whoever runs it and whoever listens.

Adapters write these words, the log keeps them, encoders turn them into a wire format. The union is
closed: a word is added only if two adapters can say it or one wire cannot do without it; all else is
`Custom`. This module imports nothing of ours.

Deltas concatenate: joining `text` over one `part` is the message, joining `arguments` over one
`call_id` is valid JSON. A new `part` is a new message; nothing starts and nothing ends.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

NULL = Raw(b"null")


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """Base of all events. `gc=False` is safe, since no event can hold a reference to itself."""


class RunStarted(Word, frozen=True, tag="run_started"):
    """First entry of a run, and of each takeover; `resumes_after` is the last number that still counts."""

    run_id: str
    thread_id: str
    agent: str
    attempt: int = 1
    resumes_after: int | None = None


class TextDelta(Word, frozen=True, tag="text_delta"):
    """A piece of the answer. `path` names the sub-agents it comes from, outermost first."""

    text: str
    part: str = ""
    path: tuple[str, ...] = ()


class ReasoningDelta(Word, frozen=True, tag="reasoning_delta"):
    """A piece of the model's thinking, never part of the answer."""

    text: str
    part: str = ""
    path: tuple[str, ...] = ()


class ToolCallDelta(Word, frozen=True, tag="tool_call_delta"):
    """A piece of a tool call; `call_id` and `name` stand on every piece.

    `client` is true only where the caller must run the tool. The agent's own calls are never
    handed to a caller as if they were the caller's.
    """

    call_id: str
    name: str
    index: int = 0
    arguments: str = ""
    client: bool = False
    part: str = ""
    path: tuple[str, ...] = ()


class ToolResult(Word, frozen=True, tag="tool_result"):
    """What a tool of the agent's own gave back."""

    call_id: str
    output: str
    is_error: bool = False
    path: tuple[str, ...] = ()


class Usage(Word, frozen=True, tag="usage"):
    """Tokens of one model call. Totals are the fold's business."""

    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Custom(Word, frozen=True, tag="custom"):
    """Anything else an agent wants to tell; `data` is JSON."""

    name: str
    data: Raw = NULL
    path: tuple[str, ...] = ()


class Frame(Word, frozen=True, tag="frame"):
    """A native stream part of one of the modes the run was created with; `data` is JSON, passed on byte for byte."""

    mode: str
    data: Raw
    ns: tuple[str, ...] = ()


class Interrupt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One question of a paused run; `value` is JSON."""

    id: str
    value: Raw = NULL


class PendingCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One tool call that waits for the caller's result; `arguments` is JSON text."""

    call_id: str
    name: str
    arguments: str = "{}"


class Paused(Word, frozen=True, tag="paused"):
    """Final: the run waits for answers, which arrive as a new run that resumes this one."""

    interrupts: tuple[Interrupt, ...] = ()
    calls: tuple[PendingCall, ...] = ()


class Completed(Word, frozen=True, tag="completed"):
    """Final: the agent is done. `finish_reason` is OpenAI's word: stop, length, tool_calls or content_filter."""

    finish_reason: str = "stop"
    stop_reason: str = ""


class Failed(Word, frozen=True, tag="failed"):
    """Final: the run broke. `message` may be shown to a client; `status` is the HTTP status it would have been.

    `retry_after` is in seconds; `retryable` says whether asking again can help. `kind` is the class of the agent's
    own exception, where that may be shown.
    """

    code: str
    message: str
    status: int = 500
    retryable: bool = False
    retry_after: float | None = None
    kind: str = ""


class Cancelled(Word, frozen=True, tag="cancelled"):
    """Final: somebody stopped the run. `action` is `interrupt` or `rollback`."""

    action: str = "interrupt"


Final = Paused | Completed | Failed | Cancelled
Event = (
    RunStarted
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | ToolResult
    | Usage
    | Custom
    | Frame
    | Paused
    | Completed
    | Failed
    | Cancelled
)

FINAL = (Completed, Failed, Cancelled, Paused)


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line of a run's log: its number, the time it was written (seconds since 1970), the event."""

    seq: int
    at: float
    event: Event

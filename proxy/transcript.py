"""The one fold: what a run's events amount to. Pure; feed it in order.

`Tally` adds up what the record needs, `cents` rounds what it costs; `Calls` assembles tool calls from their pieces;
`question` words an interrupt.

**A run that lost its process** goes on in the same log, from a `RunStarted` that says so (`goes_on`). What was whole
then counts: a message that another word has followed, a tool's result, or the count of its model call. What was still
being said is said again, so who puts messages together drops that part; a message whose calls get their results in the
next attempt was whole after all. Who has shown such a part, and cannot take it back, ends with `LOST`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
from msgspec import Raw

from proxy.events import Event, Failed, PendingCall, ReasoningDelta, RunStarted, TextDelta, ToolCallDelta, Usage

LOST = Failed(code="worker_lost", message="The process that did the run was lost.", status=503, retryable=True)


class Tally:
    """Sums over a run's events: tokens of all its model calls, and when its first token came."""

    __slots__ = ("calls", "cost", "first_token", "usage")

    def __init__(self) -> None:
        self.usage = Usage()
        self.calls = 0
        self.cost = 0.0
        self.first_token: float | None = None

    def add(self, usage: Usage, cost: float = 0.0) -> None:
        """Count one model call and what it cost."""
        self.cost += cost
        self.usage = total((self.usage, usage))
        self.calls += 1


def cents(cost: float) -> int:
    """What something cost in whole cents, half a cent up; a hair more, for sums of fractions fall short of it."""
    return math.floor(cost * 100 + 0.5 + 1e-9)


def total(usages: Iterable[Usage]) -> Usage:
    """The sum; `model` is the last one named."""
    models, inputs, outputs, cached, reasoning = "", 0, 0, 0, 0
    for usage in usages:
        models = usage.model or models
        inputs += usage.input_tokens
        outputs += usage.output_tokens
        cached += usage.cached_tokens
        reasoning += usage.reasoning_tokens
    return Usage(
        model=models, input_tokens=inputs, output_tokens=outputs, cached_tokens=cached, reasoning_tokens=reasoning
    )


class Calls:
    """Tool calls put together from their deltas, in the order they began."""

    def __init__(self) -> None:
        self._calls: dict[str, tuple[str, list[str]]] = {}

    def add(self, delta: ToolCallDelta) -> bool:
        """Add a piece; True if it begins a call."""
        known = self._calls.get(delta.call_id)
        if known is None:
            self._calls[delta.call_id] = (delta.name, [delta.arguments])
            return True
        known[1].append(delta.arguments)
        return False

    def index(self, call_id: str) -> int:
        return list(self._calls).index(call_id)

    def take(self, call_id: str) -> PendingCall | None:
        """One call as far as it has come."""
        known = self._calls.get(call_id)
        return None if known is None else PendingCall(call_id=call_id, name=known[0], arguments="".join(known[1]))

    def all(self) -> tuple[PendingCall, ...]:
        return tuple(
            PendingCall(call_id=call_id, name=name, arguments="".join(pieces))
            for call_id, (name, pieces) in self._calls.items()
        )


def goes_on(event: Event) -> bool:
    """True where a run goes on that lost its process."""
    return isinstance(event, RunStarted) and event.resumes_after is not None


def is_token(event: Event) -> bool:
    """True for a piece of output that a person would see arrive."""
    return isinstance(event, (TextDelta, ReasoningDelta, ToolCallDelta))


def class_of(failed: Failed) -> str:
    """The class of the exception, or our code in the form of one: `llm_timeout` is `LlmTimeout`."""
    return failed.kind or "".join(word.capitalize() for word in failed.code.split("_"))


QUESTION_KEYS = ("question", "message", "prompt", "description", "text", "content")
UNASKED = "The agent has paused. Answer to let it go on."
"""What is shown of an interrupt that says nothing."""


def question(value: Raw) -> str:
    """An interrupt's value as a sentence: the text itself, the usual fields of an object, else its JSON."""
    thing = msgspec.json.decode(value)
    if thing is None or thing == "":
        return UNASKED
    if isinstance(thing, str):
        return thing
    if isinstance(thing, dict):
        for key in QUESTION_KEYS:
            if isinstance(thing.get(key), str) and thing[key]:
                return str(thing[key])
    return msgspec.json.format(bytes(value), indent=2).decode()

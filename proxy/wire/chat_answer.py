"""A chat completion as one whole; `chat` has the stream, and what both share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from msgspec import UNSET, Struct, UnsetType

from proxy.events import Completed, Entry, Event, Failed, Paused, RunStarted, TextDelta, Usage
from proxy.transcript import LOST, cents, goes_on, total
from proxy.wire.chat import Head, Tokens, finish_reason, tokens
from proxy.wire.shown import Presenter, Shown

json = msgspec.json.Encoder()


class Function(Struct, frozen=True):
    name: str
    arguments: str


class Call(Struct, frozen=True):
    id: str
    function: Function
    type: str = "function"


class Answer(Struct, frozen=True, kw_only=True):
    role: str = "assistant"
    content: str | None = None
    refusal: None = None
    annotations: tuple[()] = ()
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: tuple[Call, ...] | UnsetType = UNSET


class Choice(Struct, frozen=True, kw_only=True):
    index: int
    message: Answer
    logprobs: None = None
    finish_reason: str


class Completion(Struct, frozen=True, kw_only=True):
    id: str
    object: str = "chat.completion"
    created: int
    model: str
    system_fingerprint: None = None
    choices: tuple[Choice, ...]
    usage: Tokens
    cost_cents: int | UnsetType = UNSET
    """Ours, and only where it is asked for."""


class ChatFold:
    """One choice of a whole answer, folded from the same entries as a stream; `charge` says what a model call costs."""

    def __init__(
        self, head: Head, shown: Shown, *, index: int = 0, charge: Callable[[Usage], float] | None = None
    ) -> None:
        self._charge = charge
        self._head = head
        self._shown = shown
        self._presenter = Presenter(shown)
        self._index = index
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._usage: list[Usage] = []
        self._reason = "stop"
        self.failed: Failed | None = None
        """Set if the run failed: there is no answer then."""

    def feed(self, entry: Entry) -> None:
        event = entry.event
        if type(event) is TextDelta and event.part == self._presenter.plain_part and event.text:
            self._content.append(event.text)
            return
        match event:
            case RunStarted():
                if goes_on(event) and (self._content or self._reasoning or self._presenter.calls):
                    self.failed = LOST
            case Usage():
                self._usage.append(event)
            case Failed():
                self.failed = event
            case Completed() | Paused():
                self._add(event)
                self._reason = finish_reason(event, self._presenter)
            case _:
                self._add(event)

    def _add(self, event: Event) -> None:
        for piece in self._presenter.pieces(event):
            if piece.call is None:
                (self._reasoning if piece.reasoning else self._content).append(piece.text)

    @property
    def usage(self) -> Usage:
        return total(self._usage)

    @property
    def cents(self) -> int | None:
        """What the run has cost; None where nobody asks."""
        return None if self._charge is None else cents(sum(map(self._charge, self._usage), 0.0))

    def answer(self) -> bytes:
        """The whole answer, if this is its only choice."""
        return completion(self._head, [self])

    def choice(self) -> Choice:
        calls = tuple(Call(call.call_id, Function(call.name, call.arguments)) for call in self._presenter.calls)
        content = "".join(self._content)
        thought = "".join(self._reasoning) if self._reasoning else UNSET
        message = Answer(
            content=content if content or not calls else None,
            reasoning_content=thought if self._shown.reasoning != "reasoning" else UNSET,
            reasoning=thought if self._shown.reasoning == "reasoning" else UNSET,
            tool_calls=calls or UNSET,
        )
        return Choice(index=self._index, message=message, finish_reason=self._reason)


def cost_of(folds: Iterable[ChatFold]) -> int | None:
    """The sum of what the runs have cost."""
    found = [fold.cents for fold in folds]
    return None if None in found else sum(each or 0 for each in found)


def completion(head: Head, folds: list[ChatFold]) -> bytes:
    """The whole answer as JSON."""
    cost = cost_of(folds)
    return json.encode(
        Completion(
            id=head.id,
            created=head.created,
            model=head.model,
            choices=tuple(fold.choice() for fold in folds),
            usage=tokens(total(fold.usage for fold in folds)),
            cost_cents=UNSET if cost is None else cost,
        )
    )

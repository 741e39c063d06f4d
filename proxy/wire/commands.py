"""What clients of the event protocol ask, and how they are answered. Source: as `proxy.wire.protocol`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.events import NULL
from proxy.wire.asked import Body, Config
from proxy.wire.protocol import CHANNELS, View, is_channel
from proxy.wire.runs_body import Send, Strategy

Code = Literal[
    "invalid_argument",
    "unknown_command",
    "unknown_error",
    "no_such_run",
    "no_such_interrupt",
    "no_such_subscription",
    "not_supported",
]


class Command(Struct, frozen=True):
    """One command; `params` is JSON. Whether id and method are what they must be is for who obeys it to see."""

    id: Any = None
    method: Any = None
    params: Raw = msgspec.field(default_factory=lambda: NULL)


class RunStart(Body, frozen=True, kw_only=True, rename={"multitask_strategy": "multitaskStrategy"}):
    """A new run; one on from an earlier state names that in `config.configurable.checkpoint_id`."""

    assistant_id: Any = None
    input: Raw = NULL
    config: Config | None = None
    context: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    multitask_strategy: Strategy | None = None


class Response(Struct, frozen=True, kw_only=True):
    """The answer to one question. A run's namespace is of no matter: the ids of questions are unique."""

    interrupt_id: Any = None
    response: Raw = NULL


class InputRespond(Response, frozen=True, kw_only=True):
    """One answer, or several at once in `responses`; with a change of the state, and where to go on."""

    responses: tuple[Response, ...] | None = None
    update: Raw | UnsetType = UNSET
    goto: str | Send | tuple[str | Send, ...] | None = None
    config: Config | None = None
    metadata: dict[str, Any] | None = None

    @property
    def given(self) -> tuple[Response, ...]:
        return (self,) if self.responses is None else self.responses


class Listening(Body, frozen=True, kw_only=True):
    """What a listener asks for; see `View`. `since` is the number of the last event that it has."""

    channels: Any = None
    namespaces: tuple[tuple[str, ...], ...] | None = None
    depth: int | None = None
    since: int | None = None

    @property
    def fault(self) -> str | None:
        """Why nothing can be heard like this."""
        if not isinstance(self.channels, list) or not self.channels:
            return "channels is required and must be a non-empty array"
        if unknown := [str(name)[:64] for name in self.channels if not is_channel(name)]:
            names = ", ".join(sorted(CHANNELS))
            return (
                f"channels contains unsupported entries: {', '.join(unknown[:10])}. "
                f"Allowed: {names}, or any `custom:<name>`."
            )
        return None

    @property
    def view(self) -> View:
        return View(channels=frozenset(self.channels), namespaces=self.namespaces or (), depth=self.depth)


class Unsubscribe(Body, frozen=True, kw_only=True):
    subscription_id: Any = None


class RunResult(Struct, frozen=True):
    run_id: str


class Nothing(Struct, frozen=True):
    """A result that says no more than that it is done."""


class SubscribeResult(Struct, frozen=True):
    subscription_id: str


class Meta(Struct, frozen=True):
    """The number after which the events of what was commanded stand."""

    applied_through_seq: int = 0


class Success(Struct, frozen=True, kw_only=True, tag="success"):
    id: int
    result: RunResult | Nothing | SubscribeResult
    meta: Meta = Meta()


class Failure(Struct, frozen=True, kw_only=True, tag="error"):
    """`id` is what the command had for one, or null."""

    id: Any = None
    error: Code
    message: str


Answer = Success | Failure


def malformed(id: Any) -> Failure:
    return Failure(
        id=id, error="invalid_argument", message="Protocol commands must include an integer id and string method."
    )


class Refused(Exception):
    """A command cannot be obeyed."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message


decode_command = msgspec.json.Decoder(Command)
decode_listening = msgspec.json.Decoder(Listening)

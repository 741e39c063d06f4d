"""What a run was asked for, as its record shows it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from proxy.events import NULL
from proxy.model import OnDisconnect, Run
from proxy.wire.asked import Config

encode = msgspec.json.Encoder().encode


class Kwargs(Struct, frozen=True, kw_only=True):
    """What the caller asked for: LangGraph's words, and ours as in `Choices`.

    What stands in the run's input is null where content is not kept.
    """

    input: Raw
    command: Raw
    config: Config | None
    stream_mode: tuple[str, ...]
    interrupt_before: tuple[str, ...] | None
    interrupt_after: tuple[str, ...] | None
    webhook: str | None
    """The webhook that is still to be called at the end."""
    feedback_keys: None = None
    temporary: bool
    subgraphs: bool
    resumable: bool
    checkpoint_during: bool | None
    durability: str | None
    on_disconnect: OnDisconnect
    keepalive: float | None
    show: dict[str, str]
    max_steps: int | None
    model: str | None
    context: dict[str, Any]
    headers: dict[str, str]
    user: str | None
    store: bool


class Steps(Struct, frozen=True, kw_only=True):
    """As much of `Native` as is shown."""

    command: Raw = NULL
    interrupt_before: tuple[str, ...] = ()
    interrupt_after: tuple[str, ...] = ()
    durability: str | None = None
    tags: tuple[str, ...] = ()
    configurable: dict[str, Any] = {}


class Given(Struct, frozen=True, kw_only=True):
    """As much of a run's `RunInput` as is shown."""

    input: Raw = NULL
    messages: tuple[Raw, ...] = ()
    max_steps: int | None = None
    native: Steps = Steps()


class Conversation(Struct, frozen=True):
    """What a run without an input of its own was given."""

    messages: tuple[Raw, ...]


_given = msgspec.json.Decoder(Given | None)


def kwargs(run: Run) -> Kwargs:
    choices, given = run.choices, _given.decode(run.input)
    steps = given.native if given else Steps()
    return Kwargs(
        input=shown(given) if given else NULL,
        command=steps.command,
        config=config(given) if given else None,
        stream_mode=choices.modes,
        interrupt_before=steps.interrupt_before or None,
        interrupt_after=steps.interrupt_after or None,
        webhook=run.webhook,
        temporary=run.temporary,
        subgraphs=choices.subgraphs,
        resumable=choices.resumable,
        checkpoint_during=None if steps.durability is None else steps.durability != "exit",
        durability=steps.durability,
        on_disconnect=choices.on_disconnect,
        keepalive=choices.keepalive,
        show=choices.show,
        max_steps=choices.max_steps,
        model=choices.model,
        context=choices.context,
        headers=choices.headers,
        user=choices.user,
        store=choices.store,
    )


def shown(given: Given) -> Raw:
    """The input, or the conversation in its place."""
    return Raw(encode(Conversation(given.messages))) if given.messages else given.input


def config(given: Given) -> Config:
    steps = given.native
    return Config(tags=steps.tags, recursion_limit=given.max_steps, configurable=steps.configurable or None)

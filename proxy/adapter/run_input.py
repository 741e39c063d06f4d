"""What an adapter is given to run: `RunInput`, and what it is made of."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from proxy.events import NULL
from proxy.messages import Message, Tool


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller said to a paused run.

    `calls` maps a client tool's call id to its output; `interrupts` maps an interrupt's id to JSON;
    `text` is a plain reply to whatever was asked.
    """

    calls: dict[str, str] = {}
    interrupts: dict[str, Raw] = {}
    text: str | None = None


class Goto(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node to go to, with an input of its own unless that is null."""

    node: str
    input: Raw = NULL


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run does to the state before it goes on; null is nothing.

    `resume` is one answer, or an object of answers by interrupt id.
    """

    resume: Raw = NULL
    update: Raw = NULL
    goto: tuple[Goto, ...] = ()


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A place in a thread's history. Without an id: the newest of its namespace; the root's namespace is empty."""

    checkpoint_id: str | UnsetType = UNSET
    thread_id: str = ""
    checkpoint_ns: str | UnsetType = UNSET
    checkpoint_map: dict[str, str] | UnsetType | None = UNSET
    """The checkpoints of the graphs around a sub-graph's, by namespace."""


class Native(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the native runs API adds to a run. The run's `input` is the agent's own, and null goes on from the state."""

    command: Command | None = None
    """In place of the input."""
    checkpoint: Checkpoint | None = None
    """Where to go on from; None for the thread's newest state."""
    interrupt_before: tuple[str, ...] = ()
    """Nodes to stop before; `*` is all."""
    interrupt_after: tuple[str, ...] = ()
    durability: Literal["async", "sync", "exit"] | None = None
    subgraphs: bool = False
    """Whether what sub-graphs do streams too."""
    tags: tuple[str, ...] = ()
    configurable: dict[str, Any] = {}
    """Keys that steer the framework or that the agent's options set are left out by the adapter."""
    metadata: dict[str, Any] = {}
    """Kept with each checkpoint and shown with each message."""


def thread_key(tenant: str, thread_id: str) -> str:
    """A thread's name across tenants; no thread id reaches into a tenant whose name has a colon."""
    return f"{tenant.replace('%', '%25').replace(':', '%3A')}:{thread_id}"


class RunInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that an agent gets to know of one run."""

    run_id: str
    thread_id: str
    agent: str
    tenant: str = "default"
    messages: tuple[Message, ...] = ()
    """The conversation, or with `history: last` only what follows the last assistant message."""
    tools: tuple[Tool, ...] = ()
    """Tools of the caller's that the agent may ask for (already filtered by the agent's `client_tools`)."""
    params: dict[str, Raw] = {}
    """Every other field of the request as JSON: temperature, max_tokens, response_format, tools, ..."""
    input: Raw = NULL
    """The agent's own input where a caller gave one, else null; `messages` is empty then."""
    modes: frozenset[str] = frozenset()
    """Native modes to emit `Frame`s for; empty for chat."""
    native: Native | None = None
    """Set on runs of the native runs API; such a run has no `messages` and no `answer`."""
    answer: Answer | None = None
    """Set on a run that resumes a paused one."""
    metadata: dict[str, str] = {}
    user: str | None = None
    headers: dict[str, str] = {}
    """Request headers that the config lists in `forward_headers`, names in lower case."""
    context: dict[str, Any] = {}
    """Values from the request; an adapter passes on only keys that its options list, on a native run those that the
    agent's schema has."""
    model: str | None = None
    """Overrides the agent's own model; for an agent that publishes many, the published id that was asked for."""
    max_steps: int | None = None
    fresh: bool = True
    """True: start from an empty state, `messages` is the whole history. False: go on from the thread's state."""
    broken_off: bool = False
    """The thread's last run was cut off or failed, so that a tool call may have no result."""
    temporary: bool = False
    """True: nobody comes back to this thread, so its state goes at the end, unless the run pauses."""
    first_byte: float | None = None
    """Seconds after which a streaming caller gets its headers; an error before that is a real HTTP status."""
    timeout: float = 600.0
    """Seconds the whole run may take."""
    attempt: int = 1
    """Above 1: the process that ran it before was lost. An agent that `resumes` goes on from what the run has left in
    its thread, and takes no input or command twice; any other begins anew."""

    @property
    def thread_key(self) -> str:
        """The key for state that an adapter keeps of the thread."""
        return thread_key(self.tenant, self.thread_id)

    @property
    def text(self) -> str:
        """The text of the last user message."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text
        return ""

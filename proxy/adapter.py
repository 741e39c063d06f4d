"""The port for agents: what an adapter is given, and what it must do.

An adapter turns one kind of agent into a stream of events. It knows nothing of wires, runs or stores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from proxy.events import Event
from proxy.messages import Message, Tool


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller said to a paused run.

    `calls` maps a client tool's call id to its output; `interrupts` maps an interrupt's id to JSON;
    `text` is a plain reply to whatever was asked.
    """

    calls: dict[str, str] = {}
    interrupts: dict[str, Raw] = {}
    text: str | None = None


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
    input: Raw | None = None
    """The agent's own input where a caller gave one; `messages` is empty then."""
    modes: frozenset[str] = frozenset()
    """Native modes to emit `Frame`s for; empty for chat."""
    answer: Answer | None = None
    """Set on a run that resumes a paused one."""
    metadata: dict[str, str] = {}
    user: str | None = None
    headers: dict[str, str] = {}
    """Request headers that the config lists in `forward_headers`, names in lower case."""
    context: dict[str, Any] = {}
    """Values from the request; an adapter passes on only keys that its options list."""
    model: str | None = None
    """Overrides the agent's own model; for an agent that publishes many, the published id that was asked for."""
    max_steps: int | None = None
    fresh: bool = True
    """True: start from an empty state, `messages` is the whole history. False: go on from the thread's state."""
    temporary: bool = False
    """True: nobody comes back to this thread, so its state goes at the end, unless the run pauses."""
    first_byte: float | None = None
    """Seconds after which a streaming caller gets its headers; an error before that is a real HTTP status."""
    timeout: float = 600.0
    """Seconds the whole run may take."""

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


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where an adapter lives: given to it when the server starts."""

    agent: str
    """The agent's name in the config."""
    folder: Path
    """The folder of the config file, which relative paths start from."""
    state: str
    """The `store` URL: an adapter that keeps state of its own puts it next to, never into, that database."""
    executor: Executor | None = None
    """For synchronous code: `runs.threads` threads, shared by all agents and by nothing else."""
    shared: dict[str, Any] = msgspec.field(default_factory=dict)
    """One for all adapters of a server: what agents of one kind use together, a connection say, under its name."""


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that an adapter publishes; `id` is the name that clients ask for, its prefix included."""

    id: str
    created: int = 0
    owned_by: str = ""


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For an adapter that takes no options."""


class Adapter(ABC):
    """One agent. Built once when the server starts; `stream` is called once a run, many at a time."""

    Options: ClassVar[type[msgspec.Struct]] = NoOptions
    """What stands under `options:` in the config; converted and checked before the adapter is built."""
    native: ClassVar[bool] = False
    """True for an adapter that emits `Frame`s."""
    overrides_model: ClassVar[bool] = False
    """True where `RunInput.model` is honoured."""
    takes_tools: ClassVar[str] = "ignore"
    """What becomes of the caller's tools where the config says nothing: `pass`, `offer` or `ignore`."""

    def __init__(self, options: Any, site: Site) -> None:
        self.options = options
        self.site = site

    async def open(self) -> None:
        """Import and connect. Raises `ConfigError`, naming the option and the cure."""

    async def close(self) -> None:
        """Let go of connections and files. Called once, after the last stream has ended."""

    @abstractmethod
    def stream(self, run: RunInput) -> AsyncGenerator[Event]:
        """Run the agent and yield its events, at most one final one and nothing after it.

        A stream without a final event counts as `Completed(finish_reason="stop")`. Cancellation arrives
        as `asyncio.CancelledError` at an `await`, an early end as `GeneratorExit` at a `yield`; both must
        let go of all that the run holds, upstream connections first. Failures of the agent's model are
        raised as `UpstreamError`s; any other exception is a bug of the agent, and its text stays in the log.
        """

    async def models(self) -> list[Model] | None:
        """The models this agent publishes under names of their own, or None: the agent is the model."""
        return None

    async def forget(self, thread_key: str) -> None:
        """Delete the state of a thread. Unknown threads are fine."""

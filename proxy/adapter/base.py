"""The port for agents: what an adapter is built with, and what it must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from proxy.adapter.blueprint import Blueprint
from proxy.adapter.run_input import RunInput
from proxy.adapter.threads import ThreadState
from proxy.events import Event


def _always() -> bool:
    return True


def _nobody() -> None:
    return None


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where an adapter lives: given to it when the server starts."""

    agent: str
    """The agent's name in the config."""
    folder: Path
    """The folder of the config file, which relative paths start from."""
    state: str
    """The `store` URL. An adapter that keeps state of its own puts it next to a file, and into tables of its own in a
    database of PostgreSQL."""
    executor: Executor | None = None
    """For synchronous code: `runs.threads` threads, shared by all agents and by nothing else."""
    shared: dict[str, Any] = msgspec.field(default_factory=dict)
    """One for all adapters of a server: what agents of one kind use together, a connection say, under its name."""
    migrate: bool = True
    """Whether the adapter brings its tables in a shared database up to date; if not, `runwire migrate` has."""
    holds: Callable[[], bool] = _always
    """Whether this process still has the right to write what its runs make. Asked before each write, from any thread;
    what is refused is not tried again, and to the run it is as if it were cancelled."""
    owner: Callable[[], str | None] = _nobody
    """The `server_id` of this process in the table `servers` of a shared database, None where there is no such table.
    Whoever takes its runs deletes that row in the same transaction, so a write that finds it gone comes too late."""


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
    resumes: ClassVar[bool] = False
    """True where a run that lost its process can go on from where that left off."""
    threads: ThreadState | None = None
    """Set where the agent keeps its threads' state itself."""
    blueprint: Blueprint | None = None
    """Set where the agent can say what it is made of."""

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

    async def check_forget(self) -> None:
        """Called before a thread or a run is deleted. Raises where `forget` could not do its part."""

    async def forget(self, thread_key: str) -> None:
        """Delete the state of a thread. Unknown threads are fine."""

"""Finds adapter classes by name, and builds the adapters that the config names.

Adapters register under the entry-point group `runwire.adapters`; ours do so like anybody else's. An adapter's
module is imported only when the config names it, and only by a process that runs the agent: others know its traits,
which are registered in the group `runwire.traits`. The store of memories is found in the same way, in the group
`runwire.memories`, and imported when the first request asks for it, or with an agent that brings it along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace

from proxy import loading
from proxy.adapter import Adapter, Site
from proxy.elsewhere import Elsewhere
from proxy.errors import ConfigError, Unavailable
from proxy.memories import Memories
from proxy.schema import did_you_mean, fit
from proxy.settings import Agent, Settings
from proxy.traits import Traits

GROUP = "runwire.adapters"
TRAITS = "runwire.traits"
MEMORIES = "runwire.memories"


def find(name: str, *, folder: Path = Path(), place: str = "adapter") -> type[Adapter]:
    """The adapter class of that name: an entry point's, or "module:Class" with modules looked for in `folder` too.

    Raises `ConfigError` that names `place` and says what to change.
    """
    found = loading.load(name, folder=folder, place=f"`{place}`") if ":" in name else _entry(name, place)
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise ConfigError(f"`{name}` is not an adapter, a class made from `proxy.adapter.Adapter` - at `{place}`")
    return found


def site(settings: Settings, **more: Any) -> Site:
    """Where the adapters of one process live; `more` are fields of it that the settings do not tell."""
    return Site(agent="", folder=Path(settings.folder), state=settings.store, migrate=settings.migrate, **more)


class Builder:
    """Makes the adapters of one process."""

    def __init__(self, settings: Settings, place: Site | None = None) -> None:
        self._settings = settings
        self._site = place or site(settings)

    def build(self, here: Container[str]) -> dict[str, Adapter]:
        """The adapters of all agents by the agents' names, not yet opened; of those that are not `here` only what
        stands for them. Raises `ConfigError`: one line a fault."""
        adapters: dict[str, Adapter] = {}
        faults: list[str] = []
        for name in self._settings.agents:
            try:
                adapters[name] = self.make(name) if name in here else self.stand_in(name)
            except ConfigError as error:
                faults.append(error.message)
        if faults:
            raise ConfigError("\n".join(faults))
        return adapters

    def make(self, name: str) -> Adapter:
        """One agent's adapter, not yet opened. Raises `ConfigError`."""
        agent, place = self._settings.agents[name], f"$.agents.{name}"
        kind = find(agent.adapter, folder=self._site.folder, place=f"{place}.adapter")
        adapter = kind(fit(agent.options, kind.Options, f"{place}.options"), self._at(name))
        if agent.execute == "worker":
            _check_traits(agent, adapter, place)
        return adapter

    def stand_in(self, name: str) -> Elsewhere:
        """What stands for an agent's adapter in a process that does not run it."""
        agent = self._settings.agents[name]
        return Elsewhere(agent.options, self._at(name), _traits(agent.adapter), partial(self.make, name))

    def _at(self, name: str) -> Site:
        return replace(self._site, agent=name)


def _traits(name: str) -> Traits:
    for entry in entry_points(group=TRAITS, name=name):
        traits = _imported(entry, "adapter")
        assert isinstance(traits, Traits)
        return traits
    return Traits()


def _check_traits(agent: Agent, adapter: Adapter, place: str) -> None:
    """Servers and workers have to agree on what an agent is. Raises `ConfigError`."""
    if wrong := Traits.of(adapter).differences(_traits(agent.adapter)):
        raise ConfigError(
            f"servers do not import `{agent.adapter}` with `execute: worker`, and would be wrong about its "
            f"{', '.join(f'`{name}`' for name in wrong)}: register its traits under the entry-point group "
            f"`{TRAITS}`, or say `execute: server` - at `{place}.adapter`"
        )


class LazyMemories:
    """The memories of a process, made when they are first asked for, where its adapters live."""

    def __init__(self, place: Site) -> None:
        self._site = place
        self._lock = asyncio.Lock()
        self._made: Memories | None = None

    async def __call__(self) -> Memories:
        """Raises `Unavailable` where nothing that is installed can keep memories."""
        async with self._lock:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
                self._made.join()
            return self._made

    async def close(self) -> None:
        if self._made is not None:
            await self._made.leave()

    def _make(self) -> Memories:
        for entry in entry_points(group=MEMORIES):
            try:
                made = cast(Any, _imported(entry, "store")).of(self._site)
            except ConfigError as error:
                raise Unavailable(error.message) from error
            assert isinstance(made, Memories)
            return made
        raise Unavailable("Nothing is installed that keeps memories.")


def _entry(name: str, place: str) -> object:
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in known:
        cure = did_you_mean(name, known) or f"; installed are {', '.join(f'`{each}`' for each in sorted(known))}"
        raise ConfigError(f"unknown adapter `{name}`{cure if known else _not_installed()} - at `{place}`")
    return _imported(known[name], place)


def _imported(entry: EntryPoint, place: str) -> object:
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        raise ConfigError(f"adapter `{entry.name}` needs the package `{error.name}` - at `{place}`") from error
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"adapter `{entry.name}` cannot be imported: {error} - at `{place}`") from error


def _not_installed() -> str:
    return "; none is installed, not even ours: run `pip install .` in the checkout"

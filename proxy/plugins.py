"""Finds adapter classes by name, and builds the adapters that the config names.

Adapters register under the entry-point group `runwire.adapters`; ours do so like anybody else's. An adapter's
module is imported only when the config names it.
"""

from __future__ import annotations

from concurrent.futures import Executor
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from proxy import loading
from proxy.adapter import Adapter, Site
from proxy.errors import ConfigError
from proxy.schema import did_you_mean, fit
from proxy.settings import Agent, Settings

GROUP = "runwire.adapters"


def find(name: str, *, folder: Path = Path(), place: str = "adapter") -> type[Adapter]:
    """The adapter class of that name: an entry point's, or "module:Class" with modules looked for in `folder` too.

    Raises `ConfigError` that names `place` and says what to change.
    """
    found = loading.load(name, folder=folder, place=f"`{place}`") if ":" in name else _entry(name, place)
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise ConfigError(f"`{name}` is not an adapter, a class made from `proxy.adapter.Adapter` - at `{place}`")
    return found


def build(settings: Settings, executor: Executor | None = None) -> dict[str, Adapter]:
    """All agents' adapters by the agents' names, not yet opened. Raises `ConfigError`: one line a fault."""
    adapters: dict[str, Adapter] = {}
    shared: dict[str, Any] = {}
    faults: list[str] = []
    for name, agent in settings.agents.items():
        try:
            adapters[name] = make(name, agent, settings, executor, shared)
        except ConfigError as error:
            faults.append(error.message)
    if faults:
        raise ConfigError("\n".join(faults))
    return adapters


def make(
    name: str,
    agent: Agent,
    settings: Settings,
    executor: Executor | None = None,
    shared: dict[str, Any] | None = None,
) -> Adapter:
    """One agent's adapter, not yet opened; `shared` is for all of a server. Raises `ConfigError`."""
    folder = Path(settings.folder)
    place = f"$.agents.{name}"
    adapter = find(agent.adapter, folder=folder, place=f"{place}.adapter")
    options = fit(agent.options, adapter.Options, f"{place}.options")
    site = Site(
        agent=name, folder=folder, state=settings.store, executor=executor, shared={} if shared is None else shared
    )
    return adapter(options, site)


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

"""Loads `config.yaml`: read, expand the environment, fit into `Settings`. All faults are told at once, with places.

The command line loads; everything else is given `Settings`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from proxy import document, environment
from proxy.document import Document
from proxy.errors import ConfigError
from proxy.schema import did_you_mean, fit
from proxy.settings import Agent, Key, Settings, contradictions

HERE = Path(__file__).parent
OFF = frozenset({"", "false", "no", "off", "0"})
PLACE = re.compile(r".* - at `(?P<place>.*)`", re.DOTALL)
FIELD = re.compile(r"unknown field `(?P<name>[^`]*)`")
SECTIONS = {field.encode_name: field.type for field in msgspec.structs.fields(Settings) if field.name != "folder"}


class Off(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that its `enabled` leaves out; `variables` are those that would turn it on."""

    name: str
    variables: tuple[str, ...] = ()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says. `shipped` is true for our own, served where there is none."""

    path: Path
    settings: Settings
    off: tuple[Off, ...] = ()
    shipped: bool = False


def load(path: Path | None = None) -> Settings:
    """The settings in a file. Without a path: `config.yaml` of the current folder, else the one we ship."""
    return read(path).settings


def read(path: Path | None = None, variables: Mapping[str, str] = os.environ) -> Config:
    """Like `load`, with what else is to know. Raises `ConfigError`: one line a fault, with its file, line and place.

    Relative paths start in the file's folder; those of the shipped file in the current one.
    """
    shipped = path is None and not Path("config.yaml").is_file()
    path = _shipped() if shipped else path or Path("config.yaml")
    loading = _Loading(document.parse(_text(path), path.name), variables)
    settings = loading.settings(Path.cwd() if shipped else path.resolve().parent)
    return Config(path=path.resolve(), settings=settings, off=tuple(loading.off), shipped=shipped)


def _shipped() -> Path:
    """In a wheel the file lies beside the demo, in a checkout at the top."""
    packaged = HERE / "demo" / "config.yaml"
    return packaged if packaged.is_file() else HERE.parent / "config.yaml"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}; `runwire init` writes one") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error


class _Loading:
    """One way from a document to settings; faults are gathered on it."""

    def __init__(self, source: Document, variables: Mapping[str, str]) -> None:
        self.source = source
        self.variables = variables
        self.off: list[Off] = []
        self.faults: list[str] = []

    def settings(self, folder: Path) -> Settings:
        sections = self._sections(self.source.value)
        agents = self._agents(sections.pop("agents", None))
        values = {name: self._fitted(value, SECTIONS[name], f"$.{name}") for name, value in sections.items()}
        if self.faults:
            raise ConfigError("\n".join(self.faults))
        settings = Settings(agents=agents, folder=str(folder), **values)
        for fault, place in contradictions(settings):
            self._fault(f"{fault} - at `{place}`")
        if self.faults:
            raise ConfigError("\n".join(self.faults))
        server = msgspec.structs.replace(settings.server, api_keys=_given(settings.server.api_keys))
        return msgspec.structs.replace(settings, server=server, store=_absolute(settings.store, folder))

    def _sections(self, root: object) -> dict[str, Any]:
        """What stands at the top; a section with nothing under it is as good as none."""
        if not isinstance(root, dict):
            raise ConfigError(f"{self.source.source}: expected a mapping with `agents:` at the top")
        for name in sorted(root.keys() - SECTIONS.keys()):
            self._fault(f"unknown field `{name}`{did_you_mean(name, SECTIONS)} - at `$`")
        return {name: value for name, value in root.items() if name in SECTIONS and value is not None}

    def _agents(self, entries: object) -> dict[str, Agent]:
        if not isinstance(entries, dict) or not entries:
            self._fault("there is no agent: name one or more under `agents:` - at `$`")
            return {}
        agents = {name: self._agent(name, entry) for name, entry in entries.items()}
        if len(self.off) == len(agents):
            self._fault("every agent is left out by its `enabled` - at `$.agents`")
        return {name: agent for name, agent in agents.items() if agent is not None}

    def _agent(self, name: str, entry: object) -> Agent | None:
        """None where it is left out, before the rest of it is looked at, or faulty."""
        place = f"$.agents.{name}"
        if isinstance(entry, dict) and "enabled" in entry:
            enabled = self._expanded(entry["enabled"], f"{place}.enabled")
            if enabled is None or str(enabled).strip().lower() in OFF:
                self.off.append(Off(name=name, variables=environment.names(str(entry["enabled"]))))
                return None
            entry = entry | {"enabled": True}
        agent = self._fitted(entry, Agent, place)
        return agent if isinstance(agent, Agent) else None

    def _fitted(self, value: object, shape: type[Any], place: str) -> Any:
        before = len(self.faults)
        value = self._expanded(value, place)
        if len(self.faults) > before:
            return None
        try:
            return fit(value, shape, place)
        except ConfigError as error:
            self._fault(error.message)
            return None

    def _expanded(self, value: object, place: str) -> object:
        match value:
            case str():
                try:
                    return environment.expand(value, self.variables)
                except ConfigError as error:
                    self._fault(f"{error.message} - at `{place}`")
                    return value
            case dict():
                return {name: self._expanded(inner, f"{place}.{name}") for name, inner in value.items()}
            case list():
                return [self._expanded(inner, f"{place}[{index}]") for index, inner in enumerate(value)]
            case _:
                return value

    def _fault(self, message: str) -> None:
        match = PLACE.fullmatch(message)
        place = match["place"] if match else "$"
        if (field := FIELD.match(message)) is not None:
            place += f".{field['name']}"
        while place not in self.source.lines and place != "$":
            place = place[: max(place.rfind("."), place.rfind("["), 1)]
        self.faults.append(f"{self.source.source}:{self.source.lines.get(place, 1)}: {message}")


def _given(keys: tuple[str | Key, ...]) -> tuple[str | Key, ...]:
    """Without the empty ones: `${API_KEY:-}` is how a file says that a key is optional."""
    return tuple(key for key in keys if key != "")


def _absolute(store: str, folder: Path) -> str:
    """A relative path of an SQLite file starts in the folder."""
    scheme, slashes, rest = store.partition(":///")
    if scheme != "sqlite" or not slashes or not rest or rest.startswith(("/", ":memory:")):
        return store
    return f"sqlite:///{folder / rest}"

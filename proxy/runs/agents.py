"""The agents that the config names, each an adapter with its settings, and finding one by a model's name."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterable, Iterator
from itertools import chain

import msgspec
import structlog

from proxy.adapter import Adapter, Model
from proxy.errors import ProxyError, UnknownAgent
from proxy.settings import Agent as AgentSettings

logger = structlog.get_logger(__name__)


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the config. `here` is false where other processes run it; its `adapter` only stands for it then."""

    name: str
    adapter: Adapter
    settings: AgentSettings
    here: bool = True

    @property
    def client_tools(self) -> str:
        """What becomes of the caller's tools: the config's word, else the adapter's."""
        return self.settings.client_tools or self.adapter.takes_tools


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A name that a client may ask for. `model` is set where the agent publishes many."""

    agent: Agent
    model: Model | None = None

    @property
    def id(self) -> str:
        return self.agent.name if self.model is None else self.model.id


class Agents:
    """All agents of the config."""

    def __init__(self, agents: Iterable[Agent]) -> None:
        self._agents = {agent.name: agent for agent in agents}

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._agents.values())

    @property
    def here(self) -> frozenset[str]:
        """The names of those that this process runs."""
        return frozenset(agent.name for agent in self if agent.here)

    def named(self, name: str) -> Agent | None:
        """The agent of that name in the config."""
        return self._agents.get(name)

    async def find(self, name: str) -> Published:
        """Who answers to a model's name. Raises `UnknownAgent`, or `UpstreamError` if a catalogue cannot be read."""
        agent = self._agents.get(name)
        if agent is not None and await agent.adapter.models() is None:
            return Published(agent=agent)
        broken: ProxyError | None = None
        for agent in self._agents.values():
            try:
                models = await agent.adapter.models() or []
            except ProxyError as error:
                broken = error
                continue
            for model in models:
                if model.id == name:
                    return Published(agent=agent, model=model)
        if broken is not None:
            raise broken
        close = difflib.get_close_matches(name[:200], self._agents, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise UnknownAgent(f"The model `{name[:100]}` does not exist.{hint}", param="model")

    async def published(self) -> list[Published]:
        """All names that clients may ask for; an agent whose catalogue cannot be read is left out and logged."""
        listed = await asyncio.gather(*(self._publish(agent) for agent in self._agents.values()))
        unique: dict[str, Published] = {}
        for entry in chain.from_iterable(listed):
            if entry.id not in unique or entry.model is None:
                unique[entry.id] = entry
        return list(unique.values())

    async def _publish(self, agent: Agent) -> list[Published]:
        try:
            models = await agent.adapter.models()
        except ProxyError as error:
            logger.warning("models of an agent cannot be listed", agent=agent.name, error=error.code)
            return []
        if models is None:
            return [Published(agent=agent)]
        return [Published(agent=agent, model=model) for model in models]

    async def close(self) -> None:
        """Close all adapters, each although another one fails."""
        results = await asyncio.gather(*(agent.adapter.close() for agent in self), return_exceptions=True)
        for agent, result in zip(self, results, strict=True):
            if isinstance(result, BaseException):
                logger.warning("an adapter did not close", agent=agent.name, error=repr(result))

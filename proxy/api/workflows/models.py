"""The models that nodes of workflows may name, with what they can do and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from proxy.api.workflows.asked import query_of
from proxy.runs.agents import Agents, Published
from proxy.settings import Price
from proxy.wire.workflow_sessions import ModelCard, ModelCards, card

FREE = Price()


class Wanted(Struct, frozen=True, kw_only=True):
    """The query: only models of that provider, and with that capability."""

    provider: str | None = None
    capability: str | None = None

    def matches(self, model: ModelCard) -> bool:
        return self.provider in (None, model.provider) and self.capability in (None, *model.capabilities)


def routes(agents: Agents, prices: Mapping[str, Price]) -> list[HTTPRouteHandler]:
    """`prices` by the names that models report in their usage."""

    @get("/models")
    async def list_catalogue(request: Request[Any, Any, Any]) -> ModelCards:
        wanted = query_of(request, Wanted)
        listed = [described(published, prices) for published in await agents.published()]
        return ModelCards(models=tuple(model for model in listed if wanted.matches(model)))

    return [list_catalogue]


def described(published: Published, prices: Mapping[str, Price]) -> ModelCard:
    agent = published.agent
    price = prices.get(published.id, FREE)
    return card(published.id, agent.settings.description, price, tools=agent.client_tools != "ignore")

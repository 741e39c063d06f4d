"""`GET /v1/models` and `/v1/models/{id}`: the names that clients may ask for."""

from __future__ import annotations

import time

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from proxy.runs.agents import Agents, Published
from proxy.wire.models import Capabilities, ModelCard, ModelList

OWNER = "runwire"


def routes(agents: Agents) -> list[HTTPRouteHandler]:
    started = int(time.time())

    @get("/v1/models")
    async def list_models() -> ModelList:
        return ModelList(data=tuple(card(published, started) for published in await agents.published()))

    @get("/v1/models/{name:path}")
    async def retrieve_model(name: FromPath[str]) -> ModelCard:
        return card(await agents.find(name.removeprefix("/")), started)

    return [list_models, retrieve_model]


def card(published: Published, started: int) -> ModelCard:
    """The card of a model; one without a date of its own is as old as this server."""
    agent, model = published.agent, published.model
    settings = agent.settings
    return ModelCard(
        id=published.id,
        created=model.created if model and model.created else started,
        owned_by=model.owned_by if model and model.owned_by else OWNER,
        description=settings.description,
        agent=agent.name,
        adapter=settings.adapter,
        capabilities=Capabilities(
            streaming=settings.streaming,
            tools=agent.client_tools != "ignore",
            history=settings.history,
            model_override=agent.adapter.overrides_model,
        ),
    )

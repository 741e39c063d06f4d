"""Assistants in LangGraph's API: what there is to run, with which settings, in versions, and what it is made of."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import MediaType, Request, Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Meta, Raw

from proxy.api.native.bodies import body_of
from proxy.api.native.paging import paging
from proxy.api.openapi import BODY
from proxy.api.params import query, tenant_of
from proxy.runs.agents import Agent
from proxy.runs.assistants import AssistantQuery, Assistants, Revision
from proxy.settings import RequestLimits
from proxy.wire.assistants import (
    AssistantCount,
    AssistantCreate,
    AssistantLatest,
    AssistantPatch,
    AssistantRecord,
    AssistantSearch,
    AssistantVersions,
    assistant_record,
    plain_graph,
    plain_schemas,
)
from proxy.wire.thread import selected

_create = msgspec.json.Decoder(AssistantCreate)
_patch = msgspec.json.Decoder(AssistantPatch)
_count = msgspec.json.Decoder(AssistantCount)
_search = msgspec.json.Decoder(AssistantSearch)
_versions = msgspec.json.Decoder(AssistantVersions)
_latest = msgspec.json.Decoder(AssistantLatest)

Found = Response[list[AssistantRecord] | list[dict[str, Any]]]


class Leaving(msgspec.Struct, frozen=True):
    """The query of a delete."""

    delete_threads: bool = False


class View(msgspec.Struct, frozen=True):
    """The query of a drawing: whether it shows what is inside of sub-graphs, or how deep."""

    xray: bool | Annotated[int, Meta(ge=0, lt=1 << 31)] = False


class Scope(msgspec.Struct, frozen=True):
    """The query of the sub-graphs: whether it is about theirs too."""

    recurse: bool = False


def routes(assistants: Assistants, limits: RequestLimits) -> list[HTTPRouteHandler]:
    return [*lists(assistants, limits), *records(assistants, limits), *drawings(assistants)]


def lists(assistants: Assistants, limits: RequestLimits) -> list[HTTPRouteHandler]:
    """Those of all assistants."""

    @post("/assistants", status_code=200, opt={BODY: AssistantCreate})
    async def create_assistant(request: Request[Any, Any, Any]) -> AssistantRecord:
        asked = await body_of(request, _create, limits)
        made = await assistants.create(
            tenant_of(request),
            asked.graph_id,
            revision(asked),
            assistant_id=None if asked.assistant_id is None else str(asked.assistant_id),
            if_exists=asked.if_exists or "raise",
        )
        return assistant_record(made)

    @post("/assistants/search", status_code=200, opt={BODY: AssistantSearch})
    async def search_assistants(request: Request[Any, Any, Any]) -> Found:
        asked = await body_of(request, _search, limits)
        wanted = searched(tenant_of(request), asked)
        found = [assistant_record(assistant) for assistant in await assistants.search(wanted)]
        headers = paging(asked.offset, asked.limit, await assistants.count(wanted))
        if asked.select is None:
            return Response(found, headers=headers)
        return Response([selected(record, asked.select) for record in found], headers=headers)

    @post("/assistants/count", status_code=200, opt={BODY: AssistantCount})
    async def count_assistants(request: Request[Any, Any, Any]) -> int:
        asked = await body_of(request, _count, limits)
        return await assistants.count(counted(tenant_of(request), asked))

    return [create_assistant, search_assistants, count_assistants]


def records(assistants: Assistants, limits: RequestLimits) -> list[HTTPRouteHandler]:
    """Those of one assistant and its versions."""

    @get("/assistants/{name:str}")
    async def show_assistant(request: Request[Any, Any, Any], name: FromPath[str]) -> AssistantRecord:
        return assistant_record(await assistants.find(tenant_of(request), name))

    @patch("/assistants/{name:str}", opt={BODY: AssistantPatch})
    async def patch_assistant(request: Request[Any, Any, Any], name: FromPath[str]) -> AssistantRecord:
        asked = await body_of(request, _patch, limits)
        return assistant_record(await assistants.patch(tenant_of(request), name, revision(asked)))

    @delete("/assistants/{name:str}")
    async def delete_assistant(request: Request[Any, Any, Any], name: FromPath[str]) -> None:
        await assistants.delete(tenant_of(request), name, threads=query(request, Leaving).delete_threads)

    @post("/assistants/{name:str}/versions", status_code=200, opt={BODY: AssistantVersions})
    async def list_versions(request: Request[Any, Any, Any], name: FromPath[str]) -> list[AssistantRecord]:
        asked = await body_of(request, _versions, limits)
        wanted = AssistantQuery(
            tenant=tenant_of(request), metadata=asked.metadata or {}, limit=asked.limit, offset=asked.offset
        )
        return [assistant_record(version) for version in await assistants.versions(name, wanted)]

    @post("/assistants/{name:str}/latest", status_code=200, opt={BODY: AssistantLatest})
    async def set_latest(request: Request[Any, Any, Any], name: FromPath[str]) -> AssistantRecord:
        asked = await body_of(request, _latest, limits)
        return assistant_record(await assistants.set_latest(tenant_of(request), name, asked.version))

    return [show_assistant, patch_assistant, delete_assistant, list_versions, set_latest]


def drawings(assistants: Assistants) -> list[HTTPRouteHandler]:
    """Those of what an assistant's agent is made of."""

    async def maker(request: Request[Any, Any, Any], name: str) -> Agent:
        return assistants.agent_of(await assistants.find(tenant_of(request), name))

    @get("/assistants/{name:str}/graph")
    async def draw_graph(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[Any]:
        agent, view = await maker(request, name), query(request, View)
        blueprint = agent.adapter.blueprint
        if blueprint is None:
            return Response(plain_graph(agent.name))
        return written(await blueprint.drawing(xray=view.xray))

    @get("/assistants/{name:str}/schemas")
    async def show_schemas(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[Any]:
        agent = await maker(request, name)
        blueprint = agent.adapter.blueprint
        if blueprint is None:
            return Response(plain_schemas(agent.name, getattr(agent.adapter.options, "request_keys", ())))
        return written(await blueprint.schemas())

    async def inside(request: Request[Any, Any, Any], name: str, namespace: str | None = None) -> Response[bytes]:
        agent, scope = await maker(request, name), query(request, Scope)
        blueprint = agent.adapter.blueprint
        if blueprint is None:
            return written(Raw(b"{}"))
        return written(await blueprint.subgraphs(namespace, recurse=scope.recurse))

    @get("/assistants/{name:str}/subgraphs")
    async def show_subgraphs(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        return await inside(request, name)

    @get("/assistants/{name:str}/subgraphs/{namespace:str}")
    async def show_subgraph(
        request: Request[Any, Any, Any], name: FromPath[str], namespace: FromPath[str]
    ) -> Response[bytes]:
        return await inside(request, name, namespace)

    return [draw_graph, show_schemas, show_subgraphs, show_subgraph]


def revision(asked: AssistantCreate | AssistantPatch) -> Revision:
    """What a body says of an assistant's settings."""
    return Revision(
        agent=asked.graph_id,
        config=None if asked.config is None else msgspec.to_builtins(asked.config),
        context=asked.context,
        metadata=asked.metadata,
        name=asked.name,
        description=asked.description,
    )


def counted(tenant: str, asked: AssistantCount) -> AssistantQuery:
    return AssistantQuery(tenant=tenant, agent=asked.graph_id, name=asked.name, metadata=asked.metadata or {})


def searched(tenant: str, asked: AssistantSearch) -> AssistantQuery:
    sort_by = asked.sort_by or "created_at"
    return msgspec.structs.replace(
        counted(tenant, asked),
        sort_by="agent" if sort_by == "graph_id" else sort_by,
        descending=asked.sort_order != "asc",
        limit=asked.limit,
        offset=asked.offset,
    )


def written(json: Raw) -> Response[bytes]:
    """What is JSON already."""
    return Response(bytes(json), media_type=MediaType.JSON)

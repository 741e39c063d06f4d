"""What callers' tools give to the workflow runs that wait for it."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from proxy.api.openapi import BODY
from proxy.api.params import tenant_of
from proxy.api.workflows.asked import body_of, id_of
from proxy.settings import RequestLimits
from proxy.wire.workflow_body import Accepted, ToolResults
from proxy.workflows.engine import Engine, Results
from proxy.workflows.memory import Given

_results = msgspec.json.Decoder(ToolResults)


def routes(engine: Engine, limits: RequestLimits) -> list[HTTPRouteHandler]:
    @post("/runs/{run_id:str}/tool-results", status_code=200, opt={BODY: ToolResults})
    async def take_tool_results(request: Request[Any, Any, Any], run_id: FromPath[str]) -> Accepted:
        name = id_of(run_id, "run")
        body = await body_of(request, _results, limits)
        status = await engine.answer(tenant_of(request), name, results_of(body))
        return Accepted(accepted=len(body.results), status=status.value)

    return [take_tool_results]


def results_of(body: ToolResults) -> Results:
    return Results(
        node=body.node_id,
        step=body.step,
        request_id=str(body.request_id),
        results=tuple((each.tool_call.id, Given(each.output, each.error)) for each in body.results),
    )

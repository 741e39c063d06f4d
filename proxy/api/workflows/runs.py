"""Workflow runs: started, and cancelled. They go on by themselves; no connection matters to them."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Struct

from proxy.api.auth import Caller
from proxy.api.openapi import BODY
from proxy.api.params import tenant_of
from proxy.api.workflows.asked import body_of, id_of, query_of
from proxy.errors import BadRequest
from proxy.model import Idempotency
from proxy.settings import RequestLimits
from proxy.wire.workflow_body import Canceled, Created, RunCreate
from proxy.workflows.compile import Plan
from proxy.workflows.engine import Engine
from proxy.workflows.launch import Wanted
from proxy.workflows.models import Overrides
from proxy.workflows.plans import Plans

_create = msgspec.json.Decoder(RunCreate)
_sorted = msgspec.json.Encoder(order="sorted")

LONGEST_KEY = 255


class Asked(Struct, frozen=True):
    """The query of a new run: as the field of that name in its body."""

    stream: bool = False


def routes(engine: Engine, plans: Plans, limits: RequestLimits) -> list[HTTPRouteHandler]:
    @post("/runs", status_code=200, opt={BODY: RunCreate})
    async def create_run(request: Request[Any, Any, Any]) -> Created:
        asked = query_of(request, Asked)
        body = await body_of(request, _create, limits)
        stream = asked.stream if body.stream is None else body.stream
        caller: Caller = request.scope["state"]["caller"]
        plan = await plan_of(body, caller.tenant, plans)
        run = await engine.start(wanted(body, plan, caller, stream=stream))
        return Created(run_id=run.run_id, status=run.status.value, plan_hash=run.plan_hash)

    @post("/runs/{run_id:str}/cancel", status_code=200)
    async def cancel_run(request: Request[Any, Any, Any], run_id: FromPath[str]) -> Canceled:
        run = await engine.cancel(tenant_of(request), id_of(run_id, "run"))
        return Canceled(run_id=run.run_id, status=run.status.value)

    return [create_run, cancel_run]


async def plan_of(body: RunCreate, tenant: str, plans: Plans) -> Plan:
    """What is to be run. Raises `BadRequest`, `InvalidWorkflow`, and `NotFound` for an unknown hash."""
    if (body.spec is None) == (body.plan_hash is None):
        raise BadRequest("A run is started from either a `spec` or a `plan_hash`.", param="spec")
    if body.plan_hash is not None:
        return await plans.get(tenant, body.plan_hash)
    return plans.compile(body.spec, models=False)


def wanted(body: RunCreate, plan: Plan, caller: Caller, *, stream: bool) -> Wanted:
    return Wanted(
        plan=plan,
        tenant=caller.tenant,
        input=body.input or {},
        overrides=overrides_of(body),
        stream=stream,
        session_id=None if body.session_id is None else str(body.session_id),
        idempotency=idempotency_of(body, caller, stream=stream),
    )


def overrides_of(body: RunCreate) -> Overrides:
    given = body.model_overrides
    nodes = given.nodes if given is not None else None
    subnodes = given.fanout_subnodes if given is not None else None
    return Overrides(
        nodes=nodes or {},
        subnodes={(each.parent_id, each.subnode_id): each.model for each in subnodes or ()},
        model=body.model_override or "",
    )


def idempotency_of(body: RunCreate, caller: Caller, *, stream: bool) -> Idempotency | None:
    """The caller's name for this request, within its credentials. Raises `BadRequest`."""
    key = (body.options.idempotency_key or "").strip() if body.options is not None else ""
    if not key:
        return None
    if len(key) > LONGEST_KEY:
        reason = f"An idempotency key has at most {LONGEST_KEY} characters."
        raise BadRequest(reason, param="options.idempotency_key")
    asked = msgspec.structs.replace(body, options=None, stream=stream)
    fingerprint = hashlib.sha256(_sorted.encode(asked)).hexdigest()
    return Idempotency(key=f"{caller.name}:{key}", fingerprint=fingerprint)

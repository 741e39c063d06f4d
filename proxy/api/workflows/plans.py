"""Specs: compiled into plans that are kept, or looked at only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.api.errors import issues_of
from proxy.api.params import tenant_of
from proxy.api.workflows.asked import body_of, query_of
from proxy.settings import RequestLimits
from proxy.wire.workflow_body import Compiled, Linted, WorkflowIssue
from proxy.workflows.issues import InvalidWorkflow, Issue
from proxy.workflows.lint import lint
from proxy.workflows.plans import Plans

_anything = msgspec.json.Decoder()
_object = msgspec.json.Decoder(dict[str, Any])


class Asked(Struct, frozen=True):
    """The query of a lint: whether to compile as well."""

    compile: bool = True


def routes(plans: Plans, limits: RequestLimits) -> list[HTTPRouteHandler]:
    @post("/workflows/compile", status_code=200)
    async def compile_spec(request: Request[Any, Any, Any]) -> Compiled:
        plan = plans.compile(await body_of(request, _anything, limits))
        await plans.keep(tenant_of(request), plan)
        return Compiled(plan_json=Raw(plan.json), plan_hash=plan.hash)

    @post("/workflows/lint", status_code=200)
    async def lint_spec(request: Request[Any, Any, Any]) -> Linted:
        asked = query_of(request, Asked)
        document = await body_of(request, _object, limits)
        found = linted(plans, document) if asked.compile else Linted()
        kind = document.get("kind")
        return msgspec.structs.replace(
            found, kind=kind if isinstance(kind, str) else UNSET, lint_issues=listed(lint(document))
        )

    return [compile_spec, lint_spec]


def linted(plans: Plans, document: dict[str, Any]) -> Linted:
    """What compiling gives: a plan or its faults. Nothing is kept."""
    try:
        plan = plans.compile(document)
    except InvalidWorkflow as error:
        return Linted(compile_issues=listed(error.issues))
    return Linted(plan_json=Raw(plan.json), plan_hash=plan.hash)


def listed(issues: Sequence[Issue]) -> tuple[WorkflowIssue, ...] | UnsetType:
    """Left out where there are none."""
    return issues_of(issues) or UNSET

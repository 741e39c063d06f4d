"""What is told of a workflow run besides its events: all of it is a fold of its log."""

from __future__ import annotations

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Raw, Struct

from proxy.api.params import tenant_of
from proxy.api.workflows.asked import id_of, query_of
from proxy.api.workflows.folds import Folds
from proxy.errors import BadRequest, NotFound
from proxy.wire.workflow_body import PendingTools, Tasks, ToolDetail
from proxy.wire.workflow_fold import Extras
from proxy.wire.workflow_run import Snapshot, Steps, tool_detail
from proxy.workflows.costs import cents_in
from proxy.workflows.journal import Journal
from proxy.workflows.memory import OUTPUTS
from proxy.workflows.plans import Plans
from proxy.workflows.spec import Node

INCLUDED = frozenset({"steps", "tool_calls"})


class Shown(Struct, frozen=True):
    """The query of a snapshot: what it shows besides the usual, with commas."""

    include: str = ""

    @property
    def steps(self) -> bool:
        """Tool calls stand in steps. Raises `BadRequest`."""
        words = {word.strip() for word in self.include.split(",")} - {""}
        if unknown := sorted(words - INCLUDED):
            raise BadRequest(f"`include` takes steps and tool_calls, not `{unknown[0][:40]}`.", param="include")
        return bool(words)


def routes(journal: Journal, plans: Plans) -> list[HTTPRouteHandler]:
    folds = Folds(journal)

    @get("/runs/{run_id:str}")
    async def show_run(request: Request[Any, Any, Any], run_id: FromPath[str]) -> Snapshot:
        steps = query_of(request, Shown).steps
        async with folds.of(tenant_of(request), id_of(run_id, "run")) as (run, fold):
            plan = await plans.get(run.tenant, run.plan_hash)
            values = {name: Raw(body) for name, body in (await journal.outputs(run)).items()}
            extras = Extras(
                nodes=tuple((node.id, kind_of(node)) for node in plan.workflow.nodes),
                values=values,
                outputs=values.get(OUTPUTS, Raw(b"{}")),
                cents=cents_in(run.summary),
                steps=steps,
            )
            return fold.snapshot(extras)

    @get("/runs/{run_id:str}/pending-tools")
    async def list_pending_tools(request: Request[Any, Any, Any], run_id: FromPath[str]) -> PendingTools:
        async with folds.of(tenant_of(request), id_of(run_id, "run")) as (_, fold):
            return fold.pending()

    return [show_run, list_pending_tools, *details(journal, folds)]


def details(journal: Journal, folds: Folds) -> list[HTTPRouteHandler]:
    async def steps_of(request: Request[Any, Any, Any], run_id: str) -> Steps:
        async with folds.of(tenant_of(request), id_of(run_id, "run")) as (_, fold):
            return fold.steps()

    @get("/runs/{run_id:str}/steps")
    async def list_steps(request: Request[Any, Any, Any], run_id: FromPath[str]) -> Steps:
        return await steps_of(request, run_id)

    @get("/runs/{run_id:str}/steps/{step:str}/tool-calls/{tool_id:str}")
    async def show_tool_call(
        request: Request[Any, Any, Any], run_id: FromPath[str], step: FromPath[str], tool_id: FromPath[str]
    ) -> ToolDetail:
        if not (step.isascii() and step.isdigit() and len(step) < 10):
            raise BadRequest("The number of a step is a whole number from 0.", param="step")
        found = tool_detail((await steps_of(request, run_id)).steps, int(step), tool_id)
        if found is None:
            raise NotFound(f"There is no tool call `{tool_id[:64]}` in step {step}.", param="tool_id")
        return found

    @get("/runs/{run_id:str}/tasks")
    async def list_tasks(request: Request[Any, Any, Any], run_id: FromPath[str]) -> Tasks:
        await journal.run(tenant_of(request), id_of(run_id, "run"))
        return Tasks()

    return [list_steps, show_tool_call, list_tasks]


def kind_of(node: Node) -> str:
    """The type of a node, as specs name it."""
    return str(node.__struct_config__.tag)

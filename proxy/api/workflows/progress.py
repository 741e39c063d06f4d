"""What is told of a workflow run besides its events: all of it is a fold of its log."""

from __future__ import annotations

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Raw, Struct

from proxy.api.runs import tenant_of
from proxy.api.workflows.asked import id_of, query_of
from proxy.errors import BadRequest, NotFound
from proxy.wire.workflow_body import PendingTools, Tasks, ToolDetail
from proxy.wire.workflow_fold import Extras, RunFold
from proxy.wire.workflow_run import Snapshot, Steps, tool_detail
from proxy.workflow_model import WorkflowRun
from proxy.workflows.costs import cents_in
from proxy.workflows.journal import EventQuery, Journal
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
    async def folded(request: Request[Any, Any, Any], run_id: str) -> tuple[WorkflowRun, RunFold]:
        run = await journal.run(tenant_of(request), id_of(run_id, "run"))
        return await fold_of(journal, run)

    @get("/runs/{run_id:str}")
    async def show_run(request: Request[Any, Any, Any], run_id: FromPath[str]) -> Snapshot:
        steps = query_of(request, Shown).steps
        run, fold = await folded(request, run_id)
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
        _, fold = await folded(request, run_id)
        return fold.pending()

    return [show_run, list_pending_tools, *details(journal)]


def details(journal: Journal) -> list[HTTPRouteHandler]:
    async def steps_of(request: Request[Any, Any, Any], run_id: str) -> Steps:
        run = await journal.run(tenant_of(request), id_of(run_id, "run"))
        _, fold = await fold_of(journal, run)
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


async def fold_of(journal: Journal, run: WorkflowRun) -> tuple[WorkflowRun, RunFold]:
    """The log of a run as far as it has come, folded, and the record of that time or later."""
    fold = RunFold()
    async for batch in journal.follow(EventQuery(tenant=run.tenant, run_id=run.run_id, wait=False), idle=0):
        for event in batch:
            fold.feed(event.body)
    return await journal.run(run.tenant, run.run_id), fold


def kind_of(node: Node) -> str:
    """The type of a node, as specs name it."""
    return str(node.__struct_config__.tag)

"""The plans of this server: made of specs, kept, and found again by their hashes."""

from __future__ import annotations

import re
from collections.abc import Collection

from msgspec import Raw

from proxy.errors import BadRequest, NotFound
from proxy.store.workflow import WorkflowStore
from proxy.workflow_model import SavedPlan
from proxy.workflows.compile import Plan, compile_workflow, load
from proxy.workflows.spec import Bounds

HASH = re.compile(r"[0-9a-fA-F]{64}")


class Plans:
    """All plans of all tenants. `tools` are the names of the server's own tools."""

    def __init__(self, store: WorkflowStore, *, bounds: Bounds | None = None, tools: Collection[str] = ()) -> None:
        self._store = store
        self._bounds = bounds or Bounds()
        self._tools = frozenset(tools)

    def compile(self, document: object, *, models: bool = True) -> Plan:
        """The plan of a spec; without `models`, a node's model may still come from an override.

        Raises `InvalidWorkflow`.
        """
        return compile_workflow(document, bounds=self._bounds, tools=self._tools, models=models)

    async def keep(self, tenant: str, plan: Plan) -> None:
        """Keep a plan durably, so that runs can be started from its hash."""
        await self._store.put_plan(saved(tenant, plan))

    async def get(self, tenant: str, plan_hash: str) -> Plan:
        """Raises `BadRequest` for what is no hash, and `NotFound`."""
        if not HASH.fullmatch(plan_hash):
            raise BadRequest("`plan_hash` is 64 hexadecimal digits.", param="plan_hash")
        kept = await self._store.get_plan(tenant, plan_hash.lower())
        if kept is None:
            raise NotFound(f"There is no plan {plan_hash.lower()}; compile its workflow again.", param="plan_hash")
        return load(bytes(kept.body))


def saved(tenant: str, plan: Plan) -> SavedPlan:
    """A plan as the store keeps it."""
    return SavedPlan(tenant=tenant, plan_hash=plan.hash, body=Raw(plan.json))

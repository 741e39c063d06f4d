"""What the routes of the workflow dialect work with: made once, by the composition root."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from proxy.runs.agents import Agents
from proxy.settings import Price, RequestLimits, WorkflowDialect
from proxy.workflows.engine import Engine
from proxy.workflows.journal import Journal
from proxy.workflows.plans import Plans
from proxy.workflows.sessions import Sessions


class WorkflowRooms(Struct, frozen=True, kw_only=True):
    """The rooms behind the routes."""

    agents: Agents
    plans: Plans
    sessions: Sessions
    journal: Journal
    engine: Engine
    prices: Mapping[str, Price]
    settings: WorkflowDialect
    limits: RequestLimits

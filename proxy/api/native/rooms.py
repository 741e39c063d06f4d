"""What the routes of the native runs API work with: made once, by the composition root."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from proxy.model import Thread
from proxy.runs.agents import Agents
from proxy.runs.assistants import Assistants
from proxy.runs.manager import RunManager
from proxy.runs.states import States
from proxy.runs.webhooks import Webhooks
from proxy.settings import RequestLimits


class ThreadBook(Protocol):
    """The records of threads."""

    async def get_thread(self, tenant: str, thread_id: str) -> Thread | None: ...


class Rooms(Struct, frozen=True, kw_only=True):
    """The rooms behind the routes; both mounts share them."""

    manager: RunManager
    agents: Agents
    assistants: Assistants
    states: States
    threads: ThreadBook
    webhooks: Webhooks
    limits: RequestLimits

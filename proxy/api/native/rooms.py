"""What the routes of the native runs API work with: made once, by the composition root."""

from __future__ import annotations

from msgspec import Struct

from proxy.memories import Opening
from proxy.runs.agents import Agents
from proxy.runs.assistants import Assistants
from proxy.runs.manager import RunManager
from proxy.runs.states import States
from proxy.runs.threads import ThreadManager
from proxy.runs.webhooks import Webhooks
from proxy.settings import RequestLimits


class Rooms(Struct, frozen=True, kw_only=True):
    """The rooms behind the routes; both mounts share them."""

    manager: RunManager
    agents: Agents
    assistants: Assistants
    states: States
    threads: ThreadManager
    webhooks: Webhooks
    memories: Opening
    limits: RequestLimits

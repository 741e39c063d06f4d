"""The composition root: builds all rooms from the settings and puts them together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from litestar import Litestar, Router
from litestar.types import ControllerRouterHandler

from proxy import plugins
from proxy.api import completion, health, models, openapi
from proxy.api.asgi import App, Receive, Scope, Send
from proxy.api.auth import Auth
from proxy.api.chat import ChatCompletions
from proxy.api.errors import HANDLERS
from proxy.api.front import Deferred, Front
from proxy.api.gate import Gate
from proxy.api.native import routes as native
from proxy.api.native import sockets
from proxy.api.native.mounts import Mount, mounts
from proxy.api.native.rooms import Rooms
from proxy.api.native.scheduled import Schedule
from proxy.api.workflows.rooms import WorkflowRooms
from proxy.api.workflows.routes import mounted
from proxy.blocked import Watchdog
from proxy.events import NULL
from proxy.log import Scrubber, secrets
from proxy.model import Run
from proxy.runs.agents import Agent, Agents
from proxy.runs.assistants import Assistants
from proxy.runs.crons import Crons
from proxy.runs.deliveries import Deliveries
from proxy.runs.manager import RunManager
from proxy.runs.states import States
from proxy.runs.threads import ThreadManager
from proxy.runs.webhooks import Webhooks
from proxy.settings import Settings
from proxy.store import connect
from proxy.wire.conversation import Conversation
from proxy.wire.webhook import told
from proxy.workflows.board import Policy
from proxy.workflows.engine import Engine
from proxy.workflows.journal import Journal
from proxy.workflows.leftovers import Leftovers
from proxy.workflows.plans import Plans
from proxy.workflows.sessions import Sessions


class Application:
    """One server, as an ASGI application. Two of them may live in one process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._executor = ThreadPoolExecutor(settings.runs.threads, thread_name_prefix="agent")
        self.store = connect(settings.store, Path(settings.folder))
        shared: dict[str, Any] = {}
        adapters = plugins.build(settings, self._executor, shared)
        self._memories = plugins.LazyMemories(settings, shared)
        self.agents = Agents(
            Agent(name=name, adapter=adapter, settings=settings.agents[name]) for name, adapter in adapters.items()
        )
        self._webhooks = Webhooks(settings.webhooks, self._told)
        self._deliveries = Deliveries(self.store, self._webhooks)
        states = States(self.store, Conversation())
        scrub = Scrubber(tuple(secrets(settings))).text
        self.manager = RunManager(
            self.store, self.agents, settings.runs, states, on_end=self._deliveries.add, scrub=scrub
        )
        self._threads = ThreadManager(self.store, self.manager, states, most=settings.server.limits.threads)
        self.manager.sweeps.append(self._threads.sweep)
        self._rooms = Rooms(
            manager=self.manager,
            agents=self.agents,
            assistants=Assistants(self.store, self.agents, self._threads.delete),
            states=states,
            threads=self._threads,
            memories=self._memories,
            webhooks=self._webhooks,
            limits=settings.server.limits,
        )
        self._crons = Crons(self.store, Schedule(mounts(settings.dialects)[0], self._rooms).fire)
        self._workflows = self._workflow_rooms()
        self.manager.sweeps.append(Leftovers(self.store, settings.runs).sweep)
        chat = ChatCompletions(self.manager, settings.dialects.chat, settings.server.limits)
        front = Front({"/v1/chat/completions": chat}, self._families(), self._router(self._own()))
        self._app = Gate(front, settings, Auth(settings.server), draining=lambda: self.manager.draining)

    def _workflow_rooms(self) -> WorkflowRooms:
        settings = self._settings
        return WorkflowRooms(
            agents=self.agents,
            plans=Plans(self.store),
            sessions=Sessions(self.store, most=settings.server.limits.threads),
            journal=Journal(self.store),
            engine=Engine(
                self.store, self.manager, settings.runs.prices, Policy(runs=settings.dialects.workflows.concurrent)
            ),
            prices=settings.runs.prices,
            settings=settings.dialects.workflows,
            limits=settings.server.limits,
        )

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._live(receive, send) if scope["type"] == "lifespan" else self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """The server's life, here and not in the framework, which would wrap what kept it from starting."""
        await receive()
        async with self._open():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def drain(self) -> None:
        """Take no more work and let running streams end; returns when all have their end, or were given one."""
        await self.manager.drain(self._settings.server.drain)
        await self._workflows.engine.close()
        self._workflows.journal.close()

    async def _told(self, run: Run) -> bytes:
        """What the webhook of a run is told: its record, and what it left its thread with."""
        whole = await self.store.get(run.tenant, run.run_id) or run  # deliveries hold it without its input
        entries = await self.manager.read(run, after=0, limit=1)
        thread = await self.store.get_thread(run.tenant, run.thread_id)
        values = thread.outcome.values if thread is not None else None
        started = entries[0].at if entries else None
        return told(whole, started_at=started, sent_at=time.time(), values=NULL if values is None else values)

    def _families(self) -> list[tuple[str, App]]:
        """Dialects with a prefix of their own."""
        _, deerflow = mounts(self._settings.dialects)
        return [
            ("/api/v1/", Deferred(lambda: self._router([mounted(self._workflows)]))),
            ("/api/", Deferred(lambda: self._router([Router(deerflow.prefix, route_handlers=self._native(deerflow))]))),
        ]

    def _own(self) -> list[ControllerRouterHandler]:
        """What stands at the root."""
        root, _ = mounts(self._settings.dialects)
        handlers = [
            *models.routes(self.agents),
            *completion.routes(self.manager, self._settings),
            *health.routes(self.manager),
            *self._native(root),
        ]
        return [*handlers, *openapi.routes(lambda: [*handlers, mounted(self._workflows)])]

    def _router(self, handlers: list[ControllerRouterHandler]) -> App:
        router = Litestar(
            handlers,
            exception_handlers=HANDLERS,
            openapi_config=None,
            logging_config=None,
            request_max_body_size=None,
        )
        return cast(App, router)

    def _native(self, mount: Mount) -> list[ControllerRouterHandler]:
        """The runs API in one of its dialects."""
        return [*native.routes(mount, self._rooms, self._crons), *sockets.routes(mount, self._rooms)]

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(self._executor)
        await self.store.open()
        try:
            for agent in self.agents:
                await agent.adapter.open()
            await self.manager.open()
            await self._workflows.engine.open()
            await self._deliveries.open()
            await self._crons.open()
            with Watchdog():
                yield
        finally:
            await self._workflows.engine.close()
            await self._crons.close()
            await self.manager.close()
            await self._deliveries.close()
            await self.agents.close()
            await self._memories.close()
            await self.store.close()
            self._executor.shutdown(wait=False, cancel_futures=True)


def create(settings: Settings) -> Application:
    """Build a server. Raises `ConfigError`, naming the place and the cure."""
    return Application(settings)

"""The server: a process with all routes in front of it. The only module that knows every room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import cast

from litestar import Litestar, Router
from litestar.types import ControllerRouterHandler

from proxy.api import completion, health, models, openapi
from proxy.api.asgi import App, Receive, Scope, Send
from proxy.api.auth import Auth
from proxy.api.chat import ChatCompletions
from proxy.api.errors import HANDLERS
from proxy.api.front import Deferred, Front
from proxy.api.gate import Gate
from proxy.api.lifespan import lived
from proxy.api.native import routes as native
from proxy.api.native import sockets
from proxy.api.native.mounts import Mount, mounts
from proxy.api.native.rooms import Rooms
from proxy.api.native.scheduled import Schedule
from proxy.api.workflows.rooms import WorkflowRooms
from proxy.api.workflows.routes import mounted
from proxy.process import Process
from proxy.runs.assistants import Assistants
from proxy.runs.crons import Crons
from proxy.settings import Settings
from proxy.workflows.journal import Journal
from proxy.workflows.plans import Plans
from proxy.workflows.sessions import Sessions


class Application:
    """One server, as an ASGI application. Two of them may live in one process of the system's."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        here = [name for name, agent in settings.agents.items() if agent.execute == "server"]
        self._process = Process(settings, here)
        self.store, self.agents, self.manager = self._process.store, self._process.agents, self._process.manager
        self._rooms = self._native_rooms()
        self._workflows = self._workflow_rooms()
        self._crons = Crons(self.store, Schedule(mounts(settings.dialects)[0], self._rooms).fire)
        chat = ChatCompletions(self.manager, settings.dialects.chat, settings.server.limits, settings.runs.prices)
        front = Front({"/v1/chat/completions": chat}, self._families(), self._router(self._own()))
        self._app = Gate(front, settings, Auth(settings.server), draining=lambda: self.manager.draining)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return lived(self._open(), receive, send)
        return self._app(scope, receive, send)

    async def drain(self) -> None:
        """Take no more work and let running streams end; returns when all have their end, or were given one."""
        await self._process.drain()
        self._workflows.journal.close()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        async with self._process.open():
            await self._crons.open()
            try:
                yield
            finally:
                await self._crons.close()

    def _native_rooms(self) -> Rooms:
        process = self._process
        return Rooms(
            manager=self.manager,
            agents=self.agents,
            assistants=Assistants(self.store, self.agents, process.threads.delete),
            states=process.states,
            threads=process.threads,
            memories=process.memories,
            webhooks=process.webhooks,
            limits=self._settings.server.limits,
        )

    def _workflow_rooms(self) -> WorkflowRooms:
        settings = self._settings
        return WorkflowRooms(
            agents=self.agents,
            plans=Plans(self.store),
            sessions=Sessions(self.store, most=settings.server.limits.threads),
            journal=Journal(self.store),
            engine=self._process.engine,
            prices=settings.runs.prices,
            settings=settings.dialects.workflows,
            limits=settings.server.limits,
        )

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
            *health.probes(self._process.ready),
            health.welcome(),
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


def create(settings: Settings) -> Application:
    """Build a server. Raises `ConfigError`, naming the place and the cure."""
    return Application(settings)

"""A whole server on a real socket, on the test's own loop, with agents that the test steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec

from proxy import app
from proxy.server import Server, bind, url
from proxy.settings import Agent, Key, Settings
from proxy.settings import Server as ServerSettings
from proxy.testing import Script, ScriptedRun

SCRIPT = Agent(adapter="proxy.testing:Script", description="Says what the test says.")
KEYS = (Key(name="default", key="sk-a"), Key(name="b", key="sk-b"))
OTHER = {"authorization": "Bearer sk-b"}
PATIENCE = 10.0


class House(msgspec.Struct, frozen=True):
    """A running server, and a client that holds the first of its keys."""

    app: app.Application
    http: httpx2.AsyncClient

    def script(self, name: str = "script") -> Script:
        agent = self.app.agents.named(name)
        assert agent
        assert isinstance(agent.adapter, Script)
        return agent.adapter

    async def started(self, name: str = "script") -> ScriptedRun:
        """The next run of that agent."""
        return await asyncio.wait_for(self.script(name).started(), PATIENCE)

    def ask(self, path: str = "/v1/chat/completions", **fields: Any) -> asyncio.Task[httpx2.Response]:
        """Post a request, and go on at once."""
        if path == "/v1/chat/completions":
            fields = {"model": "script", "messages": [{"role": "user", "content": "Hi"}], **fields}
        headers = fields.pop("headers", {})
        return asyncio.create_task(self.http.post(path, json=fields, headers=headers))

    async def ended_run(self, *words: str, **fields: Any) -> str:
        """The id of a run that said this and ended."""
        asked = self.ask(**fields)
        run = await self.started()
        await run.say(*words)
        await run.end()
        return (await asked).headers["x-run-id"]


@asynccontextmanager
async def open_house(agents: dict[str, Agent] | None = None, **more: Any) -> AsyncIterator[House]:
    """`more` are settings."""
    usual: dict[str, Any] = {"store": "memory://", "server": ServerSettings(api_keys=KEYS, drain=0)}
    settings = Settings(agents=agents or {"script": SCRIPT}, **{**usual, **more})
    application = app.create(settings)
    bound, up = bind("127.0.0.1", 0), asyncio.Event()
    server = Server(application, settings, up.set)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        await asyncio.wait_for(up.wait(), PATIENCE)
        headers = {"authorization": "Bearer sk-a"}
        async with httpx2.AsyncClient(base_url=url(bound), headers=headers, timeout=PATIENCE) as http:
            yield House(application, http)
    finally:
        server.should_exit = True
        await serving


def visit(scene: Callable[[House], Awaitable[None]], agents: dict[str, Agent] | None = None, **more: Any) -> None:
    """Play a scene in a house of its own; `more` are settings."""

    async def play() -> None:
        async with open_house(agents, **more) as house:
            await scene(house)

    asyncio.run(asyncio.wait_for(play(), 3 * PATIENCE))

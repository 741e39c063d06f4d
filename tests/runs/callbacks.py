"""Webhooks whose waits pass at once, for tests that call them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any

from proxy.model import Run, RunStatus, new_id
from proxy.runs.webhooks import Resolve, Tools, Webhooks
from proxy.settings import Webhooks as Settings
from tests.fakes.receiver import Call

NOW = 1_795_237_824.9
SECRET = "whsec-1"
BODY = b'{"status":"success"}'


class Bench:
    """Webhooks whose waits pass at once, with what they did."""

    def __init__(
        self,
        *allow: str,
        attempts: int = 3,
        timeout: float = 20.0,
        tls: ssl.SSLContext | None = None,
        **names: list[str],
    ) -> None:
        self.waits: list[float] = []
        self.resolved: list[str] = []
        self.names = names
        """Addresses of `<name>.test`, one an attempt; the last stays."""
        self.settings = Settings(allow=allow, secret=SECRET, timeout=timeout, attempts=attempts)
        tools = Tools(resolve=self.resolve, clock=lambda: NOW, sleep=self.sleep, tls=tls)
        self.webhooks = Webhooks(self.settings, self.body, tools)

    async def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        addresses = self.names[host.removesuffix(".test")]
        return [addresses.pop(0) if len(addresses) > 1 else addresses[0]]

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def body(self, run: Run) -> bytes:
        return BODY

    async def deliver(self, url: str) -> bool:
        return await self.webhooks.deliver(told_of(url))


def told_of(url: str) -> Run:
    return Run(run_id=new_id(), thread_id=new_id(), agent="a", status=RunStatus.SUCCESS, webhook=url)


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 30))


def attempts_of(calls: list[Call]) -> list[str]:
    return [call.headers["x-runwire-attempt"] for call in calls]


def rewired(bench: Bench, resolve: Resolve) -> Webhooks:
    return Webhooks(bench.settings, bench.body, Tools(resolve=resolve, sleep=bench.sleep))

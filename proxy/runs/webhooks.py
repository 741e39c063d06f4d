"""Telling a URL of a caller's that its run has ended: signed, tried again, and never led astray.

The name in the URL is resolved once an attempt; the addresses are checked, and the connection goes to one of them and
nowhere else, so that neither a redirect nor a name that changes its mind leads into our own network. What a receiver
answers is not read beyond its status.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import cached_property
from ssl import SSLContext
from uuid import NAMESPACE_URL, uuid5

import structlog
from httpcore2 import (
    SOCKET_OPTION,
    URL,
    AnyIOBackend,
    AsyncHTTPConnection,
    AsyncNetworkStream,
    ConnectError,
    ConnectTimeout,
    NetworkError,
    ProtocolError,
    TimeoutException,
    default_ssl_context,
)
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from proxy.errors import ProxyError, Unavailable
from proxy.model import Run
from proxy.runs.addresses import AllowList, Target
from proxy.settings import Webhooks as Settings

Body = Callable[[Run], Awaitable[bytes]]
"""Makes what is told of a run, as JSON."""
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses behind a name and a port. Raises `OSError`."""

AT_ONCE = 20
"""Calls under way at a time."""
FIRST_WAIT, GROWTH, LONGEST_WAIT = 1.0, 3.0, 300.0
"""Seconds before the second attempt, what each further wait is longer by, and how long it gets."""
FAILURES = (NetworkError, ProtocolError, TimeoutException, OSError)

logger = structlog.get_logger(__name__)


async def resolved(host: str, port: int) -> list[str]:
    """By the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Tools:
    """What a test replaces: how names are resolved, what time it is, how a wait passes, whose certificates are good."""

    def __init__(
        self,
        *,
        resolve: Resolve = resolved,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        tls: SSLContext | None = None,
    ) -> None:
        self.resolve = resolve
        self.clock = clock
        self.sleep = sleep
        self._tls = tls

    @cached_property
    def tls(self) -> SSLContext:
        return self._tls or default_ssl_context()


class NotTaken(Exception):
    """A receiver did not take a call; says why, without the URL."""


class CheckedBackend(AnyIOBackend):
    """Connects to one target, and only at addresses that were checked for this very connection."""

    def __init__(self, target: Target, allowed: AllowList, resolve: Resolve) -> None:
        self._target = target
        self._allowed = allowed
        self._resolve = resolve

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        target = self._target
        found = [target.host] if target.is_address else await self._resolve(target.host, target.port)
        addresses = self._allowed.checked(target, found)
        patience = None if timeout is None else timeout / max(len(addresses), 1)
        failure: Exception = ConnectError("The name has no address.")
        for address in addresses:
            try:
                return await super().connect_tcp(address, target.port, patience, local_address, socket_options)
            except (ConnectError, ConnectTimeout) as error:
                failure = error
        raise failure


class Webhooks:
    """Calls to the URLs that runs came with. Raises `ConfigError` where the settings name no host."""

    def __init__(self, settings: Settings, body: Body, tools: Tools | None = None) -> None:
        self._settings = settings
        self._body = body
        self._tools = tools or Tools()
        self._allowed = AllowList(settings.allow, place="webhooks.allow")
        self._slots = asyncio.Semaphore(AT_ONCE)

    def check(self, url: str) -> None:
        """Raises `Unprocessable`, saying what is wrong with the URL or which setting forbids it."""
        self._allowed.target(url)

    async def deliver(self, run: Run) -> bool:
        """Call the run's URL until it answers 2xx, as often as the settings say. False if it never did.

        A call whose answer got lost is made again: receivers may see a run more than once."""
        attempts = AsyncRetrying(
            stop=stop_after_attempt(self._settings.attempts),
            wait=wait_exponential_jitter(FIRST_WAIT, LONGEST_WAIT, GROWTH),
            retry=retry_if_exception_type((NotTaken, Unavailable)),
            sleep=self._tools.sleep,
            reraise=True,
        )
        try:
            target = self._allowed.target(run.webhook or "")
            async for attempt in attempts:
                with attempt:
                    await self._attempt(run, target, attempt.retry_state.attempt_number)
        except (NotTaken, ProxyError) as error:
            logger.error("a webhook was given up", run_id=run.run_id, reason=str(error))
            return False
        return True

    async def _attempt(self, run: Run, target: Target, number: int) -> None:
        async with self._slots:
            body = await self._body(run)
            headers = {"Host": target.authority, **self._headers(run, number), **self._signature(body)}
            status: int | str
            try:
                async with asyncio.timeout(self._settings.timeout):
                    status = await self._answer(target, headers, body)
            except FAILURES as error:
                status = type(error).__name__
        told = isinstance(status, int) and 200 <= status < 300
        say = logger.info if told else logger.warning
        say("webhook called", run_id=run.run_id, host=target.authority, attempt=number, status=status)
        if not told:
            raise NotTaken(f"{target.authority}: {status}")

    async def _answer(self, target: Target, headers: dict[str, str], body: bytes) -> int:
        """The status of the answer; the rest of it is not read. A connection is used once."""
        url = URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        backend = CheckedBackend(target, self._allowed, self._tools.resolve)
        tls = self._tools.tls if target.scheme == "https" else None
        extensions = {"timeout": {"connect": self._settings.timeout}}
        async with (
            AsyncHTTPConnection(url.origin, ssl_context=tls, network_backend=backend) as connection,
            connection.stream(
                "POST", url, headers=list(headers.items()), content=body, extensions=extensions
            ) as response,
        ):
            return response.status

    def _headers(self, run: Run, number: int) -> dict[str, str]:
        return {
            "Connection": "close",
            "Content-Type": "application/json",
            "User-Agent": "runwire",
            "X-Run-Id": run.run_id,
            "X-Runwire-Delivery": str(uuid5(NAMESPACE_URL, f"{run.run_id} {run.webhook}")),
            "X-Runwire-Attempt": str(number),
        }

    def _signature(self, body: bytes) -> dict[str, str]:
        """Over the time as well, so that a receiver can refuse what somebody recorded and sends again later."""
        at = str(int(self._tools.clock()))
        if not self._settings.secret:
            return {"X-Runwire-Timestamp": at}
        digest = hmac.new(self._settings.secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
        return {"X-Runwire-Timestamp": at, "X-Runwire-Signature": f"sha256={digest}"}

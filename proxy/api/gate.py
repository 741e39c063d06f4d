"""The outermost door: everything that comes in passes here, and everything that goes out.

A request gets its id, its caller and its limits checked before any route sees it; all paths need a key but a
short list. An answer gets its id and what browsers need; an exception becomes an answer. Pure ASGI, since it
stands before every request: a streamed chunk costs one plain call here.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections import Counter
from collections.abc import Callable

import structlog

from proxy.api.asgi import App, Message, Receive, Scope, Send
from proxy.api.auth import Auth
from proxy.api.client import Header, Reply
from proxy.api.cors import Cors
from proxy.api.errors import InternalError
from proxy.api.exchange import WORKFLOWS, Exchange, Handshake, WatchedHeaders
from proxy.errors import (
    BadRequest,
    Draining,
    Forbidden,
    HeadersTooLarge,
    ProxyError,
    TooLarge,
    TooMany,
    Unsupported,
)
from proxy.settings import RequestLimits, Settings

SCHEMAS = frozenset(f"{WORKFLOWS}schemas/{name}.schema.json" for name in ("run_event", "workflow"))
PUBLIC = frozenset({"/", "/health", "/ready", "/ok", "/api/ok", "/openapi.json", "/docs"}) | SCHEMAS
QUIET = frozenset({"/health", "/ready", "/ok", "/api/ok"})
"""Probes come every few seconds and say nothing."""
MAX_HEADERS = 64 * 1024
_LEFT = 499
"""In the log: the client left before it had an answer."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@~-]{1,128}")
_LONGEST_LOGGED = 300


class Gate:
    """Wraps the application. Puts `caller` and `request_id` into `scope["state"]`.

    `draining` says whether new work is refused; `public` are more paths that need no key.
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        auth: Auth,
        *,
        draining: Callable[[], bool],
        public: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._auth = auth
        self._limits = settings.server.limits
        self._cors = Cors(settings.server.cors)
        self._draining = draining
        self._public = PUBLIC | public
        self._logger = structlog.get_logger(__name__).bind()
        self._prefix = f"req-{os.urandom(6).hex()}-"
        self._numbers = itertools.count(1)
        self._open: Counter[str] = Counter()
        """Requests that are not over, by tenant."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, send) if scope["type"] == "http" else Handshake(scope, send)
        try:
            watched = self._look(exchange, scope["headers"])
            reply = self._preflight(exchange, watched) if self._cors.on else None
            if scope["type"] != "http" and not self._cors.admits(watched.origin, watched.host):
                raise Forbidden("This origin may not open a web socket here; the server's `cors` names those that may.")
            if reply is not None:
                await exchange.reply(reply)
                return
            if exchange.path not in self._public:
                auth = self._auth
                caller = await auth.resolve(watched.headers) if auth.remote else auth.check(watched.headers)
                exchange.name(caller)
            self._admit(exchange, watched)
            self._count(exchange)
            if watched.chunked:
                receive = _counted(receive, self._limits)
            if exchange.method == "HEAD":
                scope = {**scope, "method": "GET"}  # the server below leaves the body out
            await self._app(scope, receive, exchange.send)
        except ProxyError as error:
            await exchange.fail(error)
        except Exception:
            self._logger.exception("a request failed", request_id=exchange.request_id)
            await exchange.fail(InternalError())
        finally:
            self._leave(exchange)
            self._log(exchange)

    def _look(self, exchange: Exchange, headers: list[Header]) -> WatchedHeaders:
        """Pick out what matters here, and give the request its id; refuses what is too large to look at."""
        watched = WatchedHeaders(headers)
        request_id = watched.request_id
        if request_id is None or _REQUEST_ID.fullmatch(request_id) is None:
            request_id = f"{self._prefix}{next(self._numbers)}".encode()
        exchange.identify(request_id)
        if self._cors.on:
            exchange.extra += self._cors.headers(watched.origin)
        if watched.size > MAX_HEADERS:
            raise HeadersTooLarge(f"The headers are larger than {MAX_HEADERS} bytes.")
        return watched

    def _preflight(self, exchange: Exchange, watched: WatchedHeaders) -> Reply | None:
        if exchange.method != "OPTIONS" or watched.origin is None or not watched.preflight:
            return None
        return self._cors.preflight(watched.origin, watched.wanted)

    def _admit(self, exchange: Exchange, watched: WatchedHeaders) -> None:
        """Raises what speaks against serving a caller that is known."""
        if exchange.tenant is not None and self._draining():
            raise Draining("The server is shutting down; try again.", retry_after=1)
        if watched.encoding not in (b"", b"identity"):
            raise Unsupported("Compressed requests are not read; send the body as it is.")
        if watched.length:
            _fits(watched.length, self._limits)

    def _count(self, exchange: Exchange) -> None:
        """Raises `TooMany` where a tenant has more requests open than it may."""
        tenant, most = exchange.tenant, self._limits.requests
        if tenant is None:
            return
        if most and self._open[tenant] >= most:
            raise TooMany(f"{most} requests are open already; end some, or try again.", retry_after=1)
        self._open[tenant] += 1
        exchange.counted = True

    def _leave(self, exchange: Exchange) -> None:
        if exchange.counted and exchange.tenant is not None:
            self._open[exchange.tenant] -= 1
            if not self._open[exchange.tenant]:
                del self._open[exchange.tenant]

    def _log(self, exchange: Exchange) -> None:
        write = self._logger.debug if exchange.path in QUIET else self._logger.info
        write(
            "request",
            method=exchange.method,
            path=exchange.path[:_LONGEST_LOGGED],
            status=exchange.status or _LEFT,
            ms=int((time.perf_counter() - exchange.began) * 100_000) / 100,
            request_id=exchange.request_id,
            tenant=exchange.tenant,
            run_id=exchange.run_id,
        )


def _counted(receive: Receive, limits: RequestLimits) -> Receive:
    """A chunked body tells its size only as it comes."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limits.body:
            raise _oversized(limits)
        return message

    return counted


def _fits(length: bytes, limits: RequestLimits) -> None:
    if not length.isdigit() or len(length) > 20:
        raise BadRequest("The header Content-Length is not a number.")
    if int(length) > limits.body:
        raise _oversized(limits)


def _oversized(limits: RequestLimits) -> TooLarge:
    return TooLarge(f"The body is larger than {limits.body} bytes.")

"""Which browsers may call: nobody from another origin unless the config says so. Credentials are never allowed."""

from __future__ import annotations

import re

from proxy.api.client import Header, Reply

_METHODS = b"GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
_EXPOSED = (
    b"x-run-id, x-request-id, x-thread-id, retry-after, location, content-location, "
    b"x-pagination-total, x-pagination-next, x-modelrelay-request-id, x-runwire-cost-cents"
)
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,2000}")
_VARY: Header = (b"vary", b"origin")


class Cors:
    """`origins` are exact, or the one word `*`."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self.on = bool(origins)
        self._any = "*" in origins
        self._origins = frozenset(origin.rstrip("/").lower().encode() for origin in origins)

    def admits(self, origin: bytes | None, host: bytes) -> bool:
        """Whether a web socket may be opened: browsers open them without asking, and only say for which page."""
        if origin is None or self._any or origin.lower() in self._origins:
            return True
        return origin.lower().partition(b"://")[2] == host.lower()

    def headers(self, origin: bytes | None) -> tuple[Header, ...]:
        """What an answer to a request from `origin` needs so that the page may read it."""
        if self._any:
            return ((b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED))
        if origin is None or origin.lower() not in self._origins:
            return (_VARY,)
        return ((b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED), _VARY)

    def preflight(self, origin: bytes, asked: bytes) -> Reply:
        """The answer to a browser that asks before it calls; `asked` are the header names it wants to send."""
        if not self._any and origin.lower() not in self._origins:
            return Reply(status=403, headers=(), body=b"")
        names = asked if _HEADER_NAMES.fullmatch(asked) else b""
        allowed = (
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", names),
            (b"access-control-max-age", b"600"),
        )
        return Reply(status=200, headers=allowed, body=b"")

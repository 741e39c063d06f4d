"""Who is calling: API keys from the config, and tokens that somebody else issued (`tokens.py`).

Keys are kept as SHA-256 digests only. A presented key is hashed once and its digest compared with every
configured one, so the time it takes says nothing about how near a guess was. What is wrong with a credential
is never said, and a credential is never repeated in an answer or a log line.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator

import msgspec

from proxy.api.tokens import Claims, Verifier
from proxy.errors import ConfigError, Unauthorized
from proxy.settings import Key, Server

DEFAULT = "default"
Header = tuple[bytes, bytes]

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_LONGEST = 16 * 1024
_LONGEST_USER = 256
KEY_HEADERS = frozenset({b"x-api-key", b"x-modelrelay-api-key"})
OFFERED = b"x-api-key."
"""How the offered protocol of a web socket begins that is a key: browsers can send no other header with one."""
_REFUSED = "The API key is missing or wrong. Send it as `Authorization: Bearer <key>` or as `x-api-key: <key>`."


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever sent a request. Runs and threads belong to the `tenant`; `user` is who stands behind it, if known."""

    tenant: str = DEFAULT
    name: str = DEFAULT
    user: str | None = None
    forward_user: bool = False


class Auth:
    """Tells callers apart as `server` says. Without keys and tokens configured, everyone is the default caller."""

    def __init__(self, server: Server) -> None:
        self._keys = tuple(_keys(server.api_keys))
        self._verifier = Verifier(server.jwt) if server.jwt else None
        self._user_headers = tuple(name.lower().encode("latin-1") for name in server.user_headers)
        self._anyone = None if self._keys or self._verifier else Caller(forward_user=True)
        self.remote = self._verifier is not None and self._verifier.remote
        """True: only `resolve` can tell, since tokens are checked with keys that must be fetched."""

    def check(self, headers: list[Header]) -> Caller:
        """The caller behind these headers (names in lower case), by key or by a token with a shared secret.

        Raises `Unauthorized`. Never waits; tokens that need fetched keys are for `resolve`.
        """
        if self._anyone is not None:
            return self._named(self._anyone, headers)
        credential = _credential(headers)
        if (caller := self._by_key(credential)) is not None:
            return self._named(caller, headers) if caller.forward_user else caller
        if self._verifier is not None and not self.remote:
            return _bearer(self._verifier.verify(credential))
        raise Unauthorized(_REFUSED)

    async def resolve(self, headers: list[Header]) -> Caller:
        """Like `check`, and for every kind of token; may wait for the issuer's keys.

        Raises `Unauthorized`, or `Unavailable` where the keys cannot be had.
        """
        if self._verifier is None or not self.remote:
            return self.check(headers)
        credential = _credential(headers)
        if (caller := self._by_key(credential)) is not None:
            return self._named(caller, headers) if caller.forward_user else caller
        return _bearer(await self._verifier.resolve(credential))

    def _by_key(self, credential: bytes) -> Caller | None:
        """Looks at every key, found or not: leaving early would tell their order."""
        digest = hashlib.sha256(credential).digest()
        found = None
        for known, caller in self._keys:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def _named(self, caller: Caller, headers: list[Header]) -> Caller:
        for wanted in self._user_headers:
            for name, value in headers:
                if name == wanted and (user := _user(value)):
                    return msgspec.structs.replace(caller, user=user)
        return caller


def _credential(headers: list[Header]) -> bytes:
    """The key or token that was sent; `Authorization` goes before the other headers if it is a bearer's."""
    credential = offered = b""
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            credential = value[7:].strip()
            break
        if name in KEY_HEADERS:
            credential = value.strip()
        elif name == b"sec-websocket-protocol":
            offered = offered or _offered(value)
    credential = credential or offered
    if not credential or len(credential) > _LONGEST:
        raise Unauthorized(_REFUSED)
    return credential


def _offered(protocols: bytes) -> bytes:
    """The key among the protocols that a web socket offers to speak."""
    named = (protocol.strip() for protocol in protocols.split(b","))
    return next((name[len(OFFERED) :] for name in named if name.startswith(OFFERED)), b"")


def _bearer(claims: Claims | None) -> Caller:
    if claims is None:
        raise Unauthorized(_REFUSED)
    return Caller(tenant=claims.tenant or DEFAULT, name="jwt", user=claims.user)


def _user(value: bytes) -> str | None:
    """A user's id out of a header; None if it is empty, too long, not UTF-8 or holds control characters."""
    try:
        user = value.decode().strip()
    except UnicodeDecodeError:
        return None
    return user if 0 < len(user) <= _LONGEST_USER and user.isprintable() else None


def _keys(entries: tuple[str | Key, ...]) -> Iterator[tuple[bytes, Caller]]:
    owners: dict[bytes, Caller] = {}
    for number, entry in enumerate(entries):
        place = f"$.server.api_keys[{number}]"
        key = Key(name=DEFAULT, key=entry) if isinstance(entry, str) else entry
        digest = _digest(key, place)
        caller = Caller(tenant=key.tenant or key.name or DEFAULT, name=key.name, forward_user=key.forward_user)
        if owners.setdefault(digest, caller) != caller:
            raise ConfigError(f"the same key stands twice with different rights; remove one - at `{place}`")
    yield from owners.items()


def _digest(key: Key, place: str) -> bytes:
    if bool(key.key) == bool(key.sha256):
        raise ConfigError(f"an API key needs either a value or a `sha256`; is its variable empty? - at `{place}`")
    hashed = key.sha256 or (key.key if key.key.startswith("sha256:") else "")
    if not hashed:
        return hashlib.sha256(key.key.encode()).digest()
    if (match := _DIGEST.fullmatch(hashed)) is None:
        raise ConfigError(f"a `sha256` is 64 hexadecimal digits, with or without `sha256:` - at `{place}`")
    return bytes.fromhex(match[1])

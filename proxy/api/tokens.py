"""Tokens that somebody else issued (JWTs): checked by a shared secret, or by the issuer's published keys.

Only `auth.py` calls this. Which algorithms count is pinned by the config, never taken from the token. The
issuer's keys are fetched off the event loop, by one thread, at most once per `_COOLDOWN` seconds however many
tokens name keys that do not exist.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import msgspec
import structlog

from proxy.errors import ConfigError, Unavailable
from proxy.settings import Jwt

_SHARED = ("HS256",)
_PUBLISHED = ("RS256", "ES256", "PS256", "EdDSA")
_FRESH = 300.0
_COOLDOWN = 30.0
_COOLDOWN_FAILED = 5.0
_FETCH_TIMEOUT = 5.0
_LONGEST_NAME = 256

logger = structlog.get_logger(__name__)


class Claims(msgspec.Struct, frozen=True):
    """What a valid token says; `tenant` is None where none is asked for."""

    tenant: str | None
    user: str | None


class Verifier:
    """Checks tokens as `settings` says. Raises `ConfigError` where that makes no sense."""

    def __init__(self, settings: Jwt) -> None:
        self._settings = settings
        self._algorithms = _algorithms(settings)
        self._options = _options(settings)
        self._published = Published(settings.jwks) if settings.jwks else None
        self.remote = self._published is not None

    def verify(self, token: bytes) -> Claims | None:
        """The claims of a token signed with the shared secret; None if it is not valid."""
        return self._claims(token, self._settings.secret)

    async def resolve(self, token: bytes) -> Claims | None:
        """The claims of any token; None if it is not valid. Raises `Unavailable` if the keys cannot be fetched."""
        if self._published is None:
            return self.verify(token)
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            return None
        if header.get("alg") not in self._algorithms or not isinstance(kid := header.get("kid"), str):
            return None
        key = await self._published.find(kid)
        return None if key is None else self._claims(token, key)

    def _claims(self, token: bytes, key: jwt.PyJWK | str) -> Claims | None:
        settings = self._settings
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                issuer=settings.issuer or None,
                audience=settings.audience or None,
                leeway=settings.leeway,
                options=self._options,
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            logger.debug("token refused", reason=type(error).__name__)
            return None
        tenant = _name(claims, settings.tenant_claim)
        if settings.tenant_claim and tenant is None:
            logger.debug("token refused", reason="no tenant")
            return None
        return Claims(tenant=tenant, user=_name(claims, settings.user_claim))


class Published:
    """The keys an issuer publishes at `url`, kept for `_FRESH` seconds and beyond while the issuer is away."""

    def __init__(self, url: str) -> None:
        try:
            self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=_FETCH_TIMEOUT)
        except jwt.PyJWTError as error:
            raise ConfigError("`jwks` must be an http or https URL - at `$.server.jwt.jwks`") from error
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jwks")
        self._lock = asyncio.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._stale = 0.0
        self._next_fetch = 0.0
        self._failed = False

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """The key of that id, or None if the issuer has none. Raises `Unavailable` where nobody can tell."""
        if self._wanting(kid):
            async with self._lock:
                if self._wanting(kid):
                    await self._fetch()
        key = self._keys.get(kid)
        if key is None and self._failed:
            raise Unavailable("Tokens cannot be checked at the moment; try again soon.", retry_after=_COOLDOWN_FAILED)
        return key

    def _wanting(self, kid: str) -> bool:
        now = time.monotonic()
        return (kid not in self._keys or now >= self._stale) and now >= self._next_fetch

    async def _fetch(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._thread, self._client.get_signing_keys)
        except (jwt.PyJWTError, ValueError, OSError) as error:
            logger.warning("the issuer's keys cannot be fetched", reason=type(error).__name__)
            self._failed = True
            self._next_fetch = time.monotonic() + _COOLDOWN_FAILED
            return
        now = time.monotonic()
        self._failed = False
        self._keys = {key.key_id: key for key in found if key.key_id}
        self._stale = now + _FRESH
        self._next_fetch = now + _COOLDOWN


def _algorithms(settings: Jwt) -> tuple[str, ...]:
    if bool(settings.secret) == bool(settings.jwks):
        raise ConfigError("set either `secret` or `jwks` - at `$.server.jwt`")
    algorithms = settings.algorithms or (_SHARED if settings.secret else _PUBLISHED)
    for algorithm in algorithms:
        if algorithm not in jwt.algorithms.get_default_algorithms() or algorithm.lower() == "none":
            raise ConfigError(f"there is no safe algorithm `{algorithm}` - at `$.server.jwt.algorithms`")
        # A published key used as a shared secret would let anyone sign: the classic confusion.
        if algorithm.startswith("HS") != bool(settings.secret):
            raise ConfigError(
                f"`{algorithm}` does not go with `{'secret' if settings.secret else 'jwks'}` - "
                "at `$.server.jwt.algorithms`"
            )
    return algorithms


def _options(settings: Jwt) -> Any:
    required = ["exp"]
    if settings.issuer:
        required.append("iss")
    if settings.audience:
        required.append("aud")
    return {"require": required}


def _name(claims: Mapping[str, Any], claim: str) -> str | None:
    value = claims.get(claim) if claim else None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or not value.isprintable():
        return None
    return value

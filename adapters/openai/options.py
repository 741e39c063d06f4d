"""What stands under `options:` of an agent with `adapter: openai`, and what follows from it once and for all."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from msgspec import Meta, Struct

from proxy.errors import ConfigError

Seconds = Annotated[float, Meta(gt=0)]

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
OURS = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding"})
CREDENTIALS = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"})


class UpstreamOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in seconds. `model` is the one model, `models` publishes many ("*": all that the upstream lists)."""

    base_url: str = "https://api.openai.com/v1"
    api_key: str = ""
    model: str = ""
    models: Literal["*"] | tuple[str, ...] = ()
    prefix: str = ""
    """Stands before the names of published models; may be empty."""
    headers: dict[str, str] = {}
    """Sent with every request; they may replace `authorization`."""
    forward_headers: tuple[str, ...] = ()
    """Headers of the caller's (of those in the dialect's `forward_headers`) that go on to the upstream."""
    organization: str = ""
    project: str = ""
    timeout_connect: Seconds = 10.0
    idle: Seconds = 120.0
    """Longest silence of the upstream, before its answer and within it."""

    @property
    def url(self) -> SplitResult:
        return urlsplit(self.base_url)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no caller may see: the key, all configured header values, the upstream's host. Shorter words than eight
        letters are no secrets, only words."""
        values = (self.api_key, self.organization, self.project, *self.headers.values())
        words = [word for value in values for word in value.split() if len(word) >= 8]
        return tuple(filter(None, (*words, self.url.hostname)))

    def sent_headers(self) -> dict[str, str]:
        """The headers of every request, names in lower case."""
        sent = {"user-agent": "runwire", "accept": "text/event-stream, application/json"}
        if self.api_key:
            sent["authorization"] = f"Bearer {self.api_key}"
        if self.organization:
            sent["openai-organization"] = self.organization
        if self.project:
            sent["openai-project"] = self.project
        sent.update({name.lower(): value for name, value in self.headers.items()})
        return sent

    def check(self, agent: str) -> None:
        """Raise `ConfigError` for what the types do not say; values are never shown."""
        place = f"agents.{agent}.options"
        _check_url(self.base_url, f"{place}.base_url")
        if not self.model and not self.models:
            raise ConfigError(f"{place}: set `model` to one model's name, or `models: \"*\"` to publish the upstream's")
        for name, value in self.sent_headers().items():
            if not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
                raise ConfigError(f"{place}: header `{name[:40]}` holds a line break or another forbidden character")
        for name in self.headers:
            if name.lower() in OURS:
                raise ConfigError(f"{place}.headers: `{name}` is set by the server; remove it")
        for name in self.forward_headers:
            if not TOKEN.fullmatch(name) or name.lower() in OURS | CREDENTIALS:
                raise ConfigError(f"{place}.forward_headers: `{name[:40]}` may not be forwarded; remove it")


def _check_url(url: str, place: str) -> None:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise ConfigError(f"{place}: not a URL; write it like https://api.openai.com/v1") from error
    if not known or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"{place}: must be an http or https URL, like https://api.openai.com/v1")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{place}: credentials do not belong into the URL; use `api_key` or `headers`")

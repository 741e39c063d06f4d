"""What an upstream's failure means to us. The only place where upstream statuses and error bodies become our errors.

A caller sees the upstream's words only where the request itself was refused, and only if they hold no
secret and no address. Everything else gets a fixed text.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import isnan
from typing import Any

import msgspec

from proxy.errors import (
    BadRequest,
    ProxyError,
    RateLimited,
    TooLarge,
    UnknownAgent,
    Unprocessable,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)

LONGEST_WAIT = 20.0
"""Seconds. Clients obey any `Retry-After`, so a longer one is neither waited for nor passed on."""
LONGEST_TEXT = 500

ADDRESS = re.compile(r"://|www\.|\b\d{1,3}(?:\.\d{1,3}){3}\b")
WORD = re.compile(r"[a-z0-9_.]{1,64}")


class ConnectionFailed(UpstreamError):
    """The model behind the agent cannot be reached."""


class ConnectTimeout(UpstreamTimeout):
    """The model behind the agent did not accept the connection in time."""


class Unheard(ConnectionFailed):
    """The connection to the model closed before it said anything."""


class Silent(UpstreamTimeout):
    """The model behind the agent went silent."""


class Rejected(UpstreamError):
    """The model behind the agent does not take such requests."""

    retryable = False


class Problem(msgspec.Struct, frozen=True):
    """An upstream's error object. Any field may be missing or of a foreign type."""

    message: Any = None
    type: Any = None
    code: Any = None
    param: Any = None


class Complaint(msgspec.Struct, frozen=True):
    """The body around an error object; some servers put the text at the top."""

    error: Problem | str | None = None
    message: Any = None
    detail: Any = None
    code: Any = None


STATUSES = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "overloaded_error": 503,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_error": 403,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "model_not_found": 404,
    "timeout": 504,
}


def problem_in(body: bytes) -> Problem:
    """The error object in a body, or an empty one."""
    try:
        complaint = msgspec.json.decode(body, type=Complaint)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Problem()
    if isinstance(complaint.error, Problem):
        return complaint.error
    return Problem(message=complaint.error or complaint.message or complaint.detail, code=complaint.code)


def status_of(problem: Problem) -> int:
    """The HTTP status that an error object inside a stream stands for."""
    for word in (problem.code, problem.type):
        status = int(word) if isinstance(word, str) and word.isdecimal() and len(word) == 3 else word
        if isinstance(status, int) and 400 <= status < 600:
            return status
        if isinstance(status, str) and status in STATUSES:
            return STATUSES[status]
    return 500


class Judge(msgspec.Struct, frozen=True):
    """Turns failures into errors for one agent. `publishes`: its callers choose the model by name."""

    secrets: tuple[str, ...] = ()
    publishes: bool = False

    def error(self, status: int, problem: Problem, headers: Mapping[str, str]) -> ProxyError:
        """The error to raise for an answer of this status."""
        wait = retry_after(headers)
        if status in (400, 413, 422) or (status == 404 and self.publishes):
            return self._refused_request(status, problem)
        if status in (401, 402, 403):
            return UpstreamRefused()
        if status == 407:
            return Rejected("The proxy between this server and the model asks for credentials.")
        if status == 429:
            return RateLimited(retry_after=wait)
        if status in (408, 504):
            return UpstreamTimeout(retry_after=wait)
        if 300 <= status < 400:
            return Rejected("The model behind the agent answered with a redirect, which is not followed.")
        if status >= 500 or status == 409:
            return UpstreamError(retry_after=wait)
        return Rejected()

    def _refused_request(self, status: int, problem: Problem) -> ProxyError:
        kind = {404: UnknownAgent, 413: TooLarge, 422: Unprocessable}.get(status, BadRequest)
        param = self.shown(problem.param)[:100] or None
        error = kind(self.shown(problem.message) or "The model refused this request.", param=param)
        if kind is BadRequest and isinstance(problem.code, str) and WORD.fullmatch(problem.code):
            error.code = problem.code
        return error

    def shown(self, text: object) -> str:
        """The upstream's text if a caller may see it, else nothing."""
        if not isinstance(text, str) or ADDRESS.search(text) or any(secret in text for secret in self.secrets):
            return ""
        return "".join(letter if letter.isprintable() else " " for letter in text[:LONGEST_TEXT]).strip()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How many seconds the upstream asks to wait, if it says so in a form we know."""
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        elif "retry-after" in headers:
            seconds = _seconds(headers["retry-after"])
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return None if isnan(seconds) else max(seconds, 0.0)


def _seconds(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return parsedate_to_datetime(value).timestamp() - time.time()

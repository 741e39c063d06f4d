"""Failures of a model's SDK inside a graph, in our words: the one place that knows foreign exceptions.

They are told by the names of their classes, so that no SDK is imported that the agent did not import itself.
"""

from __future__ import annotations

from json import JSONDecodeError
from types import TracebackType

from proxy.errors import RateLimited, StreamIncomplete, UpstreamError, UpstreamRefused, UpstreamTimeout

SDKS = frozenset({"openai", "anthropic", "groq"})
"""They are made by one generator and share these names."""
SDK_ERRORS: dict[str, type[UpstreamError]] = {
    "RateLimitError": RateLimited,
    "AuthenticationError": UpstreamRefused,
    "PermissionDeniedError": UpstreamRefused,
    "APITimeoutError": UpstreamTimeout,
    "APIConnectionError": UpstreamError,
    "APIStatusError": UpstreamError,
    "APIError": UpstreamError,
}
HTTP = frozenset({"httpx", "httpx2"})
HTTP_ERRORS: dict[str, type[UpstreamError]] = {
    "TimeoutException": UpstreamTimeout,
    "ReadError": StreamIncomplete,
    "RemoteProtocolError": StreamIncomplete,
    "TransportError": UpstreamError,
}
"""What an SDK lets through while it streams."""
LONGEST_WAIT = 20.0
"""Seconds of a `Retry-After` that are passed on."""


def upstream_error(error: BaseException) -> UpstreamError | None:
    """What the model's failure means, without a word of the foreign text; None if it is not the model's."""
    kind = _kind(error)
    if kind is None:
        return None
    status = getattr(error, "status_code", None)
    refused = isinstance(status, int) and 400 <= status < 500 and kind is UpstreamError
    fault = kind(
        "The model behind the agent refused the request." if refused else "",
        retry_after=_retry_after(error) if kind is RateLimited else None,
    )
    if refused and status not in (408, 409):
        fault.retryable = False
    return fault


def _kind(error: BaseException) -> type[UpstreamError] | None:
    sdk = _named(error, SDKS, SDK_ERRORS)
    if sdk is not None:
        cause = error.__cause__
        while sdk is UpstreamError and cause is not None:
            sdk = _named(cause, HTTP, HTTP_ERRORS) or sdk
            cause = cause.__cause__
        return sdk
    if not _came_through_sdk(error.__traceback__):
        return None
    return UpstreamError if isinstance(error, JSONDecodeError) else _named(error, HTTP, HTTP_ERRORS)


def _named(
    error: BaseException, packages: frozenset[str], kinds: dict[str, type[UpstreamError]]
) -> type[UpstreamError] | None:
    for base in type(error).__mro__:
        if base.__module__.partition(".")[0] in packages and base.__name__ in kinds:
            return kinds[base.__name__]
    return None


def _came_through_sdk(trace: TracebackType | None) -> bool:
    """Tools use HTTP and JSON too; their failures are the agent's own."""
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] in SDKS:
            return True
        trace = trace.tb_next
    return False


def _retry_after(error: BaseException) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, LONGEST_WAIT) if seconds >= 0 else None
